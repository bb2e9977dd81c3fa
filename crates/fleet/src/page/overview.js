// The top of the fleet: one sentence, the gate, the states as filters, and the figures.

import { el, icon, setText, setAttribute, setHidden, byId } from "./dom.js";
import { count, duration, percent, plural, rate, short, span } from "./format.js";
import { IN_ROW, MEANINGS } from "./words.js";
import { brief } from "./drains.js";
import { now, store } from "./store.js";

// How long a loss is news.
const LATELY_MS = 3_600_000;

const parts = new Map();
const buttons = new Map();
const figures = new Map();

export function build(toggle) {
  for (const state of IN_ROW) {
    // What has stopped has left through the gate.
    if (state !== "stopped") {
      const part = el("span", { class: `part ${state}` });
      parts.set(state, part);
      byId("gate").append(part);
    }
    const number = el("span", { class: "number", text: "0" });
    const button = el("button", { type: "button", class: `state ${state}`, "aria-pressed": "false", title: MEANINGS[state], on: { click: () => toggle(state) } }, icon(state), number, el("span", { text: state }));
    buttons.set(state, { button, number });
    byId("states").append(button);
  }
  figure("work", "Slots in use");
  figure("beats", "Beats");
  figure("harm", "Interrupted in 7 days");
  figure("drains", "Unclean in 7 days");
  figure("pace", "Drain median");
  figure("tail", "Drain p99");
}

function figure(key, label) {
  const value = el("span", { class: "value" });
  const unit = el("span", { class: "unit" });
  const note = el("dd", { class: "note" });
  figures.set(key, { value, unit, note });
  byId("figures").append(el("div", { class: `figure ${key}` }, el("dt", { text: label }), el("dd", { class: "main" }, value, unit), note));
}

function put(key, value, unit, note, alarm = false) {
  const parts = figures.get(key);
  setText(parts.value, value);
  setText(parts.unit, unit);
  setText(parts.note, note);
  setAttribute(parts.value.closest(".figure"), "data-alarm", alarm);
}

export function draw(filter) {
  const { summary } = store;
  if (!summary) return;
  const states = summary.workers;
  const total = IN_ROW.reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const gaps = missing();
  for (const state of IN_ROW) {
    const number = states[state] ?? 0;
    const part = parts.get(state);
    if (part) {
      const share = state === "lost" ? gaps.lately : number;
      setHidden(part, share === 0);
      part.style.flexGrow = share;
    }
    const { button, number: shown } = buttons.get(state);
    setText(shown, count(number));
    setAttribute(button, "data-none", number === 0);
    setAttribute(button, "aria-pressed", filter.states.has(state) ? "true" : "false");
  }
  setAttribute(byId("gate"), "aria-label", IN_ROW.map((state) => `${count(states[state] ?? 0)} ${state}`).join(", "));
  const { title, more, alarm } = verdict(states, total, gaps);
  setText(byId("verdict"), title);
  setText(byId("verdict-more"), more);
  setAttribute(byId("verdict"), "data-alarm", alarm);
  document.title = `${tab(states, gaps)} · Tidegate`;
  // An empty fleet has no figures yet, and nothing to draw.
  const fresh = total === 0 && summary.week.drains === 0;
  setHidden(byId("figures-block"), fresh);
  setHidden(byId("drains"), fresh);
  numbers(summary);
}

// Who is missing: lost workers are shown for days, but only those lost lately are the fleet's state.
function missing() {
  const gaps = { lately: 0, latest: null, earlier: 0, lastBefore: null };
  const from = now() - LATELY_MS;
  for (const worker of store.workers.values()) {
    if (worker.state !== "lost" && worker.state !== "silent") continue;
    if (worker.state === "silent" || worker.sinceAt >= from) {
      gaps.lately += worker.state === "lost" ? 1 : 0;
      if (!gaps.latest || worker.sinceAt > gaps.latest.sinceAt) gaps.latest = worker;
    } else {
      gaps.earlier += 1;
      gaps.lastBefore = Math.max(gaps.lastBefore ?? 0, worker.sinceAt);
    }
  }
  return gaps;
}

function tab(states, gaps) {
  const numbers = { lost: gaps.lately, silent: states.silent, draining: states.draining };
  const said = Object.entries(numbers).filter(([, number]) => number).map(([state, number]) => `${count(number)} ${state}`);
  return said.length ? said.join(", ") : `${count(states.running)} running`;
}

const are = (number, word) => `${count(number)} ${number === 1 ? "is" : "are"} ${word}`;

// The state of the fleet as one would say it to somebody who has just been woken.
function verdict(states, total, gaps) {
  const present = total - states.stopped - states.lost;
  const rest = [];
  if (states.starting) rest.push(are(states.starting, "starting"));
  if (states.paused) rest.push(are(states.paused, "paused"));
  const running = are(states.running, "running");
  const past = gaps.earlier ? `${plural(gaps.earlier, "worker was", "workers were")} lost earlier, the last ${short(now() - gaps.lastBefore)} ago.` : "";
  const joined = (...sentences) => sentences.filter(Boolean).join(" ");
  if (gaps.lately || states.silent) {
    const lost = gaps.lately ? `${plural(gaps.lately, "worker")} lost in the last hour` : "";
    const silent = states.silent ? `${lost ? count(states.silent) : plural(states.silent, "worker")} silent` : "";
    const others = [...(states.draining ? [are(states.draining, "draining")] : []), ...rest, running];
    return { title: `${[lost, silent].filter(Boolean).join(" and ")}.`, more: joined(sentence(others), latest(gaps)), alarm: lost ? "lost" : "silent" };
  }
  if (total === 0) return { title: "No worker has reported yet.", more: "The gate is open, and the fleet program listens." };
  if (present === 0) return { title: "No worker is running.", more: joined("Nothing takes deliveries.", states.stopped ? `${plural(states.stopped, "worker")} stopped with a report.` : "", past), alarm: "lost" };
  if (states.draining) {
    const title = `${count(states.draining)} of ${plural(present, "worker")} ${states.draining === 1 ? "is" : "are"} draining.`;
    return { title, more: joined(sentence([...rest, running]), slowest()) };
  }
  if (states.running === present) {
    const title = present === 1 ? "The one worker is running." : `All ${count(present)} workers are running.`;
    return { title, more: joined("Nothing drains.", past || "Nothing is lost.") };
  }
  const title = `${count(states.running)} of ${plural(present, "worker")} ${states.running === 1 ? "is" : "are"} running.`;
  return { title, more: joined(sentence(rest), past || "Nothing is lost.") };
}

function sentence(clauses) {
  if (!clauses.length) return "";
  const last = clauses.at(-1);
  return clauses.length === 1 ? `${last}.` : `${clauses.slice(0, -1).join(", ")} and ${last}.`;
}

function slowest() {
  let slow = null;
  for (const worker of store.workers.values()) {
    if (worker.state === "draining" && (!slow || worker.sinceAt < slow.sinceAt)) slow = worker;
  }
  if (!slow?.sinceAt) return "";
  const left = slow.deadlineAt === null ? null : slow.deadlineAt - now();
  const deadline = left === null ? "" : left > 0 ? `, ${span(left)} to its deadline` : ", past its deadline";
  return `The longest drain is ${brief(slow.name)}: ${span(now() - slow.sinceAt)} so far${deadline}.`;
}

function latest({ latest: last }) {
  if (!last?.sinceAt) return "";
  return `Last, ${brief(last.name)} ${last.state === "lost" ? "was lost" : "went silent"}, ${short(now() - last.sinceAt)} ago.`;
}

function numbers({ slots, in_flight, rate: perSecond, nodes, messages, week }) {
  put("work", count(in_flight), ` of ${count(slots)}`, `${rate(perSecond)} done per second on ${plural(nodes, "node")}`);
  const baseline = messages.baseline_per_second > 0;
  put("beats", rate(messages.beats_per_second), " per second", baseline ? `with states ${percent(messages.share)} of one ping per queue per 30 s, which would be ${rate(messages.baseline_per_second)}` : "no nodes to compare with");
  const unclean = week.interrupted + week.aborted;
  put("harm", count(week.interrupted_deliveries), ` ${week.interrupted_deliveries === 1 ? "delivery" : "deliveries"}`, `${plural(week.lost, "worker")} lost, ${count(week.unconfirmed)} settlements unconfirmed`, week.interrupted_deliveries > 0);
  const how = unclean ? `${count(week.interrupted)} cut off by the deadline, ${count(week.aborted)} aborted` : week.drains ? "every drain ended clean" : "no drain yet";
  put("drains", count(unclean), ` of ${plural(week.drains, "drain")}`, how, unclean > 0);
  put("pace", ...apart(week.duration_p50_ms), week.drains ? "half of them took longer" : "no drain yet");
  put("tail", ...apart(week.duration_p99_ms), week.drains ? "1 in 100 took longer" : "no drain yet");
}

// "4.2", " s": so that the unit can be set smaller.
function apart(ms) {
  const text = duration(ms);
  const space = text.indexOf(" ");
  return space < 0 || text.indexOf(" ", space + 1) > 0 ? [text, ""] : [text.slice(0, space), text.slice(space)];
}
