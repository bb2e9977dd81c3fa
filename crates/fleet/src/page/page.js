// A worker's own page: what it is, what it does now, how its drain went, and its history.

import { el, icon, setAttribute, setReason, setText } from "./dom.js";
import { andHeld, count, duration, parse, plural, rate, span, time, utc, visible } from "./format.js";
import { MEANINGS, ON_HOLD, OUTCOMES, hindrance } from "./words.js";
import { now, store, worker as workerOf } from "./store.js";
import { age, lease, nodeTable } from "./row.js";
import { bar } from "./timeline.js";
import { failure } from "./stream.js";
import { headers } from "./token.js";

const KINDS = { drain: "drain report", back: "heard again" };
// The history is asked for again after a change, not more often than this.
const PAUSE_MS = 1000;
// Message ids shown of a drain that interrupted something.
const IDS = 100;

const page = document.getElementById("worker");
let shown = null;
let timer = 0;

export function open(id, command) {
  shown = { id, command, history: null, error: null, raw: null, state: null };
  page.replaceChildren(el("p", { class: "back" }, back()), el("p", { class: "quiet-text", text: "Asking for the worker…" }));
  load();
}

export function close() {
  shown = null;
  clearTimeout(timer);
}

export const currentId = () => shown?.id ?? null;

const back = () => el("a", { href: "#/", id: "back" }, icon("back"), "The whole fleet");

async function load() {
  const wanted = shown;
  if (!wanted) return;
  try {
    const response = await fetch(`api/v1/workers/${encodeURIComponent(wanted.id)}`, { headers: headers(), cache: "no-store" });
    if (response.ok) {
      wanted.raw = await response.json();
      wanted.history = Array.isArray(wanted.raw.history) ? wanted.raw.history : [];
      wanted.error = null;
    } else {
      wanted.error = await failure(response);
    }
  } catch {
    wanted.error = { message: "The fleet program cannot be reached." };
  }
  if (shown === wanted) draw();
}

const current = () => store.workers.get(shown.id) ?? (shown.raw ? workerOf(shown.raw) : null);

export function update(changes) {
  if (!shown) return;
  if (changes.has("moved") || changes.has("drains")) {
    const state = store.workers.get(shown.id)?.state ?? null;
    if (state !== shown.state || shown.error) {
      shown.state = state;
      clearTimeout(timer);
      timer = setTimeout(load, shown.history === null ? 0 : PAUSE_MS);
    }
  }
  if (changes.has("workers") || changes.has("summary")) draw();
}

let parts = null;

// Built once for a worker, then patched: a rebuilt page would lose focus and selection each second.
function draw() {
  const worker = current();
  if (!worker) return missing();
  if (parts?.id !== worker.id || !page.contains(parts.root)) build(worker);
  const { head, facts } = parts;
  head.icon.firstChild.setAttribute("href", `#i-${worker.state}`);
  head.box.className = `worker-head ${worker.state}`;
  setText(head.state, worker.state);
  setText(head.meaning, MEANINGS[worker.state]);
  setText(head.reason, worker.reason ? `Reason: ${worker.reason}` : "");
  const command = worker.state === "paused" ? "resume" : "pause";
  head.pause.dataset.command = command;
  setText(head.pause.lastChild, command === "pause" ? "Pause" : "Resume");
  head.pause.firstChild.firstChild.setAttribute("href", `#i-${command === "pause" ? "paused" : "resume"}`);
  const [noPause, noDrain] = [hindrance(worker, command, store.summary), hindrance(worker, "drain", store.summary)];
  setReason(head.pause, command === "pause" ? "Pause" : "Resume", noPause);
  setReason(head.drain, "Drain", noDrain);
  setText(head.why, noDrain ? `No commands: ${noDrain}.` : "");
  const [stopped, lost] = [worker.state === "stopped", worker.state === "lost"];
  const slots = `${count(worker.inFlight)} of ${count(worker.slots)}${andHeld(worker.held)}`;
  setText(facts.slots, stopped ? "–" : lost ? `${slots} at its last beat` : slots);
  setAttribute(facts.slots, "title", worker.held && !stopped ? ON_HOLD : null);
  setText(facts.rate, stopped || lost || worker.rate === null ? "–" : `${rate(worker.rate)} per second`);
  setText(facts.oldest, stopped || !worker.oldest ? "–" : lost ? `${duration(worker.oldest)} at its last beat` : duration(worker.oldest));
  setText(head.had, lost ? hadRunning(worker) : (worker.note ?? ""));
  clock();
  if (parts.nodes.worker !== worker) {
    parts.nodes.worker = worker;
    parts.nodes.box.replaceChildren(worker.nodes.length ? nodeTable(worker) : el("p", { class: "quiet-text", text: "It has no nodes." }));
  }
  drainOf(worker);
  history();
}

// What the broker delivers again.
function hadRunning(worker) {
  const busy = worker.nodes.filter((node) => node.in_flight);
  const held = worker.held ? `It had ${plural(worker.held, "delivery", "deliveries")} on hold.` : "";
  if (!busy.length) return `It had nothing running at its last beat. ${held}`.trim();
  const shown = busy.slice(0, 5).map((node) => `${count(node.in_flight)} of ${node.title ?? node.queue}`);
  const rest = busy.length > 5 ? ` and of ${plural(busy.length - 5, "more queue")}` : "";
  return `It had ${plural(worker.inFlight, "delivery", "deliveries")} running at its last beat: ${shown.join(", ")}${rest}. ${held}`.trim();
}

function build(worker) {
  const button = (name, picture) => el("button", { type: "button", class: "command" }, icon(picture), el("span", { text: name }));
  const head = { had: el("p", { class: "reason" }), icon: icon(worker.state), state: el("strong", { class: "word" }), since: el("span", { class: "since" }), meaning: el("p", { class: "meaning" }), reason: el("p", { class: "reason" }), pause: button("Pause", "paused"), drain: button("Drain", "draining"), why: el("p", { class: "why" }) };
  head.pause.addEventListener("click", () => shown?.command(head.pause.dataset.command, shown.id));
  head.drain.addEventListener("click", () => shown?.command("drain", shown.id));
  head.box = el("header", {}, el("div", { class: "who" }, el("h1", { tabindex: "-1", text: worker.name }), el("code", { class: "id", text: visible(worker.id) })), el("div", { class: "now" }, el("p", { class: "state-line" }, head.icon, head.state, head.since), head.meaning, head.had, head.reason), el("div", { class: "buttons" }, head.pause, head.drain, head.why));
  const facts = {};
  const fact = (key, label, text = "") => el("div", {}, el("dt", { text: label }), (facts[key] = el("dd", { text })));
  const started = parse(worker.started_at);
  const list = el("dl", { class: "facts" }, fact("slots", "Slots in use"), fact("rate", "Rate"), fact("oldest", "Oldest delivery"), fact("figures", "Figures as of"), fact("lease", "Lease left"), fact("heard", "Last heard"), fact("host", "Host", worker.host === null ? "–" : `${worker.host}, pid ${worker.pid ?? "?"}`), fact("version", "Version", worker.version ?? "–"), fact("started", "Started", time(started)));
  facts.started.title = utc(started);
  const nodes = { box: el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Nodes" }), worker: null };
  const drain = { box: el("section", { class: "block", hidden: true }), at: null };
  const past = { box: el("ol", { class: "history" }), of: null };
  const root = el("div", {}, el("p", { class: "back" }, back()), head.box, list, drain.box, el("section", { class: "block" }, el("h2", { text: "Nodes" }), nodes.box), el("section", { class: "block" }, el("h2", { text: "History" }), past.box));
  parts = { id: worker.id, root, head, facts, nodes, drain, past };
  page.replaceChildren(root);
  head.box.querySelector("h1").focus({ preventScroll: true });
}

// What changes by the clock, once a second.
export function clock() {
  if (!shown || !parts || parts.id !== shown.id || !page.contains(parts.root)) return;
  const worker = current();
  if (!worker) return;
  setText(parts.head.since, worker.sinceAt === null ? "" : `for ${span(now() - worker.sinceAt)}`);
  setAttribute(parts.head.since, "title", `since ${time(worker.sinceAt)} (${utc(worker.sinceAt)})`);
  setText(parts.facts.lease, lease(worker).text);
  const ended = worker.state === "stopped" || worker.state === "lost";
  setText(parts.facts.figures, ended || worker.figuresAt === null ? "–" : age(worker) || "now");
  const heard = parse(worker.last_heard);
  setText(parts.facts.heard, heard === null ? "–" : `${span(now() - heard)} ago`);
}

function drainOf(worker) {
  const { drain } = worker;
  const { box, at } = parts.drain;
  box.hidden = !drain;
  if (!drain || at === drain.at) return;
  parts.drain.at = drain.at;
  report(box, drain);
}

// How a drain went, into `box`.
function report(box, drain) {
  const title = el("h2", {}, "Drain");
  const outcome = el("p", { class: `outcome ${drain.outcome}` }, icon(OUTCOMES[drain.outcome] ?? "aborted"), el("strong", { text: visible(drain.outcome) }), ` in ${duration(drain.duration_ms)}, because of ${visible(drain.reason)}: ${count(drain.finished)} finished, ${count(drain.handed_back)} handed back, ${count(drain.interrupted)} interrupted, ${count(drain.unconfirmed)} unconfirmed.`);
  const ids = (Array.isArray(drain.interrupted_ids) ? drain.interrupted_ids : []).slice(0, IDS);
  const cut = ids.length ? el("details", {}, el("summary", { text: `Message ids of the interrupted (${count(ids.length)})` }), el("ul", { class: "ids" }, ...ids.map((id) => el("li", {}, el("code", { text: visible(id) }))))) : null;
  box.replaceChildren(title, outcome, bar(drain), ...(cut ? [cut] : []));
}

function history() {
  const { past } = parts;
  if (past.of === shown.history && shown.history !== null) return;
  past.of = shown.history;
  if (!shown.history?.length) {
    past.box.replaceChildren(el("li", { class: "quiet-text", text: shown.error ? shown.error.message : "Nothing is known of it." }));
    return;
  }
  // The newest first; of those at the same time, the one that came last.
  const entries = [...shown.history].reverse().sort((a, b) => (parse(b.at) ?? 0) - (parse(a.at) ?? 0));
  past.box.replaceChildren(...entries.map((entry) => {
    const at = parse(entry.at);
    const state = Object.hasOwn(MEANINGS, entry.state) ? entry.state : "silent";
    const kind = Object.hasOwn(KINDS, entry.kind) ? ` (${KINDS[entry.kind]})` : "";
    return el("li", { class: state }, icon(state), el("time", { datetime: utc(at), title: utc(at), text: time(at) }), el("span", {}, el("strong", { class: "word", text: state }), kind, entry.reason ? ` – ${visible(entry.reason)}` : ""));
  }));
}

// A worker that is not known, or no longer; its drain may still be.
function missing() {
  if (!shown.error) return;
  parts = null;
  const gone = shown.error.status === 404;
  const drain = store.drains.find((each) => each.worker === shown.id);
  if (gone && drain) {
    const box = el("section", { class: "block" });
    report(box, drain);
    page.replaceChildren(el("p", { class: "back" }, back()), el("header", { class: "worker-head stopped" }, el("div", { class: "who" }, el("h1", { text: drain.name }), el("code", { class: "id", text: visible(shown.id) })), el("div", { class: "now" }, el("p", { class: "state-line" }, icon("stopped"), el("strong", { class: "word", text: "stopped" }), el("span", { class: "since", text: `at ${time(drain.endAt)}` })), el("p", { class: "meaning", text: "It ended some time ago; only the report of its drain is kept." }))), box);
    return;
  }
  const title = gone ? "No such worker" : "The worker cannot be shown";
  const text = gone ? "The fleet program does not know this worker, or no longer: workers that ended long ago are forgotten." : shown.error.message;
  page.replaceChildren(el("p", { class: "back" }, back()), el("div", { class: "notice inner" }, el("h1", { text: title }), el("p", { text }), el("p", {}, el("code", { text: visible(shown.id) })), el("p", {}, el("button", { type: "button", text: "Ask again", on: { click: load } }))));
}
