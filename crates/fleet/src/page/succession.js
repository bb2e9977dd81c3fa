// Who came back: which workers that ended lately have a successor. Pure.

// How long an end is news.
export const LATELY_MS = 3_600_000;

const PRESENT = new Set(["starting", "running", "paused", "draining", "silent"]);

// "web-7d9f8c6b5-x2x4q" and "web-2" are both of "web": platforms add numbers and random letters to a name.
export function family(name) {
  const parts = name.split("-");
  let keep = parts.length;
  while (keep > 1 && (/\d/.test(parts[keep - 1]) || /^[bcdfghjklmnpqrstvwxz]{5}$/.test(parts[keep - 1]))) keep -= 1;
  return parts.slice(0, keep).join("-");
}

// The workers that stopped or were lost in the last hour, each with its successor or null. A successor has the same name
// and started later, or else is a newcomer of the same family that replaces nobody else.
export function succession(workers, at) {
  const ended = [];
  const living = [];
  for (const worker of workers) {
    if (PRESENT.has(worker.state)) living.push(worker);
    else if (worker.sinceAt !== null && worker.sinceAt >= at - LATELY_MS) ended.push(worker);
  }
  if (!ended.length) return [];
  ended.sort((a, b) => a.sinceAt - b.sinceAt);
  living.sort((a, b) => (a.startedAt ?? 0) - (b.startedAt ?? 0));
  const byName = grouped(living, (worker) => worker.name);
  const free = new Set(living);
  const successors = new Map();
  for (const worker of ended) {
    const successor = byName.get(worker.name)?.find((other) => began(other) > began(worker));
    if (!successor) continue;
    successors.set(worker.id, successor);
    free.delete(successor);
  }
  const byFamily = grouped([...free], (worker) => family(worker.name));
  const names = new Set(living.map((worker) => worker.name));
  for (const worker of ended) {
    if (successors.has(worker.id) || names.has(worker.name)) continue;
    const others = byFamily.get(family(worker.name)) ?? [];
    const place = others.findIndex((other) => began(other) >= endBegan(worker));
    if (place >= 0) successors.set(worker.id, others.splice(place, 1)[0]);
  }
  return ended.map((worker) => ({ worker, successor: successors.get(worker.id) ?? null }));
}

// One entry for each name: a name that ended twice has come back or not, but is one worker.
export function missing(pairs) {
  const newest = new Map();
  for (const pair of pairs) newest.set(pair.worker.name, pair);
  return [...newest.values()];
}

const began = (worker) => worker.startedAt ?? worker.sinceAt ?? 0;

// A rolling update with random names starts the new worker, waits until it is ready, and then stops the old one. Names
// with numbers are taken over, and nobody is started ahead of a crash.
function endBegan(worker) {
  const random = /[a-z][^-]*$/.test(worker.name) && family(worker.name) !== worker.name;
  const ahead = worker.state === "stopped" && random ? SURGE_MS : 0;
  return worker.sinceAt - (worker.drain?.duration_ms ?? 0) - ahead;
}

const SURGE_MS = 120_000;

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}
