// The queues that the fleet works: what waits in each, what runs, what failed, and why nothing moves. Asked for every two
// seconds while they are shown: the program looks at queues only while somebody does.

import { el, setAttribute, setHidden, setText, byId } from "./dom.js";
import { andHeld, count, duration, percent, plural, rate, short, visible } from "./format.js";
import { store } from "./store.js";
import { failure } from "./stream.js";
import { headers } from "./token.js";
import { graphs } from "./graphs.js";
import * as page from "./queue.js";
import { ON_HOLD } from "./words.js";

const EVERY_MS = 2000;
// A request that takes longer than this is given up.
const PATIENCE_MS = 10_000;
// Depths older than this are shown with their age.
const FRESH_MS = 15_000;

const COLUMNS = [
  ["Queue", "queue"],
  ["Waiting", "n ready"],
  ["Running", "n busy"],
  ["Oldest", "n oldest"],
  ["In /s", "n in"],
  ["Done /s", "n rate"],
  ["Failing", "n failing"],
  ["Workers", "n workers"],
  ["Retrying", "n retrying"],
  ["Dead", "n dead"],
  ["Held, and why", "held"],
];

let open = false;
// The queue whose own page is shown.
let one = null;
let fleet = null;
let timer = 0;
let answer = null;
let error = null;
let over = false;
let order = [];
const rows = new Map();
let body = null;

export const isOpen = () => open;

export function build() {
  body = el("tbody");
  const head = el("tr", {}, ...COLUMNS.map(([name, kind]) => el("th", { scope: "col", class: kind, text: name })));
  byId("queue-table").append(el("thead", {}, head), body);
  body.addEventListener("pointerenter", (event) => (over = event.pointerType === "mouse"));
  body.addEventListener("pointerleave", () => (over = false));
  byId("queue-filter").addEventListener("input", () => {
    over = false;
    draw();
  });
  document.addEventListener("visibilitychange", ask);
  fleet = graphs();
  byId("queues-graphs").append(fleet.root);
  page.build(byId("queue"));
}

// Whether the address is one of the queues'.
export function route(path) {
  const was = open;
  const before = one;
  const name = /^\/queues\/(.+)$/.exec(path)?.[1];
  open = path === "/queues" || name !== undefined;
  one = name === undefined ? null : decoded(name);
  if (one === null) page.close();
  else if (one !== before) page.open(one);
  fleet.show(open && one === null ? "" : null);
  if (open && !was) {
    ask();
    if (one === null && !byId("queues").hidden) byId("queues-title").focus({ preventScroll: true });
  }
  if (!open) clearTimeout(timer);
  return open;
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    // An address typed by hand.
    return name;
  }
}

export function show(known, onWorker) {
  setHidden(byId("queues"), !known || !open || one !== null);
  setHidden(byId("queue"), !known || !open || one === null);
  setHidden(byId("views"), !known || onWorker);
  setAttribute(byId("view-workers"), "aria-current", open ? null : "page");
  setAttribute(byId("view-queues"), "aria-current", open ? "page" : null);
  if (open && known) {
    document.title = `${one === null ? "Queues" : visible(one)} · Tidegate`;
    draw();
  }
}

export function pressed(key) {
  if (key !== "/" || one !== null) return false;
  byId("queue-filter").focus();
  byId("queue-filter").select();
  return true;
}

export function back() {
  location.hash = one === null ? "#/" : "#/queues";
  return true;
}

async function ask() {
  clearTimeout(timer);
  if (!open || document.visibilityState === "hidden") return;
  try {
    const response = await fetch("api/v1/queues", { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.ok) {
      answer = await response.json();
      error = null;
    } else {
      error = (await failure(response)).message;
    }
  } catch {
    error = "The fleet program cannot be reached.";
  }
  if (!open) return;
  draw();
  clearTimeout(timer);
  timer = setTimeout(ask, EVERY_MS);
}

const messages = (depth) => depth?.messages ?? null;

// Nothing takes what waits, or nobody can tell.
const stuck = (queue) => Boolean(queue.problem) || (queue.workers === 0 && !queue.consumers);

function rank(queue) {
  if (stuck(queue)) return 0;
  if (queue.held.length) return 1;
  return messages(queue.dead) ? 2 : 3;
}

const byAttention = (a, b) => rank(a) - rank(b) || (messages(b.ready) ?? -1) - (messages(a.ready) ?? -1) || (a.queue < b.queue ? -1 : 1);

function chosen() {
  const words = byId("queue-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const all = answer.queues.filter((queue) => words.every((word) => `${queue.title ?? ""} ${queue.queue}`.toLowerCase().includes(word)));
  all.sort(byAttention);
  if (!over) {
    order = all.map((queue) => queue.queue);
    return all;
  }
  // Rows keep their places under the pointer; newcomers stand at the end.
  const named = new Map(all.map((queue) => [queue.queue, queue]));
  const kept = order.filter((name) => named.has(name));
  order = [...kept, ...all.map((queue) => queue.queue).filter((name) => !kept.includes(name))];
  return order.map((name) => named.get(name));
}

function draw() {
  if (!store.summary || !body) return;
  const problem = error ?? answer?.problem ?? null;
  setHidden(byId("queues-problem"), !problem);
  if (problem) setText(byId("queues-problem"), error ? `${error} What you see is old.` : `Depths are not known now: ${visible(problem)}.`);
  setHidden(byId("queue-table"), !answer?.queues.length);
  if (!answer) {
    setText(byId("queues-title"), error ? "The queues cannot be shown" : "Asking for the queues");
    return;
  }
  if (one !== null) return page.update(answer.queues.find((queue) => queue.queue === one));
  headline(answer.queues);
  const shown = chosen();
  const names = new Set(shown.map((queue) => queue.queue));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.element.remove();
    rows.delete(name);
  }
  let before = null;
  for (const queue of shown) {
    let row = rows.get(queue.queue);
    if (!row) rows.set(queue.queue, (row = make(queue)));
    const next = before ? before.nextSibling : body.firstChild;
    if (row.element !== next) body.insertBefore(row.element, next);
    before = row.element;
    patch(row, queue);
  }
  const all = answer.queues.length + (answer.left_out ?? 0);
  setText(byId("queues-tally"), shown.length === all ? plural(all, "queue") : `${count(shown.length)} of ${plural(all, "queue")}`);
}

const sum = (queues, of) => queues.reduce((total, queue) => total + (of(queue) ?? 0), 0);

function headline(queues) {
  const nobody = queues.filter(stuck);
  const waiting = sum(nobody, (queue) => messages(queue.ready));
  const all = queues.length;
  const title = !all
    ? "No worker has reported a queue yet."
    : !nobody.length
      ? `${all === 1 ? "The one queue is" : `All ${count(all)} queues are`} consumed.`
      : `${plural(nobody.length, "queue")} ${nobody.length === 1 ? "is" : "are"} not consumed${waiting ? `, and ${plural(waiting, "message")} wait${waiting === 1 ? "s" : ""} there` : ""}.`;
  setText(byId("queues-title"), title);
  setAttribute(byId("queues-title"), "data-alarm", nobody.length ? "lost" : null);
  const parts = [
    `${plural(sum(queues, (queue) => messages(queue.ready)), "message")} wait`,
    `${count(sum(queues, (queue) => queue.running))} run`,
    `${count(sum(queues, (queue) => messages(queue.retrying)))} wait for another run`,
    `${count(sum(queues, (queue) => messages(queue.dead)))} are dead`,
  ];
  setText(byId("queues-more"), all ? `In all, ${parts.slice(0, -1).join(", ")}, and ${parts.at(-1)}.` : "A queue appears here as soon as a worker consumes it.");
}

function make(queue) {
  const row = { name: el("a", { class: "name", href: `#/queues/${encodeURIComponent(queue.queue)}` }), beneath: el("small", { class: "beneath" }), cells: new Map() };
  const cells = COLUMNS.slice(1).map(([label, kind]) => {
    const cell = el("td", { class: kind, "data-label": label });
    row.cells.set(kind.split(" ").at(-1), cell);
    return cell;
  });
  row.element = el("tr", { "data-queue": queue.queue }, el("th", { scope: "row", class: "queue" }, row.name, row.beneath), ...cells);
  return row;
}

function patch(row, queue) {
  const put = (cell, text, alarm = false) => {
    const element = row.cells.get(cell);
    setText(element, text);
    setAttribute(element, "data-alarm", alarm);
    setAttribute(element, "data-none", text === "–" || text === "0");
  };
  setText(row.name, visible(queue.title ?? queue.queue));
  setText(row.beneath, [queue.title ? visible(queue.queue) : null, queue.type ? visible(queue.type) : null].filter(Boolean).join(" · "));
  put("ready", depth(queue.ready));
  put("busy", (queue.slots ? `${count(queue.running)} / ${count(queue.slots)}` : count(queue.running)) + andHeld(queue.on_hold));
  setAttribute(row.cells.get("busy"), "title", queue.on_hold ? ON_HOLD : null);
  put("oldest", queue.oldest_ms ? duration(queue.oldest_ms) : "–");
  put("in", rate(queue.in_per_second));
  put("rate", rate(queue.done_per_second));
  put("failing", queue.failing === null ? "–" : percent(queue.failing), queue.failing > 0.1);
  put("workers", count(queue.workers), queue.workers === 0 && !queue.consumers);
  put("retrying", depth(queue.retrying));
  put("dead", depth(queue.dead), messages(queue.dead) > 0);
  const reasons = queue.held.map(({ why, workers }) => visible(why) + (workers && queue.workers > 1 ? ` (${plural(workers, "worker")})` : ""));
  const problem = queue.problem ? [visible(queue.problem)] : [];
  put("held", [...problem, ...reasons].join("; "), stuck(queue));
  setAttribute(row.element, "data-stuck", stuck(queue));
}

function depth(of) {
  if (!of) return "–";
  const old = of.age_ms > FRESH_MS ? ` (${short(of.age_ms)} ago)` : "";
  return `${count(of.messages)}${old}`;
}
