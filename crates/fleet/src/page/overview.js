// The top of the fleet: one sentence, the gate, the states as filters, and the figures.

import { el, icon, setText, setAttribute, setHidden, byId } from "./dom.js";
import { count, duration, percent, plural, rate, short } from "./format.js";
import { IN_ROW, MEANINGS } from "./words.js";
import { situation, tab, verdict } from "./verdict.js";
import { now, store } from "./store.js";
import { FRESH_MS } from "./row.js";

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
  const facts = situation([...store.workers.values()], store.drains, now());
  for (const state of IN_ROW) {
    const number = states[state] ?? 0;
    const part = parts.get(state);
    if (part) {
      // Only what was lost lately and has no successor is missing.
      const share = state === "lost" ? facts.lost.length : number;
      setHidden(part, share === 0);
      part.style.flexGrow = share;
    }
    const { button, number: shown } = buttons.get(state);
    setText(shown, count(number));
    setAttribute(button, "data-none", number === 0);
    setAttribute(button, "aria-pressed", filter.states.has(state) ? "true" : "false");
  }
  setAttribute(byId("gate"), "aria-label", IN_ROW.map((state) => `${count(states[state] ?? 0)} ${state}`).join(", "));
  const { title, more, alarm } = verdict(states, facts, now());
  setText(byId("verdict"), title);
  setText(byId("verdict-more"), more);
  setAttribute(byId("verdict"), "data-alarm", alarm);
  document.title = `${tab(states, facts)} · Tidegate`;
  // An empty fleet has no figures yet, and nothing to draw.
  const fresh = total === 0 && summary.week.drains === 0;
  setHidden(byId("figures-block"), fresh);
  setHidden(byId("drains"), fresh);
  numbers(summary);
}

function numbers({ slots, in_flight, rate: perSecond, nodes, messages, week, figures_age_ms: oldest }) {
  const old = oldest > FRESH_MS ? `; figures up to ${short(oldest)} old` : "";
  put("work", count(in_flight), ` of ${count(slots)}`, `${rate(perSecond)} done per second on ${plural(nodes, "node")}${old}`);
  const baseline = messages.baseline_per_second > 0;
  put("beats", rate(messages.beats_per_second), " per second", baseline ? `with states ${percent(messages.share)} of one ping per queue per 30 s, which would be ${rate(messages.baseline_per_second)}` : "no nodes to compare with");
  const kinds = [[week.interrupted, "cut off by the deadline"], [week.aborted, "aborted"], [week.failed, "failed"], [week.unconfirmed_drains, "unconfirmed"]];
  const unclean = week.drains - week.clean;
  put("harm", count(week.interrupted_deliveries), ` ${week.interrupted_deliveries === 1 ? "delivery" : "deliveries"}`, `${plural(week.lost, "worker")} lost, ${count(week.unconfirmed)} settlements unconfirmed`, week.interrupted_deliveries > 0);
  const how = unclean ? kinds.filter(([number]) => number).map(([number, word]) => `${count(number)} ${word}`).join(", ") : week.drains ? "every drain ended clean" : "no drain yet";
  put("drains", count(unclean), ` of ${plural(week.drains, "drain")}`, how, unclean > 0);
  put("pace", ...apart(week.duration_p50_ms), halves(week.drains));
  put("tail", ...apart(week.duration_p99_ms), week.drains > 1 ? "of 100 drains, 99 were quicker" : halves(week.drains));
}

const halves = (drains) => (drains > 1 ? "half of them took longer" : drains === 1 ? "of the one drain" : "no drain yet");

// "4.2", " s": so that the unit can be set smaller.
function apart(ms) {
  const text = duration(ms);
  const space = text.indexOf(" ");
  return space < 0 || text.indexOf(" ", space + 1) > 0 ? [text, ""] : [text.slice(0, space), text.slice(space)];
}
