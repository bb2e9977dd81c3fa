// The top of the fleet: one sentence, the gate, the states as filters, and the figures.

import { el, icon, setText, setAttribute, setHidden, byId } from "./dom.js";
import { count, duration, percent, plural, rate, short, span } from "./format.js";
import { IN_ROW, MEANINGS } from "./words.js";
import { brief } from "./drains.js";
import { now, store } from "./store.js";

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
  for (const state of IN_ROW) {
    const number = states[state] ?? 0;
    const part = parts.get(state);
    if (part) {
      setHidden(part, number === 0);
      part.style.flexGrow = number;
    }
    const { button, number: shown } = buttons.get(state);
    setText(shown, count(number));
    setAttribute(button, "data-none", number === 0);
    setAttribute(button, "aria-pressed", filter.states.has(state) ? "true" : "false");
  }
  setAttribute(byId("gate"), "aria-label", IN_ROW.map((state) => `${count(states[state] ?? 0)} ${state}`).join(", "));
  setAttribute(byId("gate"), "data-empty", total === 0);
  const { title, more, alarm } = verdict(states, total);
  setText(byId("verdict"), title);
  setText(byId("verdict-more"), more);
  setAttribute(byId("verdict"), "data-alarm", alarm);
  document.title = `${tab(states)} · Tidegate`;
  // An empty fleet has no figures yet, and nothing to draw.
  const fresh = total === 0 && summary.week.drains === 0;
  setHidden(byId("figures-block"), fresh);
  setHidden(byId("drains"), fresh);
  numbers(summary);
}

function tab(states) {
  const said = ["lost", "silent", "draining"].filter((state) => states[state]).map((state) => `${count(states[state])} ${state}`);
  return said.length ? said.join(", ") : `${count(states.running)} running`;
}

const are = (number, word) => `${count(number)} ${number === 1 ? "is" : "are"} ${word}`;

// The state of the fleet as one would say it to somebody who has just been woken.
export function verdict(states, total) {
  const present = total - states.stopped - states.lost;
  const trouble = [];
  if (states.lost) trouble.push(`${plural(states.lost, "worker")} lost`);
  if (states.silent) trouble.push(`${states.lost ? count(states.silent) : plural(states.silent, "worker")} silent`);
  const rest = [];
  if (states.draining) rest.push(are(states.draining, "draining"));
  if (states.starting) rest.push(are(states.starting, "starting"));
  if (states.paused) rest.push(are(states.paused, "paused"));
  if (trouble.length) {
    const others = [...rest, are(states.running, "running")];
    return { title: `${trouble.join(" and ")}.`, more: `${sentence(others)} ${worst()}`.trim(), alarm: states.lost ? "lost" : "silent" };
  }
  if (total === 0) return { title: "No worker has reported yet.", more: "The gate is open, and the fleet program listens." };
  if (present === 0) return { title: "Every worker has stopped.", more: `${plural(states.stopped, "worker")} ended with a report. Nothing takes deliveries.` };
  if (states.draining) {
    const title = `${count(states.draining)} of ${plural(present, "worker")} ${states.draining === 1 ? "is" : "are"} draining.`;
    return { title, more: `${sentence([...rest.slice(1), are(states.running, "running")])} ${slowest()}`.trim() };
  }
  if (states.running === present) {
    return { title: present === 1 ? "The one worker is running." : `All ${count(present)} workers are running.`, more: "Nothing drains, nothing is lost." };
  }
  const title = `${count(states.running)} of ${plural(present, "worker")} ${states.running === 1 ? "is" : "are"} running.`;
  return { title, more: `${sentence(rest)} Nothing is lost.` };
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

function worst() {
  let last = null;
  for (const worker of store.workers.values()) {
    if ((worker.state === "lost" || worker.state === "silent") && (!last || worker.sinceAt > last.sinceAt)) last = worker;
  }
  return last?.sinceAt ? `Last, ${brief(last.name)} ${last.state === "lost" ? "was lost" : "went silent"}, ${short(now() - last.sinceAt)} ago.` : "";
}

function numbers({ slots, in_flight, rate: perSecond, nodes, messages, week }) {
  put("work", count(in_flight), ` of ${count(slots)}`, `${rate(perSecond)} done per second on ${plural(nodes, "node")}`);
  const baseline = messages.baseline_per_second > 0;
  put("beats", rate(messages.beats_per_second), " per second", baseline ? `${percent(messages.share)} of one ping per queue per 30 s, which would be ${rate(messages.baseline_per_second)}` : "no nodes to compare with");
  const unclean = week.interrupted + week.aborted;
  put("harm", count(week.interrupted_deliveries), ` ${week.interrupted_deliveries === 1 ? "delivery" : "deliveries"}`, `${plural(week.lost, "worker")} lost, ${count(week.unconfirmed)} settlements unconfirmed`, week.interrupted_deliveries > 0);
  const how = unclean ? `${count(week.interrupted)} interrupted by the deadline, ${count(week.aborted)} aborted` : week.drains ? "every drain ended clean" : "no drain yet";
  put("drains", count(unclean), ` of ${plural(week.drains, "drain")}`, how, unclean > 0);
  put("pace", ...apart(week.duration_p50_ms), "half of them took less");
  put("tail", ...apart(week.duration_p99_ms), "1 in 100 took longer");
}

// "4.2", " s": so that the unit can be set smaller.
function apart(ms) {
  const text = duration(ms);
  const space = text.indexOf(" ");
  return space < 0 || text.indexOf(" ", space + 1) > 0 ? [text, ""] : [text.slice(0, space), text.slice(space)];
}
