// Commands to all workers that the list shows: confirmed with their number, carried out by the program so many at a time,
// and followed until they end.

import { el, setAttribute, setHidden, setText, byId } from "./dom.js";
import { count, parse, plural, span, visible } from "./format.js";
import { chosen, filtering } from "./choices.js";
import { now, store } from "./store.js";
import { hindrance } from "./words.js";
import { failure } from "./stream.js";
import { headers, keepToken, token } from "./token.js";
import { toast } from "./commands.js";

const COMMANDS = ["drain", "pause", "resume"];
const TITLES = { drain: "Drain", pause: "Pause", resume: "Resume" };
const DOING = { drain: "Draining", pause: "Pausing", resume: "Resuming" };
const EFFECTS = {
  drain: "Each takes nothing new, hands back what has not started, finishes what runs, and ends. It comes back only if its platform starts it again.",
  pause: "Each takes nothing new and finishes what runs. They stay connected until they are resumed.",
  resume: "Each takes deliveries again.",
};
// Names that a confirmation lists.
const NAMED = 6;
const BUSY_MS = 1000;
const IDLE_MS = 10_000;
const PATIENCE_MS = 30_000;

const buttons = new Map();
let asked = null;
let sending = false;
let current = null;
let dismissed = null;
let timer = 0;

export function build() {
  for (const command of COMMANDS) {
    const button = el("button", { type: "button", class: "small", on: { click: () => ask(command) } });
    buttons.set(command, button);
    byId("bulk").append(button);
  }
  byId("bulk-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("bulk-cancel").addEventListener("click", () => byId("bulk-dialog").close());
  byId("bulk-dialog").addEventListener("close", () => (asked = null));
  byId("rollout-stop").addEventListener("click", stop);
  byId("rollout-close").addEventListener("click", () => {
    dismissed = current?.id ?? null;
    drawRollout();
  });
  document.addEventListener("visibilitychange", look);
  look();
}

// The workers of the list that can be given a command now.
const targets = (command) => chosen().filter((worker) => hindrance(worker, command, { commands: true }) === null);

// The list, or who is in it, has changed.
export function draw() {
  const off = !store.summary?.commands;
  setHidden(byId("bulk"), off || store.workers.size === 0);
  if (off) return;
  for (const [command, button] of buttons) {
    const number = targets(command).length;
    setText(button, `${TITLES[command]} ${filtering() ? "" : "all "}${count(number)}…`);
    setAttribute(button, "aria-label", `${button.textContent.trim()} of the workers in the list`);
    setAttribute(button, "aria-disabled", number === 0 ? "true" : null);
  }
}

function ask(command) {
  const workers = targets(command);
  if (!workers.length) return toast(`No worker of the list can be given the command ${command} now.`, "warning");
  asked = { command, workers: workers.map((worker) => worker.id) };
  const number = workers.length;
  setText(byId("bulk-title"), `${TITLES[command]} ${plural(number, "worker")}?`);
  const names = workers.slice(0, NAMED).map((worker) => worker.name);
  setText(byId("bulk-who"), `${filtering() ? "All that match the filter" : "Every worker of the list"}: ${names.join(", ")}${number > NAMED ? ` and ${count(number - NAMED)} more` : ""}.`);
  setText(byId("bulk-text"), EFFECTS[command]);
  setHidden(byId("bulk-replaced-field"), command !== "drain");
  byId("bulk-at-once").value = command === "drain" ? 1 : Math.min(100, number);
  byId("bulk-at-once").max = Math.min(1000, number);
  byId("bulk-replaced").checked = command === "drain";
  byId("bulk-reason").value = "";
  byId("bulk-token").value = "";
  setHidden(byId("bulk-token-field"), token() !== null);
  setHidden(byId("bulk-problem"), true);
  setAttribute(byId("bulk-go"), "data-command", command);
  busy(false);
  byId("bulk-dialog").showModal();
  (token() === null ? byId("bulk-token") : byId("bulk-cancel")).focus();
}

function busy(now) {
  sending = now;
  setAttribute(byId("bulk-go"), "aria-disabled", now ? "true" : null);
  if (asked) setText(byId("bulk-go"), now ? "Sending…" : `${TITLES[asked.command]} ${plural(asked.workers.length, "worker")}`);
}

function problem(text) {
  setText(byId("bulk-problem"), text);
  setHidden(byId("bulk-problem"), false);
}

async function send() {
  if (sending || !asked) return;
  const given = byId("bulk-token").value.trim();
  if (!byId("bulk-token-field").hidden) {
    if (!/^[\x21-\x7e]+$/.test(given)) return problem("The token is missing: it is the one that the fleet program was configured with.");
    keepToken(given);
  }
  const atOnce = Number(byId("bulk-at-once").value);
  if (!Number.isInteger(atOnce) || atOnce < 1) return problem("At a time: a whole number from 1.");
  const { command, workers } = asked;
  const reason = byId("bulk-reason").value.trim();
  const request = { command, workers, max_at_once: Math.min(atOnce, 1000), wait_replaced: command === "drain" && byId("bulk-replaced").checked, ...(reason ? { reason } : {}) };
  busy(true);
  const answer = await post("api/v1/rollouts", request);
  busy(false);
  if (answer.ok) {
    byId("bulk-dialog").close();
    current = answer.body;
    dismissed = null;
    drawRollout();
    return look();
  }
  const wrong = answer.status === 401 || answer.code === "forbidden";
  setHidden(byId("bulk-token-field"), !wrong);
  problem(answer.message);
}

async function post(url, body) {
  try {
    const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json", ...headers() }, body: JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE_MS) });
    return response.ok ? { ok: true, body: await response.json() } : await failure(response);
  } catch {
    return { message: "The fleet program cannot be reached. The command may not have arrived." };
  }
}

async function stop() {
  if (!current) return;
  const answer = await post(`api/v1/rollouts/${encodeURIComponent(current.id)}/stop`, {});
  toast(answer.ok ? "No further worker gets the command. Those under way go on." : answer.message, answer.ok ? "plain" : "warning");
  look();
}

// Asks how the rollout is: often while one is under way.
async function look() {
  clearTimeout(timer);
  if (document.visibilityState === "hidden") return;
  if (store.connection.phase === "live" && store.summary?.commands) {
    try {
      const response = await fetch("api/v1/rollouts", { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (response.ok) current = (await response.json()).rollouts[0] ?? null;
    } catch {
      // The stream of events shows that the program cannot be reached.
    }
    drawRollout();
  }
  clearTimeout(timer);
  const soon = current?.state === "running" || store.connection.phase !== "live";
  timer = setTimeout(look, soon ? BUSY_MS : IDLE_MS);
}

// How a rollout goes, in a sentence, and what ended it.
export function sentence({ command, state, total, done, under_way: busy, max_at_once: atOnce, wait_replaced: waits, error, results }) {
  const workers = plural(total, "worker");
  const far = `${count(done)} of ${count(total)} done`;
  if (state === "running") {
    const how = atOnce < total ? `, ${count(atOnce)} at a time` : "";
    const next = waits ? " The next one follows when another worker of the same name runs." : "";
    return { title: `${DOING[command]} ${workers}${how}.`, text: `${far}, ${count(busy)} under way.${next}${error ? ` ${visible(error)}.` : ""}` };
  }
  if (state === "done") return { title: `${TITLES[command]} of ${workers} is complete.`, text: visible(results?.[0]?.text ?? "") };
  if (state === "stopped") return { title: `${TITLES[command]} of ${workers} was stopped.`, text: `${far}.` };
  return { title: `${TITLES[command]} of ${workers} has ended early: ${far}.`, text: visible(error ?? "") };
}

const lately = (rollout) => rollout.ended_at === null || now() - (parse(rollout.ended_at) ?? 0) < 3_600_000;

function drawRollout() {
  const shown = current && current.id !== dismissed && lately(current);
  setHidden(byId("rollout"), !shown);
  if (!shown) return;
  const { title, text } = sentence(current);
  setText(byId("rollout-title"), title);
  const since = current.ended_at === null ? `Started ${span(now() - (parse(current.started_at) ?? 0))} ago by ${visible(current.by)}.` : "";
  setText(byId("rollout-text"), `${text} ${since}`.trim());
  setAttribute(byId("rollout"), "data-state", current.state);
  setHidden(byId("rollout-stop"), current.state !== "running");
  setHidden(byId("rollout-close"), current.state === "running");
  byId("rollout-bar").max = current.total;
  byId("rollout-bar").value = current.done;
}
