// A queue's own page: its figures, its last hour, its dead letters.

import { el, icon, setAttribute, setText } from "./dom.js";
import { andHeld, count, duration, percent, plural, rate, short, visible } from "./format.js";
import { graphs } from "./graphs.js";
import * as letters from "./letters.js";

const FACTS = [
  ["Waiting", (queue) => depth(queue.ready)],
  ["Running", (queue) => (queue.slots ? `${count(queue.running)} of ${plural(queue.slots, "slot")}` : count(queue.running)) + andHeld(queue.on_hold)],
  ["Unacknowledged", (queue) => held(queue)],
  ["Oldest delivery", (queue) => (queue.oldest_ms ? duration(queue.oldest_ms) : "–")],
  ["In", (queue) => perSecond(queue.in_per_second)],
  ["Done", (queue) => perSecond(queue.done_per_second)],
  ["Failing", (queue) => (queue.failing === null ? "–" : `${percent(queue.failing)} of five minutes`)],
  ["Workers", (queue) => `${count(queue.workers)}${queue.consumers === null ? "" : `, ${plural(queue.consumers, "consumer")}`}`],
  ["Retrying", (queue) => depth(queue.retrying)],
  ["Dead", (queue) => `${depth(queue.dead)}${queue.newest_dead ? `, newest read: ${visible(queue.newest_dead.reason) || "no reason"}` : ""}`],
];

const part = { facts: new Map() };

// The broker does not tell it over AMQP: at least what runs or is on hold, at most what the workers' prefetch allows.
const held = ({ running, on_hold: onHold = 0, prefetch }) => (prefetch > running + onHold ? `${count(running + onHold)} to ${count(prefetch)}` : count(running + onHold));
const perSecond = (value) => (value === null ? "–" : `${rate(value)} per second`);
const depth = (of) => (of ? `${count(of.messages)}${of.age_ms > 15_000 ? `, ${short(of.age_ms)} ago` : ""}` : "–");

export function build(root) {
  part.root = root;
  part.title = el("h1", { tabindex: "-1" });
  part.beneath = el("p", { class: "meaning" });
  part.held = el("p", { class: "reason" });
  const facts = FACTS.map(([label]) => {
    const value = el("dd");
    part.facts.set(label, value);
    return el("div", {}, el("dt", { text: label }), value);
  });
  part.graphs = graphs();
  root.append(
    el("p", { class: "back" }, el("a", { href: "#/queues" }, icon("back"), "All queues")),
    el("header", { class: "queue-head" }, part.title, part.beneath, part.held),
    el("dl", { class: "facts" }, ...facts),
    part.graphs.root,
    letters.build(),
  );
}

export function open(name) {
  setText(part.title, visible(name));
  setText(part.beneath, "");
  setText(part.held, "");
  for (const value of part.facts.values()) setText(value, "–");
  part.graphs.show(name);
  letters.open(name);
  part.title.focus({ preventScroll: true });
}

export function close() {
  part.graphs?.show(null);
}

// What is known of the queue now; nothing if the program does not know it.
export function update(queue) {
  letters.refresh();
  if (!queue) return setText(part.beneath, "No worker of the fleet has reported this queue.");
  setText(part.title, visible(queue.title ?? queue.queue));
  setText(part.beneath, [queue.title ? visible(queue.queue) : null, queue.type ? `${visible(queue.type)} queue` : null].filter(Boolean).join(", "));
  const reasons = [queue.problem, ...queue.held.map(({ why }) => why)].filter(Boolean).map(visible);
  setText(part.held, reasons.length ? `Held: ${reasons.join("; ")}.` : "");
  setAttribute(part.held, "data-alarm", Boolean(queue.problem) || (queue.workers === 0 && !queue.consumers));
  for (const [label, of] of FACTS) setText(part.facts.get(label), of(queue));
}
