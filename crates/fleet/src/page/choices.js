// What is shown: state and text filters, order. It lives in the address, so that a view can be sent to a colleague.

import { STATES, store } from "./store.js";

export const SORTS = [
  ["attention", "What needs attention"],
  ["name", "Worker"],
  ["since", "Changed last"],
  ["slots", "Slots in use"],
  ["rate", "Rate"],
  ["oldest", "Oldest delivery"],
  ["failing", "Failing"],
  ["lease", "Lease left"],
];
// Largest first, unless turned round.
const DESCENDING = new Set(["since", "slots", "rate", "oldest", "failing"]);

export const choices = { states: new Set(), text: "", sort: "attention", turned: false };

export function read(query) {
  const values = new URLSearchParams(query);
  const states = (values.get("state") ?? "").split(",").filter((state) => STATES.includes(state));
  const sort = values.get("sort") ?? "";
  const key = sort.replace(/^-/, "");
  Object.assign(choices, {
    states: new Set(states),
    text: (values.get("q") ?? "").slice(0, 200),
    sort: SORTS.some(([name]) => name === key) ? key : "attention",
    turned: sort.startsWith("-"),
  });
}

export function written() {
  const values = new URLSearchParams();
  if (choices.states.size) values.set("state", [...choices.states].join(","));
  if (choices.text) values.set("q", choices.text);
  if (choices.sort !== "attention" || choices.turned) values.set("sort", (choices.turned ? "-" : "") + choices.sort);
  const query = values.toString().replaceAll("%2C", ",");
  return query ? `#/?${query}` : "#/";
}

export const filtering = () => choices.states.size > 0 || choices.text.trim() !== "";

// What a sort goes by; unknown values come last either way round.
const KEYS = {
  since: (worker) => worker.sinceAt,
  slots: (worker) => (worker.slots ? worker.inFlight / worker.slots : null),
  rate: (worker) => worker.rate,
  oldest: (worker) => worker.oldest || null,
  failing: (worker) => worker.failing || null,
  lease: (worker) => (worker.leaseEnd !== null && worker.state !== "stopped" && worker.state !== "lost" ? worker.leaseEnd : null),
};

const byName = (a, b) => (a.order === b.order ? (a.id < b.id ? -1 : 1) : a.order < b.order ? -1 : 1);
const rank = Object.fromEntries(STATES.map((state, index) => [state, index]));

// The workers to show, in order.
export function chosen() {
  const words = choices.text.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = [];
  for (const worker of store.workers.values()) {
    if (choices.states.size && !choices.states.has(worker.state)) continue;
    if (words.every((word) => worker.text.includes(word))) kept.push(worker);
  }
  const turn = choices.turned ? -1 : 1;
  if (choices.sort === "name") return kept.sort((a, b) => turn * byName(a, b));
  if (choices.sort === "attention") {
    const recent = (a, b) => (a.state === "stopped" || a.state === "lost" ? (b.sinceAt ?? 0) - (a.sinceAt ?? 0) : 0);
    return kept.sort((a, b) => turn * (rank[a.state] - rank[b.state] || recent(a, b) || byName(a, b)));
  }
  const key = KEYS[choices.sort];
  const direction = turn * (DESCENDING.has(choices.sort) ? -1 : 1);
  return kept.sort((a, b) => {
    const [one, other] = [key(a), key(b)];
    if (one === null || other === null) return one === other ? byName(a, b) : one === null ? 1 : -1;
    return direction * (one - other) || byName(a, b);
  });
}

// Which way a column's arrow points: the order of the values, not of the default.
export const ascending = () => (DESCENDING.has(choices.sort) ? choices.turned : !choices.turned);
