// The keyboard, and the help that lists it.

import { el, icon, byId } from "./dom.js";
import { IN_ROW, MEANINGS } from "./words.js";

const KEYS = [
  [["/"], "filter by text"],
  [["j", "↓"], "next worker"],
  [["k", "↑"], "worker before"],
  [["Enter"], "the worker’s page"],
  [["x"], "open or close its nodes"],
  [["d"], "drain the worker"],
  [["p"], "pause or resume the worker"],
  [["1", "…", "7"], "show only a state, in the order of the row of states"],
  [["0"], "show all workers"],
  [["s"], "next order of sorting"],
  [["t"], "light, dark or the system’s theme"],
  [["Esc"], "back to the fleet; out of a field or dialog"],
  [["?"], "this help"],
];

export function build() {
  for (const [keys, words] of KEYS) {
    byId("keys").append(el("div", {}, el("dt", {}, ...keys.map((key) => (key === "…" ? " to " : el("kbd", { text: key })))), el("dd", { text: words })));
  }
  for (const state of IN_ROW) {
    byId("meanings").append(el("div", { class: state }, el("dt", {}, icon(state), state), el("dd", { text: MEANINGS[state] })));
  }
}

// Calls what `actions` has for a key. Keys with modifiers belong to the browser, and those in a field to the field.
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const field = event.target.closest("input, select, textarea");
    if (field && event.key !== "Escape") return;
    const control = event.target.closest("button, a, summary");
    if (control && (event.key === "Enter" || event.key === " ")) return;
    if (actions(event.key, field)) event.preventDefault();
  });
}
