// One row of the list of workers: made once, then patched where it differs.

import { el, icon, setAttribute, setHidden, setIcon, setReason, setText } from "./dom.js";
import { andHeld, count, duration, percent, plural, rate, short, span, time, utc, visible } from "./format.js";
import { now, store } from "./store.js";
import { ON_HOLD, hindrance } from "./words.js";

// Nodes that an opened row shows; the worker's own page has them all.
const NODES = 40;
const ENDED = new Set(["stopped", "lost"]);

// Whether a node has a second line: the queue beneath its name, or what waits in it.
const hasMore = (node) => node.title !== null || node.note !== null;

export const workerLink = (id) => `#/workers/${encodeURIComponent(id)}`;

const NODE_COLUMNS = ["Queue", "Handler", "Slots", "Rate", "Oldest", "Done", "Retried", "Dead", "Handed back", "Interrupted"];

// Height of an opened row beyond a closed one's.
export function openHeight(worker, narrow) {
  const shown = worker.nodes.slice(0, NODES);
  const more = worker.nodes.length > NODES ? 28 : 0;
  const line = narrow ? 50 : 28;
  const lines = shown.reduce((sum, node) => sum + line + (hasMore(node) ? 18 : 0), 0);
  return (narrow ? 16 : 46) + lines + more;
}

export function make(act) {
  const cell = (name, ...children) => el("div", { class: `cell ${name}`, role: "gridcell" }, ...children);
  const row = { id: null };
  row.open = el("button", { type: "button", class: "open", on: { click: () => act("open", row.id) } }, icon("more"));
  row.icon = icon("running");
  row.word = el("span", { class: "word" });
  row.since = el("span", { class: "since" });
  row.link = el("a", { class: "name" });
  row.where = el("span", { class: "where" });
  row.queues = el("span", { class: "queues" });
  row.more = el("span", { class: "more" });
  row.meter = el("i");
  row.slots = el("span", { class: "of" });
  row.age = el("span", { class: "age" });
  row.rate = cell("rate");
  row.oldest = cell("oldest");
  row.lease = el("span");
  row.left = el("i");
  row.pause = el("button", { type: "button", class: "quiet act", on: { click: () => act(row.pause.dataset.command, row.id, row.pause) } }, icon("paused"));
  row.drain = el("button", { type: "button", class: "quiet act", on: { click: () => act("drain", row.id, row.drain) } }, icon("draining"));
  row.inside = cell("inside");
  row.inside.hidden = true;
  row.element = el(
    "div",
    { class: "row item", role: "row", tabindex: "-1" },
    cell("opener", row.open),
    cell("state-cell", row.icon, el("span", {}, row.word, row.since)),
    cell("worker", row.link, row.where),
    cell("nodes", row.queues, row.more),
    cell("slots", el("span", { class: "meter", "aria-hidden": "true" }, row.meter), row.slots, row.age),
    row.rate,
    row.oldest,
    cell("lease", row.lease, el("span", { class: "left", "aria-hidden": "true" }, row.left)),
    cell("acts", row.pause, row.drain),
    row.inside,
  );
  row.element.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button, a, .inside")) location.hash = workerLink(row.id);
  });
  return row;
}

export function patch(row, worker, { open, selected }) {
  row.element.className = `row item ${worker.state}${selected ? " selected" : ""}`;
  setAttribute(row.element, "tabindex", selected ? "0" : "-1");
  setAttribute(row.element, "aria-selected", selected ? "true" : "false");
  setAttribute(row.element, "aria-label", named(worker));
  setAttribute(row.open, "aria-expanded", open ? "true" : "false");
  setAttribute(row.open, "aria-label", `${open ? "Close" : "Open"} the nodes of ${worker.name}`);
  setIcon(row.icon, worker.state);
  setText(row.word, worker.state);
  setAttribute(row.link, "href", workerLink(worker.id));
  setText(row.link, worker.name);
  setAttribute(row.link, "title", worker.id);
  setText(row.where, where(worker));
  setText(row.queues, worker.nodes.map((node) => node.title ?? node.queue).join(", ") || "no nodes");
  setAttribute(row.queues, "title", worker.nodes.length ? row.queues.textContent : null);
  setText(row.more, worker.note ?? `${plural(worker.nodes.length, "node")}${andHeld(worker.held)}${worker.failing > 0 ? ` · ${percent(worker.failing)} failing` : ""}`);
  setAttribute(row.more, "data-alarm", worker.failing > 0.1);
  setAttribute(row.more, "title", worker.note ?? (worker.held ? ON_HOLD : null));
  const ended = ENDED.has(worker.state);
  setHidden(row.meter.parentElement, ended);
  row.meter.style.inlineSize = `${worker.slots && !ended ? Math.min(100, (100 * worker.inFlight) / worker.slots) : 0}%`;
  setText(row.slots, ended ? "–" : `${count(worker.inFlight)} / ${count(worker.slots)}`);
  setText(row.rate, ended ? "–" : rate(worker.rate));
  setAttribute(row.rate, "data-none", ended || worker.rate === null);
  // A narrow column: from a minute on, one unit is enough.
  setText(row.oldest, ended || !worker.oldest ? "–" : worker.oldest < 60_000 ? duration(worker.oldest) : short(worker.oldest));
  commands(row, worker);
  tick(row, worker);
  setHidden(row.inside, !open);
  if (open) row.inside.replaceChildren(...nodes(worker));
  else if (row.inside.firstChild) row.inside.replaceChildren();
}

// What a screen reader says of a row that has the focus.
function named(worker) {
  const busy = ENDED.has(worker.state) ? "" : `, ${count(worker.inFlight)} of ${count(worker.slots)} slots in use`;
  return `${worker.name}, ${worker.state}${busy}`;
}

function where({ host, name, pid }) {
  const parts = [host !== null && host !== name ? host : null, pid ? `pid ${pid}` : null];
  return parts.filter(Boolean).join(" · ") || (host ?? "not heard from yet");
}

function commands(row, worker) {
  const command = worker.state === "paused" ? "resume" : "pause";
  row.pause.dataset.command = command;
  setIcon(row.pause.firstChild, command === "pause" ? "paused" : "resume");
  const label = command === "pause" ? "Pause" : "Resume";
  setReason(row.pause, `${label} ${worker.name}`, hindrance(worker, command, store.summary));
  setReason(row.drain, `Drain ${worker.name}`, hindrance(worker, "drain", store.summary));
}

// What changes by the clock alone.
export function tick(row, worker) {
  setText(row.since, worker.sinceAt === null ? "" : short(now() - worker.sinceAt));
  setAttribute(row.since, "title", `since ${time(worker.sinceAt)} (${utc(worker.sinceAt)})`);
  const old = age(worker);
  setText(row.age, old);
  setAttribute(row.element, "data-old", old !== "");
  const { text, share, low } = lease(worker);
  setText(row.lease, text);
  setHidden(row.left.parentElement, text === "–");
  row.left.style.inlineSize = `${share * 100}%`;
  setAttribute(row.left.parentElement, "data-low", low);
}

// Figures older than this are shown with their age.
export const FRESH_MS = 10_000;

// How old the figures of a worker are, if they are not fresh.
export function age(worker) {
  if (ENDED.has(worker.state) || worker.figuresAt === null) return "";
  const ms = now() - worker.figuresAt;
  return ms > FRESH_MS ? `${short(ms)} ago` : "";
}

// The lease as the clock stands: what is left of it, and of a drain what is left to its deadline.
export function lease(worker) {
  if (worker.state === "draining" && worker.deadlineAt !== null) {
    const left = worker.deadlineAt - now();
    const whole = worker.sinceAt === null ? 1 : Math.max(1, worker.deadlineAt - worker.sinceAt);
    const text = left > 0 ? `${span(left)} to deadline` : "past its deadline";
    return { text, share: Math.min(1, Math.max(0, left / whole)), low: left < 5000 };
  }
  if (ENDED.has(worker.state) || worker.leaseEnd === null) return { text: "–", share: 0, low: false };
  const left = worker.leaseEnd - performance.now();
  if (left <= 0) return { text: "being asked", share: 0, low: true };
  const share = worker.leaseMs ? Math.min(1, left / worker.leaseMs) : 0;
  return { text: span(left), share, low: share < 0.15 };
}

function second(node) {
  if (!hasMore(node)) return null;
  const queue = node.title === null ? null : node.queue;
  return el("small", { class: "beneath" }, [node.note, queue].filter(Boolean).join(" · "));
}

const onHold = ({ held }) => (held ? el("span", { class: "on-hold", title: ON_HOLD, text: andHeld(held) }) : null);

export function nodeTable(worker, limit = Infinity) {
  const ended = ENDED.has(worker.state);
  const cells = (node) => {
    const { slots, in_flight: busy } = node;
    const kind = [node.handler, node.type].filter(Boolean).map(visible).join(", ");
    return [
      el("th", { scope: "row", class: "queue", title: [node.title, node.queue, node.note].filter(Boolean).join("\n") }, node.title ?? node.queue, second(node)),
      el("td", { class: "handler", text: kind }),
      ...[
        ["slots", worker.state === "stopped" ? "–" : `${count(busy)} / ${count(slots)}`],
        ["rate", ended ? "–" : rate(node.rate)],
        ["oldest", ended || !node.oldest_ms ? "–" : duration(node.oldest_ms)],
        ["done", count(node.done), "done"],
        ["retried", count(node.retried), "retried"],
        ["dead", count(node.dead), "dead"],
        ["handed", count(node.handed_back), "handed back"],
        ["interrupted", count(node.interrupted), "interrupted"],
      ].map(([name, text, label]) => el("td", { class: `n ${name}${text === "0" ? " zero" : ""}`, "data-label": label }, text, name === "slots" ? onHold(node) : null)),
    ];
  };
  const head = el("thead", {}, el("tr", {}, ...NODE_COLUMNS.map((name, index) => el("th", { scope: "col", class: index > 1 ? "n" : "", text: name }))));
  const body = el("tbody", {}, ...worker.nodes.slice(0, limit).map((node) => el("tr", { class: hasMore(node) ? "two" : "" }, ...cells(node))));
  return el("table", { class: "node-table", "aria-label": `Nodes of ${worker.name}` }, head, body);
}

function nodes(worker) {
  const rest = worker.nodes.length - NODES;
  const more = rest > 0 ? el("p", { class: "more" }, el("a", { href: workerLink(worker.id), text: `${plural(rest, "more node")} on the worker’s page` })) : null;
  return [nodeTable(worker, NODES), more].filter(Boolean);
}
