// Drains as facts: which ones belong together, how long each step took, and what a slow roll was slow with. Pure.

import { count, duration, percent, plural, span } from "./format.js";
import { STEPS } from "./words.js";

export const RANGES = [
  ["roll", "Last roll", null],
  ["hour", "1 hour", 3_600_000],
  ["day", "24 hours", 86_400_000],
  ["week", "7 days", 7 * 86_400_000],
];
// Drains that the page keeps. A program with a very large `fleet.max_workers` lists more.
export const DRAINS = 50_000;
// Drains further apart than this belong to different rolls.
const GAP_MS = 600_000;
// A pause between drains that is worth a sentence.
const IDLE_SHARE = 0.3;

const DOING = {
  cancel: "cancelling consumers",
  hand_back: "handing back what had not started",
  finish: "letting what ran finish",
  interrupt: "interrupting what still ran",
  settle: "settling and closing channels",
  release: "releasing handlers",
};

export const brief = (name) => (name.length > 40 ? `${name.slice(0, 38)}…` : name);

// A finished drain; its steps in order, in ms.
export function finished(drain) {
  const steps = STEPS.map(([key]) => drain.steps?.[`${key}_ms`] ?? 0);
  return { key: `${drain.worker} ${drain.at}`, id: drain.worker, name: drain.name, start: drain.endAt - drain.duration_ms, end: drain.endAt, ms: drain.duration_ms, outcome: drain.outcome, steps, drain };
}

// A drain under way, as long as it has run.
export function underWay(worker, at) {
  const start = Math.min(worker.sinceAt ?? at, at);
  return { key: `${worker.id} now`, id: worker.id, name: worker.name, start, end: at, ms: at - start, outcome: null, steps: null, deadline: worker.deadlineAt, reason: worker.reason };
}

// Those of `items` (newest first by their end) that are in the range.
export function inRange(items, range, at) {
  const [, , length] = RANGES.find(([key]) => key === range);
  if (length !== null) return items.filter((item) => item.end >= at - length);
  const roll = [];
  let earliest = Infinity;
  for (const item of items) {
    if (roll.length && item.end < earliest - GAP_MS) break;
    roll.push(item);
    earliest = Math.min(earliest, item.start);
  }
  return roll;
}

// How long at least one of them ran, and how many ran at once at most.
function overlap(items) {
  const edges = items.flatMap(({ start, end }) => [[start, 1], [end, -1]]).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  let [running, most, busy, from] = [0, 0, 0, 0];
  for (const [at, step] of edges) {
    if (running === 0) from = at;
    running += step;
    most = Math.max(most, running);
    if (running === 0) busy += at - from;
  }
  return { busy, most };
}

// What the drains have to say for themselves, in sentences.
export function explain(items) {
  const done = items.filter((item) => item.steps);
  const open = items.length - done.length;
  const said = [];
  if (open) said.push(`${plural(open, "drain")} under way.`);
  if (!done.length) return said.join(" ");
  const whole = items.reduce((end, item) => Math.max(end, item.end), 0) - items.reduce((start, item) => Math.min(start, item.start), Infinity);
  const { busy, most } = overlap(items);
  const together = items.length === 1 ? "" : most === 1 ? ", one at a time" : `, up to ${count(most)} at once`;
  said.push(items.length === 1 ? `One drain, ${duration(done[0].ms)}.` : `${plural(done.length, open ? "finished drain" : "drain")} in ${span(whole)}${together}.`);
  const sums = STEPS.map((_, step) => done.reduce((sum, item) => sum + item.steps[step], 0));
  const total = sums.reduce((sum, each) => sum + each, 0);
  const top = sums.indexOf(Math.max(...sums));
  if (total > 0) said.push(`${percent(sums[top] / total)} of ${items.length === 1 ? "it" : "their time"} went to ${DOING[STEPS[top][0]]}.`);
  if (done.length > 1) {
    const longest = done.reduce((a, b) => (b.ms > a.ms ? b : a));
    said.push(`The longest, ${brief(longest.name)}, took ${duration(longest.ms)}.`);
  }
  const unclean = done.filter((item) => item.outcome !== "clean").length;
  if (unclean) said.push(`${plural(unclean, "was", "were")} not clean.`);
  const idle = whole - busy;
  if (items.length > 2 && idle > 5000 && idle / whole > IDLE_SHARE) {
    said.push(`For ${span(idle)} between them nothing drained: there the roll waited for its platform, not for a drain.`);
  }
  return said.join(" ");
}

// A sentence about the drains of a range that the page has no room for; nothing if it has all of the range.
export function leftOut(here, total, isComplete) {
  return isComplete || total <= here ? "" : ` Only the latest ${count(here)} of ${count(total)} drains are here; the figures above count them all.`;
}

// The distance of round marks on an axis of `length` ms, for at most `marks` of them.
export function step(length, marks) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 21_600_000, 43_200_000, 86_400_000];
  return steps.find((each) => length / each <= marks) ?? 86_400_000;
}

// A drain in one line of text, for a screen reader and for the line below the chart.
export function told(item, timeOf) {
  if (!item.steps) {
    return `${item.name}: draining since ${timeOf(item.start)}, ${span(item.ms)} so far${item.reason ? `, because of ${item.reason}` : ""}`;
  }
  const { drain } = item;
  const steps = STEPS.map(([, words], index) => [words, item.steps[index]]).filter(([, ms]) => ms > 0).map(([words, ms]) => `${words} ${duration(ms)}`);
  const counts = [`${count(drain.finished)} finished`, `${count(drain.handed_back)} handed back`];
  if (drain.interrupted) counts.push(`${count(drain.interrupted)} interrupted`);
  if (drain.unconfirmed) counts.push(`${count(drain.unconfirmed)} unconfirmed`);
  return `${item.name}: ${item.outcome}, ${duration(item.ms)} until ${timeOf(item.end)}, because of ${drain.reason}; ${counts.join(", ")}; ${steps.join(", ") || "no step took a millisecond"}`;
}
