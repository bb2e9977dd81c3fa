// The last hour in four graphs: what was done, what failed, what ran and what waited. From what the program has seen since
// it started.

import { count, duration, parse, rate, time } from "./format.js";
import { el, setAttribute, setText } from "./dom.js";
import { headers } from "./token.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 64];
const EVERY_MS = 10_000;
const PATIENCE_MS = 10_000;
// A graph is at least ten minutes wide, so that a program that has just started does not show a sliver.
const LEAST_SLOTS = 20;

const GRAPHS = [
  ["done_per_second", "Done /s", rate],
  ["failed_per_second", "Failed /s", rate],
  ["running", "Running, at most", count],
  ["ready", "Waiting, at most", count],
];

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// The lines of a graph: one for each run of known values. The newest is at the right.
export function lines(values, top) {
  const runs = [];
  let run = [];
  const slots = Math.max(values.length, LEAST_SLOTS);
  const first = slots - values.length;
  values.forEach((value, index) => {
    if (value === null) {
      if (run.length) runs.push(run);
      run = [];
      return;
    }
    const x = ((first + index + 0.5) / slots) * WIDTH;
    run.push([Math.round(x * 10) / 10, Math.round((HEIGHT - 2 - (value / top) * (HEIGHT - 8)) * 10) / 10]);
  });
  if (run.length) runs.push(run);
  return runs;
}

export function graphs() {
  const parts = GRAPHS.map(([key, label, words]) => {
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const now = el("span", { class: "now" });
    const most = el("span", { class: "most" });
    return { key, words, svg, now, most, box: el("figure", { class: `graph ${key}` }, el("figcaption", {}, el("span", { text: label }), now), svg, most) };
  });
  const note = el("p", { class: "quiet-text graph-note" });
  const root = el("section", { class: "graphs", "aria-label": "The last hour" }, ...parts.map((part) => part.box), note);
  let timer = 0;
  let wanted = null;

  async function load() {
    clearTimeout(timer);
    const queue = wanted;
    if (queue === null) return;
    if (document.visibilityState !== "hidden") {
      try {
        const query = queue ? `?queue=${encodeURIComponent(queue)}` : "";
        const response = await fetch(`api/v1/graph${query}`, { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
        if (queue !== wanted) return;
        root.hidden = !response.ok;
        if (response.ok) draw(await response.json());
      } catch {
        // What is drawn stays until the program answers again.
      }
    }
    clearTimeout(timer);
    if (queue === wanted) timer = setTimeout(load, EVERY_MS);
  }

  function draw(graph) {
    for (const { key, words, svg, now, most } of parts) {
      const values = graph[key];
      const known = values.filter((value) => value !== null);
      const highest = Math.max(0, ...known);
      setText(now, known.length ? words(values.at(-1) ?? known.at(-1)) : "–");
      setText(most, known.length ? `at most ${words(highest)}` : "not known yet");
      const shapes = [];
      for (const run of lines(values, highest || 1)) {
        const [first, last] = [run[0], run.at(-1)];
        const path = run.map(([x, y]) => `${x} ${y}`).join("L");
        shapes.push(shape("path", { class: "area", d: `M${first[0]} ${HEIGHT}L${path}L${last[0]} ${HEIGHT}Z` }), shape("path", { class: "trace", d: run.length > 1 ? `M${path}` : `M${first[0] - 1} ${first[1]}h2` }));
      }
      svg.replaceChildren(...shapes);
      setAttribute(svg.parentElement, "data-none", highest === 0);
    }
    const from = parse(graph.from);
    const span = graph.done_per_second.length * graph.slot_ms;
    setText(note, `Since ${time(from)}, ${duration(span)}. How many wait is known only for the time in which somebody looked at the queues.`);
  }

  return {
    root,
    // Shows a queue; the whole fleet for "", nothing for null.
    show(queue) {
      if (queue === wanted) return;
      wanted = queue;
      load();
    },
  };
}
