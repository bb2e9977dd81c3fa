// Tells the fleet program what this page shows, so that it asks those workers for figures. A page that nobody sees
// tells nothing, and after half a minute its workers fall back to their own pace.

import { store } from "./store.js";
import { headers } from "./token.js";
import * as list from "./list.js";
import * as page from "./page.js";

// What was told holds for 30 s.
const AGAIN_MS = 10_000;
// Rows that go past while somebody scrolls are not told one by one.
const PAUSE_MS = 400;
const LIMIT = 200;

let last = { text: "", at: 0 };
let timer = 0;

// What is shown may have changed.
export function look() {
  if (!timer) timer = setTimeout(tell, PAUSE_MS);
}

async function tell() {
  timer = 0;
  if (document.visibilityState === "hidden" || store.connection.phase !== "live") return;
  const id = page.currentId();
  const shown = id === null ? { all: true, workers: list.onScreen().slice(0, LIMIT) } : { all: false, workers: [id] };
  const text = JSON.stringify(shown);
  if (text === last.text && performance.now() - last.at < AGAIN_MS) return;
  last = { text, at: performance.now() };
  try {
    await fetch("api/v1/watch", { method: "POST", headers: { "content-type": "application/json", ...headers() }, body: text });
  } catch {
    // The stream of events shows that the program cannot be reached.
    last.text = "";
  }
}

export function start() {
  document.addEventListener("visibilitychange", look);
  setInterval(look, 1000);
}
