// The timeline of drains: a lane for each, a segment for each step, on the clock or side by side.

import { el, icon, setAttribute, setHidden, setText, byId } from "./dom.js";
import { duration, plural, span, tick as tickText, time } from "./format.js";
import { DRAINS, RANGES, brief, explain, finished, inRange, leftOut, step, told, underWay } from "./drains.js";
import { OUTCOMES, STEPS } from "./words.js";
import { SNAPSHOT_DRAINS, drain as drainOf, mergeDrains, now, store } from "./store.js";
import { workerLink } from "./row.js";
import { headers } from "./token.js";

// Lanes drawn; the sentence above counts them all.
const LANES = 200;
// What one request asks for, and how many of them a range may take: all that the page keeps.
const PAGE = 1000;
const PAGES = DRAINS / PAGE;
const MODES = [
  ["clock", "On the clock"],
  ["length", "Side by side"],
];

let range = "roll";
let mode = "clock";
let dirty = true;
// Drains that the program lists, as it last said.
let listed = 0;
const lanes = new Map();
const asked = new Set();

export function build() {
  chooser("ranges", RANGES, () => range, (key) => {
    range = key;
    complete();
  });
  chooser("modes", MODES, () => mode, (key) => (mode = key));
  for (const [key, words] of STEPS) byId("legend").append(el("li", {}, el("i", { class: `swatch ${key}` }), el("span", { text: words })));
  byId("legend").append(el("li", {}, el("i", { class: "swatch ongoing" }), el("span", { text: "under way" })));
}

function chooser(id, options, current, choose) {
  const buttons = options.map(([key, words]) => {
    const button = el("button", { type: "button", text: words, "aria-pressed": key === current() ? "true" : "false" });
    button.addEventListener("click", () => {
      choose(key);
      for (const each of buttons) setAttribute(each, "aria-pressed", each === button ? "true" : "false");
      draw();
    });
    return button;
  });
  byId(id).append(...buttons);
}

// Whether every drain of the range is here: one of those known lies before it.
function isCovered(known, at) {
  return known.length === 0 || inRange(known, range, at).length < known.length;
}

// The stream brings the latest drains. A longer range, or a large roll, asks for those before them.
async function complete() {
  const wanted = `${range} ${store.gaps}`;
  if (asked.has(wanted)) return;
  asked.add(wanted);
  let before = "";
  try {
    for (let page = 0; page < PAGES; page += 1) {
      const response = await fetch(`api/v1/drains?limit=${PAGE}${before}`, { headers: headers(), cache: "no-store" });
      if (!response.ok) throw new Error(String(response.status));
      const { drains, next, total } = await response.json();
      listed = total ?? 0;
      mergeDrains(drains.map(drainOf));
      if (!next || !drains.length || isCovered(known(), now())) return;
      // Another range was chosen meanwhile; this one is asked for again when it is chosen again.
      if (`${range} ${store.gaps}` !== wanted) return asked.delete(wanted);
      before = `&before=${encodeURIComponent(next)}`;
    }
  } catch {
    // It is asked again when the range is chosen again; what is known is shown.
    asked.delete(wanted);
  }
}

const known = () => store.drains.filter((each) => each.endAt !== null).map(finished);

export function update(changes) {
  if (changes.has("drains") || changes.has("moved")) draw();
}

// Bars under way grow once a second.
export function clock() {
  if (dirty) draw();
}

function items() {
  const at = now();
  const open = [...store.workers.values()].filter((worker) => worker.state === "draining").map((worker) => underWay(worker, at));
  open.sort((a, b) => b.start - a.start);
  dirty = open.length > 0;
  const ended = known();
  // The stream's first message brings so many at most.
  if (ended.length >= SNAPSHOT_DRAINS && !isCovered(ended, at)) complete();
  return inRange([...open, ...ended], range, at);
}

const nothing = () => (range === "roll" ? "No drain in the last 7 days." : `No drain in the last ${RANGES.find(([key]) => key === range)[1].replace(/^1 /, "")}.`);

function draw() {
  if (byId("fleet").hidden) return;
  const all = items();
  const drawn = [...all].sort(mode === "clock" ? (a, b) => b.start - a.start : (a, b) => b.ms - a.ms).slice(0, LANES);
  const rest = all.length > drawn.length ? ` The chart shows the ${mode === "clock" ? "latest" : "longest"} ${LANES}.` : "";
  const summed = range === "week" ? (store.summary?.week.summed ?? 0) : 0;
  const older = summed ? ` ${plural(summed, "earlier drain is", "earlier drains are")} in the figures above, but no longer here one by one.` : "";
  const beyond = store.drains.length < DRAINS ? "" : leftOut(DRAINS, listed, isCovered(known(), now()));
  setText(byId("drains-lead"), all.length ? explain(all) + rest + beyond + older : nothing());
  setHidden(byId("chart"), all.length === 0);
  setHidden(byId("chart-foot"), all.length === 0);
  if (!all.length) {
    byId("axis").replaceChildren();
    drawLanes([], [0, 1]);
    return;
  }
  const domain = mode === "clock" ? [Math.min(...drawn.map((item) => item.start)), Math.max(...drawn.map((item) => item.end))] : [0, Math.max(...drawn.map((item) => item.ms))];
  if (domain[1] - domain[0] < 100) domain[1] = domain[0] + 100;
  drawAxis(domain);
  drawLanes(drawn, domain);
}

function drawAxis([from, to]) {
  const length = to - from;
  const every = step(length, Math.max(2, Math.min(8, Math.floor(byId("axis").clientWidth / 130))));
  // Marks on the clock fall on round local times.
  const zone = mode === "clock" ? new Date(from).getTimezoneOffset() * 60_000 : 0;
  const first = Math.ceil((from - zone) / every) * every + zone;
  const marks = [];
  for (let at = first; at <= to; at += every) {
    const mark = el("span", { text: mode === "clock" ? tickText(at, length) : at === 0 ? "0" : at < 1000 ? duration(at) : span(at) });
    mark.style.insetInlineStart = `${(100 * (at - from)) / length}%`;
    marks.push(mark);
  }
  byId("axis").replaceChildren(el("div", {}, ...marks));
}

function drawLanes(drawn, [from, to]) {
  const length = to - from;
  const keys = new Set(drawn.map((item) => item.key));
  for (const [key, lane] of lanes) {
    if (keys.has(key)) continue;
    lane.element.remove();
    lanes.delete(key);
  }
  let previous = null;
  for (const item of drawn) {
    let lane = lanes.get(item.key);
    if (!lane) lanes.set(item.key, (lane = make(item)));
    lane.item = item;
    const start = mode === "clock" ? item.start - from : 0;
    lane.bar.style.insetInlineStart = `${(100 * start) / length}%`;
    lane.bar.style.inlineSize = `${(100 * item.ms) / length}%`;
    if (!item.steps) setText(lane.length, duration(item.ms));
    const next = previous ? previous.nextSibling : byId("lanes").firstChild;
    if (lane.element !== next) byId("lanes").insertBefore(lane.element, next);
    previous = lane.element;
  }
}

function make(item) {
  const lane = { item };
  const segments = item.steps ? STEPS.map(([key], index) => [key, item.steps[index]]).filter(([, ms]) => ms > 0) : [["ongoing", 1]];
  lane.bar = el("span", { class: "bar" }, ...segments.map(([key, ms]) => {
    const segment = el("i", { class: `swatch ${key}` });
    segment.style.flexGrow = ms;
    return segment;
  }));
  lane.length = el("span", { class: "length", text: duration(item.ms) });
  const outcome = item.outcome && item.outcome !== "clean" ? icon(OUTCOMES[item.outcome] ?? "aborted") : null;
  const link = el("a", { href: workerLink(item.id), class: `lane ${item.outcome ?? "ongoing"}` }, el("span", { class: "who", text: brief(item.name) }), el("span", { class: "track" }, lane.bar), lane.length, el("span", { class: "flag" }, outcome), el("span", { class: "unseen", text: item.steps ? told(item, time) : "so far, draining" }));
  const show = () => setText(byId("drain-detail"), told(lane.item, time));
  link.addEventListener("pointerenter", show);
  link.addEventListener("focus", show);
  lane.element = el("li", {}, link);
  return lane;
}

// The steps of one drain, for the worker's page.
export function bar(drain) {
  const segments = STEPS.map(([key, words]) => [key, words, drain.steps?.[`${key}_ms`] ?? 0]);
  const strip = el("div", { class: "bar strip", "aria-hidden": "true" }, ...segments.filter(([, , ms]) => ms > 0).map(([key, , ms]) => {
    const segment = el("i", { class: `swatch ${key}` });
    segment.style.flexGrow = ms;
    return segment;
  }));
  const list = el("dl", { class: "steps" }, ...segments.map(([key, words, ms]) => el("div", {}, el("dt", {}, el("i", { class: `swatch ${key}` }), words), el("dd", { text: duration(ms) }))));
  return el("div", { class: "step-chart", "aria-label": `Steps of the drain, ${plural(segments.length, "step")}` }, strip, list);
}
