// Drain, pause and resume: asked for, confirmed, sent with the token, and their answers told.

import { el, setHidden, setText, setAttribute, byId } from "./dom.js";
import { sentence } from "./format.js";
import { store, touch } from "./store.js";
import { consequence, hindrance } from "./words.js";
import { headers, keepToken, refused, token } from "./token.js";
import { retryNow } from "./live.js";
import { failure } from "./stream.js";

const TITLES = { drain: "Drain", pause: "Pause", resume: "Resume" };
// The program waits a few seconds for the worker's reply; longer than this nobody answers.
const PATIENCE_MS = 30_000;
const TOAST_MS = 8000;

let asked = null;
let sending = false;

export function build() {
  byId("command-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("command-cancel").addEventListener("click", () => byId("command").close());
  byId("command").addEventListener("close", () => (asked = null));
  byId("token-button").addEventListener("click", askToken);
  byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
  byId("token-forget").addEventListener("click", () => {
    refused();
    byId("token-dialog").close();
    toast("The token is forgotten.");
  });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!take("token-input", "token-problem")) return;
    byId("token-dialog").close();
    if (store.connection.phase === "unauthorised") retryNow();
    else toast("The token is kept in this tab.");
  });
}

// Opens the dialog, or says why the command cannot be given.
export function ask(command, id) {
  const worker = store.workers.get(id);
  const reason = hindrance(worker, command, store.summary);
  if (reason) return toast(`${TITLES[command]} ${worker?.name ?? ""}: ${reason}.`, "warning");
  asked = { command, id };
  setText(byId("command-title"), `${TITLES[command]} ${worker.name}?`);
  setText(byId("command-id"), worker.id);
  setText(byId("command-text"), consequence(worker, command));
  setText(byId("command-go"), TITLES[command]);
  setAttribute(byId("command-go"), "data-command", command);
  setHidden(byId("command-token-field"), token() !== null);
  setHidden(byId("command-problem"), true);
  byId("command-reason").value = "";
  byId("command-token").value = "";
  busy(false);
  byId("command").showModal();
  (token() === null ? byId("command-token") : byId("command-cancel")).focus();
}

// A worker that has ended takes no command: its question is closed, and the reason told.
export function update() {
  if (!asked || sending) return;
  const worker = store.workers.get(asked.id);
  if (worker && worker.state !== "lost" && worker.state !== "stopped") {
    setText(byId("command-text"), consequence(worker, asked.command));
    return;
  }
  const { command } = asked;
  byId("command").close();
  toast(`${worker?.name ?? "The worker"} ${worker ? (worker.state === "lost" ? "is lost" : "has stopped") : "is gone"}: ${command} was not sent.`, "warning");
}

function busy(now) {
  sending = now;
  setAttribute(byId("command-go"), "aria-disabled", now ? "true" : null);
  if (asked) setText(byId("command-go"), now ? "Waiting for the worker…" : TITLES[asked.command]);
}

function problem(id, text) {
  setText(byId(id), text);
  setHidden(byId(id), false);
}

// Takes the token out of a field; false where it cannot be one.
function take(field, complaint) {
  const value = byId(field).value.trim();
  if (!value) {
    problem(complaint, "The token is missing: it is the one that the fleet program was configured with.");
  } else if (!/^[\x21-\x7e]+$/.test(value)) {
    problem(complaint, "A token has only letters, digits and punctuation of ASCII, without spaces.");
  } else {
    keepToken(value);
    byId(field).value = "";
    return true;
  }
  byId(field).focus();
  return false;
}

async function send() {
  if (sending || !asked) return;
  const { command, id } = asked;
  if (!byId("command-token-field").hidden && !take("command-token", "command-problem")) return;
  setHidden(byId("command-token-field"), true);
  setHidden(byId("command-problem"), true);
  busy(true);
  const reason = byId("command-reason").value.trim();
  const answer = await post(command, id, reason);
  // The dialog may have been closed, or have another question by now.
  const still = asked?.command === command && asked?.id === id;
  if (still) busy(false);
  const name = store.workers.get(id)?.name ?? id;
  if (answer.ok) {
    if (still) byId("command").close();
    return toast(`${name}: ${answer.phase ? `now ${answer.phase}` : `${command} accepted`}.`);
  }
  // The token stays until another takes its place: it may be good for reading.
  const wrong = answer.status === 401 || answer.code === "forbidden";
  if (wrong) setHidden(byId("command-token-field"), false);
  if (!still) return toast(`${TITLES[command]} ${name}: ${answer.message}`, "warning");
  problem("command-problem", answer.message);
  if (answer.code !== "no_answer" && !wrong) update();
  if (wrong) byId("command-token").focus();
}

async function post(command, id, reason) {
  try {
    const response = await fetch(`api/v1/workers/${encodeURIComponent(id)}/${command}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers() },
      body: JSON.stringify(reason ? { reason } : {}),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!response.ok) return await failure(response);
    const answer = await response.json();
    if (answer.ok === false) return { message: sentence(answer.error ?? "the worker refused") };
    return { ok: true, phase: answer.phase };
  } catch (error) {
    const late = error.name === "TimeoutError";
    return { message: late ? "No answer came. The command may have been carried out: watch the worker." : "The fleet program cannot be reached. The command may not have arrived: watch the worker." };
  }
}

export function askToken() {
  const has = token() !== null;
  setText(byId("token-state"), has ? "This tab has a token. A new one replaces it." : "Commands need the token that the fleet program was configured with.");
  setHidden(byId("token-forget"), !has);
  setHidden(byId("token-problem"), true);
  byId("token-input").value = "";
  byId("token-dialog").showModal();
  byId("token-input").focus();
}

// A message that goes by itself, and is read out.
export function toast(text, kind = "plain") {
  const box = el("div", { class: `toast ${kind}`, text });
  byId("toasts").append(box);
  while (byId("toasts").children.length > 4) byId("toasts").firstChild.remove();
  setTimeout(() => box.remove(), TOAST_MS);
  touch("connection");
}
