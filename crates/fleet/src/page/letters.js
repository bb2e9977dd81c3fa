// The dead letters of a queue: read when asked for, listed by reason, looked at one by one, replayed and dropped after a
// confirmation with their number.

import { el, setAttribute, setHidden, setText, byId } from "./dom.js";
import { count, parse, plural, time, utc, visible } from "./format.js";
import { store } from "./store.js";
import { failure } from "./stream.js";
import { headers, token } from "./token.js";
import { askToken, toast } from "./commands.js";

const LISTED = 100;
// A value with more characters has a line of its own.
const LONG = 60;
// A pass takes ten seconds at most.
const PATIENCE_MS = 30_000;
const EFFECTS = {
  replay: "Each is sent to where it came from, as it was before it died, and removed here when the broker has confirmed it. Its attempts count from 1 again.",
  drop: "They are removed for good. Nothing keeps a copy.",
};

let shown = null;
// Whether dead letters are on, as it was drawn; null while that is not known.
let drawnOn = null;
let asked = null;

const part = {};

export function build() {
  byId("letters-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("letters-cancel").addEventListener("click", () => byId("letters-dialog").close());
  byId("letters-dialog").addEventListener("close", () => (asked = null));
  part.read = el("button", { type: "button", class: "small", on: { click: () => load(shown?.reason ?? null) } }, "Read the dead letters");
  part.replay = el("button", { type: "button", class: "small", on: { click: () => ask("replay") } });
  part.drop = el("button", { type: "button", class: "small", on: { click: () => ask("drop") } });
  part.state = el("p", { class: "quiet-text", role: "status" });
  part.reasons = el("div", { class: "choices reasons", role: "group", "aria-label": "Only letters with this reason" });
  part.rows = el("ol", { class: "letters" });
  part.box = el("section", { class: "block", "aria-label": "Dead letters" }, el("div", { class: "block-head" }, el("h2", { text: "Dead letters" }), part.reasons), el("p", { class: "letter-acts" }, part.read, part.replay, part.drop), part.state, part.rows);
  return part.box;
}

// Shows the dead letters of `queue`, none of which are read yet.
export function open(queue) {
  shown = { queue, reason: null, list: null };
  draw();
}

// The program has said something new: what is drawn may depend on it.
export function refresh() {
  if (shown && isOn() !== drawnOn) draw();
}

const isOn = () => (store.summary ? store.summary.dead_letters === true : null);

const path = (rest = "") => `api/v1/queues/${encodeURIComponent(shown.queue)}/dead${rest}`;

async function get(url, options = {}) {
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS), ...options, headers: { ...headers(), ...options.headers } });
    return response.ok ? { ok: true, body: await response.json() } : await failure(response);
  } catch {
    return { message: "The fleet program cannot be reached, or takes too long." };
  }
}

async function load(reason) {
  if (token() === null) return askToken();
  const wanted = shown;
  setText(part.state, "Reading…");
  const answer = await get(path(`?limit=${LISTED}${reason === null ? "" : `&reason=${encodeURIComponent(reason)}`}`));
  if (wanted !== shown) return;
  if (!answer.ok && answer.status === 404) Object.assign(shown, { list: { waiting: 0, seen: 0, reasons: {}, letters: [], warnings: [] }, reason });
  else if (answer.ok) Object.assign(shown, { list: answer.body, reason });
  draw();
  if (!answer.ok && answer.status !== 404) setText(part.state, answer.message);
}

// How many letters a command would be about.
const number = () => (shown.reason === null ? shown.list.seen : (shown.list.reasons[shown.reason] ?? 0));

function draw() {
  const { list, reason } = shown;
  const on = isOn();
  drawnOn = on;
  setHidden(part.read, !on);
  for (const command of ["replay", "drop"]) {
    setHidden(part[command], !list || number() === 0);
    if (list) setText(part[command], `${command === "replay" ? "Replay" : "Drop"} ${plural(number(), "letter")}…`);
  }
  setText(part.read, list ? "Read them again" : "Read the dead letters");
  if (on === null) setText(part.state, "");
  else if (!on) setText(part.state, "They are not shown here: fleet.dead_letters is off. In a terminal: tidegate dead list.");
  else if (!list) setText(part.state, "Reading takes each letter out of its queue for a moment, and puts it back.");
  else if (list.seen === 0) setText(part.state, "There are no dead letters.");
  else {
    const beyond = list.waiting > list.seen ? ` Only the first ${count(list.seen)} of ${count(list.waiting)} were read.` : "";
    const more = number() > list.letters.length ? `The first ${count(list.letters.length)} of ${plural(number(), "letter")}.` : `${plural(list.letters.length, "letter")}.`;
    setText(part.state, `${more}${beyond} ${list.warnings?.map(visible).join(" ") ?? ""}`.trim());
  }
  const reasons = Object.entries(list?.reasons ?? {}).sort((a, b) => b[1] - a[1]);
  part.reasons.replaceChildren(...reasons.map(([name, letters]) => el("button", { type: "button", class: "small", "aria-pressed": reason === name ? "true" : "false", on: { click: () => load(reason === name ? null : name) } }, `${visible(name) || "no reason"} ${count(letters)}`)));
  part.rows.replaceChildren(...(list?.letters ?? []).map(row));
}

function row(letter) {
  const at = parse(letter.at);
  const inside = el("div", { class: "letter-inside" });
  const details = el("details", {}, el("summary", {}, el("strong", { text: visible(letter.reason ?? "no reason") }), el("time", { datetime: utc(at), title: utc(at), text: at === null ? "" : time(at) }), el("span", { class: "error", text: visible(letter.error ?? "") })), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.childElementCount) look(letter, inside);
  });
  return el("li", { "data-letter": letter.letter }, details);
}

async function look(letter, inside) {
  inside.replaceChildren(el("p", { class: "quiet-text", text: "Reading…" }));
  const answer = await get(path(`/${encodeURIComponent(letter.letter)}`));
  if (!answer.ok) return inside.replaceChildren(el("p", { class: "problem", text: answer.message }));
  const it = answer.body;
  const facts = [["Message id", it.id], ["Attempts", it.attempts], ["Worker", it.worker], ["A replay goes to", it.exchange ? `exchange ${it.exchange}, key ${it.routing_key}` : `queue ${it.routing_key}`], ["Body", `${count(it.body_bytes)} bytes`]];
  const known = facts.filter(([, value]) => value !== undefined && value !== null);
  const body = it.body ?? it.body_base64 ?? "";
  const act = (command, word) => el("button", { type: "button", class: "small", on: { click: () => ask(command, letter) } }, word);
  inside.replaceChildren(
    pairs(known),
    el("h3", { text: "Properties" }), pairs(Object.entries(it.properties ?? {})),
    el("h3", { text: "Headers" }), pairs(Object.entries(it.headers ?? {})),
    el("h3", { text: it.body === undefined ? "Body, in base64" : "Body" }), el("pre", { tabindex: "0", text: bodyText(body) }),
    ...(it.truncated ? [el("p", { class: "quiet-text", text: "Only the beginning is shown." })] : []),
    el("p", { class: "letter-acts" }, act("replay", "Replay this letter…"), act("drop", "Drop this letter…")),
  );
}

function pairs(entries) {
  const parts = entries.map(([name, value]) => {
    const text = visible(typeof value === "string" ? value : JSON.stringify(value));
    return el("div", text.length > LONG ? { class: "long" } : {}, el("dt", { text: visible(name) }), text === "" ? el("dd", { "data-none": "", text: "empty" }) : el("dd", { text }));
  });
  return el("dl", { class: "facts" }, ...parts);
}

// Lines stay lines; what would command or hide something does not.
const bodyText = (text) => text.split(/([\n\t])/).map((piece) => (piece === "\n" || piece === "\t" ? piece : visible(piece))).join("");

function ask(command, letter = null) {
  if (token() === null) return askToken();
  const letters = letter ? 1 : number();
  asked = { command, queue: shown.queue, request: { limit: letters, ...(letter ? { letters: [letter.letter] } : shown.reason === null ? {} : { reasons: [shown.reason] }) } };
  const word = command === "replay" ? "Replay" : "Drop";
  setText(byId("letters-title"), `${word} ${plural(letters, "dead letter")}?`);
  setText(byId("letters-who"), `Of ${visible(shown.queue)}${letter ? `, ${visible(letter.id ?? "without an id")}` : shown.reason === null ? "" : `, with reason ${visible(shown.reason)}`}.`);
  setText(byId("letters-text"), EFFECTS[command]);
  setText(byId("letters-go"), `${word} ${plural(letters, "letter")}`);
  setAttribute(byId("letters-go"), "data-command", command === "drop" ? "drain" : null);
  setAttribute(byId("letters-go"), "aria-disabled", null);
  setHidden(byId("letters-problem"), true);
  byId("letters-dialog").showModal();
  byId("letters-cancel").focus();
}

// What a command did, in a sentence.
export function told(report) {
  const parts = [[report.replayed + report.finished + report.twins, "replayed"], [report.dropped, "dropped"], [report.failed, "failed and left"], [report.in_doubt, "in doubt and left"]].filter(([letters]) => letters);
  const what = parts.length ? parts.map(([letters, word]) => `${count(letters)} ${word}`).join(", ") : "nothing was there any more";
  const why = report.error ?? report.faults?.[0]?.error;
  return `${visible(report.dead_queue)}: ${what}.${why ? ` ${visible(why)}.` : ""}`;
}

async function send() {
  if (!asked || byId("letters-go").getAttribute("aria-disabled") === "true") return;
  const { command, queue, request } = asked;
  setAttribute(byId("letters-go"), "aria-disabled", "true");
  const answer = await get(`api/v1/queues/${encodeURIComponent(queue)}/dead/${command}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(request) });
  setAttribute(byId("letters-go"), "aria-disabled", null);
  if (!answer.ok) {
    setText(byId("letters-problem"), answer.message);
    return setHidden(byId("letters-problem"), false);
  }
  byId("letters-dialog").close();
  toast(told(answer.body), answer.body.failed || answer.body.in_doubt || answer.body.error ? "warning" : "plain");
  if (shown?.queue === queue) load(shown.reason);
}
