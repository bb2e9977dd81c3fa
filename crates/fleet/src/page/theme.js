// Runs before the first paint, so that a chosen theme does not flash the other one; and outside the page's modules,
// so that it can help where one of them does not arrive.
try {
  const theme = localStorage.getItem("tidegate.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's preference holds.
}

addEventListener(
  "error",
  ({ target }) => {
    if (!(target instanceof HTMLScriptElement)) return;
    document.getElementById("waiting-text").textContent = "A part of this page has not arrived. It is loaded again in 3 s.";
    setTimeout(() => location.reload(), 3000);
  },
  true,
);
