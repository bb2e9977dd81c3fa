// What the page knows: the fleet as the program last told it, and how the connection is. Events change it at once;
// whoever draws is told once per animation frame, however many events came.

import { DRAINS } from "./drains.js";
import { parse, visible } from "./format.js";

export const STATES = ["lost", "silent", "draining", "starting", "paused", "running", "stopped"];
export const PRESENT = new Set(["starting", "running", "paused", "draining", "silent"]);
// Drains that the stream begins with, at most.
export const SNAPSHOT_DRAINS = 200;

export const store = {
  summary: null,
  workers: new Map(),
  drains: [],
  // How often drains were missed: those before the latest ones must be asked for again.
  gaps: 0,
  // The program's clock minus this machine's.
  skew: 0,
  connection: { phase: "connecting", since: Date.now(), heard: null, error: null, retryAt: null, live: false },
};

const listeners = new Set();
let changes = new Set();
let frame = 0;

export const now = () => Date.now() + store.skew;

export function listen(listener) {
  listeners.add(listener);
}

// `what` is one of summary, workers, drains, connection, moved (a worker's state changed).
export function touch(...what) {
  for (const each of what) changes.add(each);
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  const flushed = changes;
  changes = new Set();
  for (const listener of listeners) listener(flushed);
}

const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : 0);

// A worker as the API sends it, with the sums that sorting and drawing need.
export function worker(raw) {
  const nodes = (Array.isArray(raw.nodes) ? raw.nodes : []).map((node) => ({ ...node, queue: visible(node.queue), title: node.title ? visible(node.title) : null, note: node.note ? visible(node.note) : null }));
  const sum = (key) => nodes.reduce((total, node) => total + number(node[key]), 0);
  const rated = nodes.some((node) => typeof node.rate === "number");
  const leased = raw.lease && typeof raw.lease.left_ms === "number";
  return {
    ...raw,
    id: String(raw.id),
    name: visible(raw.name),
    // Null until the worker has said it.
    host: raw.host ? visible(raw.host) : null,
    version: raw.version ? visible(raw.version) : null,
    reason: raw.reason ? visible(raw.reason) : null,
    // What holds it up.
    note: raw.note ? visible(raw.note) : null,
    state: STATES.includes(raw.state) ? raw.state : "silent",
    nodes,
    slots: sum("slots"),
    inFlight: sum("in_flight"),
    held: sum("held"),
    rate: rated ? sum("rate") : null,
    // The largest share of deliveries that failed lately, of any node.
    failing: nodes.reduce((most, node) => Math.max(most, number(node.failing)), 0),
    oldest: nodes.reduce((most, node) => Math.max(most, number(node.oldest_ms)), 0),
    // When the figures were true; null before the first beat.
    figuresAt: parse(raw.figures?.at),
    sinceAt: parse(raw.since),
    startedAt: parse(raw.started_at),
    deadlineAt: parse(raw.deadline_at),
    leaseMs: leased ? number(raw.lease.ms) : null,
    // Counted on this machine's monotonic clock, from now.
    leaseEnd: leased ? performance.now() + raw.lease.left_ms : null,
    // Sorts web-9 before web-10; collation would be too slow for thousands.
    order: String(raw.name).toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0")),
    text: `${raw.name} ${raw.id} ${raw.host ?? ""} ${nodes.map((node) => `${node.title ?? ""} ${node.queue}`).join(" ")}`.toLowerCase(),
  };
}

export function drain(raw) {
  return { ...raw, name: visible(raw.name), reason: visible(raw.reason), endAt: parse(raw.at) };
}

// Newest first, and one of each worker: nobody drains twice.
export function mergeDrains(more) {
  const all = new Map();
  for (const each of [...store.drains, ...more]) all.set(each.worker, each);
  store.drains = [...all.values()].sort((a, b) => (b.endAt ?? 0) - (a.endAt ?? 0)).slice(0, DRAINS);
  touch("drains");
}

// The stream begins again. Between its drains and those that are known here others may be missing.
function restart(drains) {
  const known = new Set(store.drains.map((each) => each.worker));
  if (store.drains.length && (drains.length < SNAPSHOT_DRAINS || !known.has(drains.at(-1).worker))) {
    store.drains = [];
    store.gaps += 1;
  }
  mergeDrains(drains);
}

function summarise(raw) {
  store.summary = raw;
  const at = parse(raw.at);
  if (at !== null) store.skew = at - Date.now();
  touch("summary");
}

// Lines that the nodes of a worker take.
const lines = (worker) => worker?.nodes.reduce((sum, node) => sum + (node.title || node.note ? 2 : 1), 0);

const apply = {
  snapshot(data) {
    summarise(data.summary);
    store.workers = new Map(data.workers.map((raw) => [String(raw.id), worker(raw)]));
    restart(data.drains.map(drain));
    touch("workers", "moved");
  },
  summary: summarise,
  worker(data) {
    const next = worker(data);
    const before = store.workers.get(next.id);
    store.workers.set(next.id, next);
    touch("workers");
    // An open row has another height then.
    if (before?.state !== next.state || lines(before) !== lines(next)) touch("moved");
  },
  gone({ id }) {
    if (store.workers.delete(String(id))) touch("workers", "moved");
  },
  drain(data) {
    mergeDrains([drain(data)]);
  },
};

// One event of the stream. Kinds that this page does not know are left out.
export function receive(kind, data) {
  if (Object.hasOwn(apply, kind)) apply[kind](data);
}
