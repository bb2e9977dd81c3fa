// The list of workers: only the rows in sight exist, so that thousands cost no more than a screenful.

import { el, icon, setAttribute, setHidden, setText, byId } from "./dom.js";
import { plural, count } from "./format.js";
import { ascending, choices, chosen, filtering, SORTS } from "./choices.js";
import { store } from "./store.js";
import { make, openHeight, patch, tick, workerLink } from "./row.js";

const COLUMNS = [
  ["", null],
  ["State", "attention"],
  ["Worker", "name"],
  ["Queues", null],
  ["Slots in use", "slots"],
  ["Rate /s", "rate"],
  ["Oldest", "oldest"],
  ["Lease left", "lease"],
  ["Commands", null],
];
const BEYOND = 6;
// Rows out of sight that are kept to be used again.
const SPARE = 60;
// Orders by value are taken anew this often; rows must not dance.
const RESORT_MS = 2000;
// While the pointer is over the rows their places hold, and this long after a touch or a key: nothing slips from
// under a finger.
const HOLD_MS = 5000;
const SETTLE_MS = 500;

const narrow = matchMedia("(max-width: 759px)");
const opened = new Set();
const rows = new Map();
const spare = [];
let shown = [];
let tops = new Float64Array(1);
let selected = null;
let holdUntil = 0;
let over = false;
// Pixels that keep the rows in their place where scrolling cannot: above the list, and below the page.
let above = 0;
let below = 0;
let sortedAt = 0;
let queued = 0;
// Whether places were held when the order was taken last.
let held = false;
let act = () => {};

const rowHeight = () => (narrow.matches ? 96 : 52);

export function build(command, sort) {
  act = (what, id, button) => (what === "open" ? toggle(id) : command(what, id, button));
  for (const [name, key] of COLUMNS) {
    const button = key && el("button", { type: "button", on: { click: () => sort(key) } }, el("span", { text: name }), icon("more"));
    const unseen = name === "" || name === "Commands";
    byId("columns").append(el("div", { class: `cell column-${key ?? (name.toLowerCase() || "opener")}`, role: "columnheader", "data-sort": key }, button ?? el("span", { class: unseen ? "unseen" : "", text: name || "Nodes" })));
  }
  for (const [key, name] of SORTS) byId("sort").append(el("option", { value: key, text: name }));
  const hold = () => (holdUntil = performance.now() + HOLD_MS);
  byId("rows").addEventListener("pointerover", (event) => {
    over = event.pointerType === "mouse";
    hold();
  }, { passive: true });
  byId("rows").addEventListener("pointerleave", () => {
    over = false;
    pad(0, 0);
    holdUntil = Math.min(holdUntil, performance.now() + SETTLE_MS);
  });
  byId("rows").addEventListener("pointerdown", hold, { passive: true });
  byId("rows").addEventListener("keydown", hold);
  byId("rows").addEventListener("focusin", (event) => {
    const row = event.target.closest(".item");
    if (row && row.dataset.id !== selected) select(row.dataset.id);
  });
  addEventListener("scroll", queue, { passive: true });
  addEventListener("resize", () => layout());
  narrow.addEventListener("change", () => layout());
}

function queue() {
  if (!queued) queued = requestAnimationFrame(render);
}

// Filter or order have been chosen anew.
export function rechoose() {
  holdUntil = 0;
  over = false;
  pad(0, 0);
  arrange();
}

// The store has changed.
export function update(changes) {
  if (changes.has("moved")) return arrange();
  const byValue = choices.sort !== "attention" && choices.sort !== "name";
  if (byValue && performance.now() - sortedAt > RESORT_MS) return arrange();
  queue();
}

const isHeld = () => over || performance.now() < holdUntil;

// Does `draw`. What grows or shrinks above the rows does not move them while the pointer is over them.
export function still(draw) {
  const rows = byId("rows");
  const before = over ? rows.getBoundingClientRect().top : null;
  draw();
  if (before === null) return;
  const moved = () => Math.round(rows.getBoundingClientRect().top - before);
  if (moved() > 0 && above) pad(Math.max(0, above - moved()), below);
  if (moved()) scrollBy(0, moved());
  if (moved() < 0) pad(above - moved(), below);
  if (moved() <= 0) return;
  // The page is too short to scroll that far.
  pad(above, below + moved());
  scrollBy(0, moved());
}

function pad(top, bottom) {
  if (top !== above) byId("list").style.paddingBlockStart = top ? `${top}px` : "";
  if (bottom !== below) document.documentElement.style.paddingBlockEnd = bottom ? `${bottom}px` : "";
  [above, below] = [top, bottom];
}

function arrange() {
  if (!isHeld()) for (const id of opened) if (!store.workers.has(id)) opened.delete(id);
  const next = chosen();
  if (isHeld()) {
    // Who is gone leaves an empty place, and newcomers stand at the end.
    const more = new Set(next.map((worker) => worker.id));
    for (const id of shown) more.delete(id);
    shown = [...shown, ...more];
    held = true;
  } else {
    held = false;
    shown = next.map((worker) => worker.id);
    sortedAt = performance.now();
  }
  layout();
}

function layout() {
  const height = rowHeight();
  tops = new Float64Array(shown.length + 1);
  for (const [index, id] of shown.entries()) {
    const worker = store.workers.get(id);
    const more = worker && opened.has(id) ? openHeight(worker, narrow.matches) : 0;
    tops[index + 1] = tops[index] + height + more;
  }
  byId("rows").style.blockSize = `${tops[shown.length]}px`;
  setAttribute(byId("list"), "aria-rowcount", shown.length + 1);
  headings();
  queue();
}

function headings() {
  for (const heading of byId("columns").children) {
    const key = heading.dataset.sort;
    if (key) setAttribute(heading, "aria-sort", key === choices.sort ? (ascending() ? "ascending" : "descending") : "none");
  }
  if (byId("sort").value !== choices.sort) byId("sort").value = choices.sort;
  const total = store.workers.size;
  const there = shown.filter((id) => store.workers.has(id)).length;
  setText(byId("tally"), filtering() ? `${count(there)} of ${count(total)}` : count(total));
  setHidden(byId("list"), shown.length === 0);
  const none = shown.length === 0;
  setHidden(byId("none"), !none);
  if (!none) return;
  setHidden(byId("none-clear"), total === 0);
  setHidden(byId("none-command"), total > 0);
  setText(byId("none-title"), total === 0 ? "Waiting for the first worker" : "No worker matches");
  setText(byId("none-text"), total === 0 ? "A worker appears here as soon as it has started on the broker and status exchange that the fleet program listens to:" : `${choices.text.trim() ? `Nothing contains “${choices.text.trim()}”` : "No worker"}${choices.states.size ? ` in state ${[...choices.states].join(" or ")}` : ""}; ${plural(total, "worker")} in all.`);
}

// The first row whose end lies below `y`.
function at(y) {
  let [low, high] = [0, shown.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle + 1] > y) high = middle;
    else low = middle + 1;
  }
  return low;
}

function render() {
  queued = 0;
  const container = byId("rows");
  if (!container.offsetParent) return;
  const top = -container.getBoundingClientRect().top;
  const first = Math.max(0, at(top) - BEYOND);
  const last = Math.min(shown.length - 1, at(top + innerHeight) + BEYOND);
  const wanted = new Set();
  for (let index = first; index <= last; index += 1) wanted.add(index);
  // The chosen row stays, wherever it is, and with it the focus.
  const chosenIndex = selected === null ? -1 : shown.indexOf(selected);
  if (chosenIndex >= 0) wanted.add(chosenIndex);
  const ids = new Set([...wanted].map((index) => shown[index]));
  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    row.element.remove();
    rows.delete(id);
    if (spare.length < SPARE) spare.push(row);
  }
  let before = null;
  for (const index of [...wanted].sort((a, b) => a - b)) before = place(container, index, before);
}

// A row for another worker: one that is out of sight, or a new one.
function renew(worker) {
  const row = spare.pop() ?? make(act);
  row.id = worker.id;
  row.element.dataset.id = worker.id;
  row.drawn = null;
  return row;
}

function place(container, index, before) {
  const id = shown[index];
  const worker = store.workers.get(id);
  if (!worker) return before;
  let row = rows.get(id);
  const open = opened.has(id);
  const isSelected = id === selected;
  if (!row) rows.set(id, (row = renew(worker)));
  // Screen readers follow the order in the document.
  const next = before ? before.nextSibling : container.firstChild;
  if (row.element !== next && !row.element.contains(document.activeElement)) container.insertBefore(row.element, next);
  if (row.drawn !== worker || row.open_ !== open || row.selected !== isSelected || row.commands !== store.summary?.commands) {
    patch(row, worker, { open, selected: isSelected });
    Object.assign(row, { drawn: worker, open_: open, selected: isSelected, commands: store.summary?.commands });
  }
  if (row.top !== tops[index]) row.element.style.transform = `translateY(${(row.top = tops[index])}px)`;
  const height = tops[index + 1] - tops[index];
  if (row.height !== height) row.element.style.blockSize = `${(row.height = height)}px`;
  setAttribute(row.element, "aria-rowindex", index + 2);
  return row.element;
}

// What changes by the clock, once a second.
export function clock() {
  if (held && !isHeld()) arrange();
  for (const row of rows.values()) {
    const worker = store.workers.get(row.id);
    if (worker) tick(row, worker);
  }
}

export function toggle(id) {
  if (!opened.delete(id)) opened.add(id);
  layout();
}

export const selectedId = () => (shown.includes(selected) ? selected : null);

function select(id) {
  selected = id;
  queue();
}

// Moves the choice by `by` rows, brings the row into sight and gives it the focus.
export function move(by) {
  if (!shown.length) return;
  const index = shown.indexOf(selected);
  const next = index < 0 ? at(-byId("rows").getBoundingClientRect().top) : Math.min(shown.length - 1, Math.max(0, index + by));
  focusRow(Math.min(next, shown.length - 1));
}

export function focusRow(index) {
  selected = shown[index];
  holdUntil = performance.now() + HOLD_MS;
  const container = byId("rows").getBoundingClientRect();
  const [top, bottom] = [container.top + tops[index], container.top + tops[index + 1]];
  const head = narrow.matches ? 8 : 48;
  if (top < head) scrollBy(0, top - head);
  else if (bottom > innerHeight - 8) scrollBy(0, bottom - innerHeight + 8);
  cancelAnimationFrame(queued);
  render();
  rows.get(selected)?.element.focus({ preventScroll: true });
}

// Makes a worker the chosen one.
export function choose(id) {
  selected = id;
  queue();
}

// Gives the chosen row the focus back, where nothing else has it.
export function focusSelected() {
  const index = shown.indexOf(selected);
  const active = document.activeElement;
  // What has just been hidden has the focus until the next frame.
  if (index < 0 || (active && active !== document.body && active.checkVisibility())) return;
  render();
  rows.get(selected)?.element.focus({ preventScroll: true });
}

export const last = () => shown.length - 1;

// Ids of the workers whose rows are drawn.
export const onScreen = () => [...rows.keys()];

export function openSelected() {
  if (selectedId()) location.hash = workerLink(selected);
}
