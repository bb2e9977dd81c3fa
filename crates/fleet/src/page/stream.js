// The stream of events from the program, without a page: read with fetch rather than EventSource, which can send no
// token and hides why it failed. It reconnects for ever, with waits that grow.

import { sentence } from "./format.js";

// The program says something at least every 15 s; this long without a byte means that nobody is there.
const QUIET_MS = 40_000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 10_000];

// Follows the stream. `token()` gives the token or null, `deliver(kind, data)` takes each event, `told(changes)` each
// change of the connection. What it returns ends a wait between two attempts.
export function follow({ url, token, deliver, told, refused = () => {} }) {
  const state = { failures: 0, wake: null, phase: "connecting", since: Date.now(), heard: null, live: false };
  const tell = (changes) => {
    Object.assign(state, changes);
    told(changes);
  };
  run(state, { url, token, deliver, tell, refused });
  return function retryNow() {
    state.failures = 0;
    state.wake?.();
  };
}

async function run(state, { url, token, deliver, tell, refused }) {
  for (;;) {
    const error = await attempt(state, { url, token, deliver, tell });
    // "Since" is when it was last heard, not when the loss was seen.
    const lost = state.phase === "live" ? (state.heard ?? Date.now()) : state.since;
    if (error.status === 401 || error.status === 403) {
      refused();
      tell({ phase: "unauthorised", since: lost, error: error.message, retryAt: null });
      await pause(state, null);
      tell({ phase: state.live ? "waiting" : "connecting" });
      continue;
    }
    const wait = WAITS_MS[Math.min(state.failures, WAITS_MS.length - 1)] * (0.8 + Math.random() * 0.4);
    state.failures += 1;
    tell({ phase: "waiting", since: lost, error: error.message, retryAt: Date.now() + wait });
    await pause(state, wait);
    tell({ retryAt: null });
  }
}

function pause(state, ms) {
  return new Promise((resolve) => {
    const timer = ms === null ? 0 : setTimeout(resolve, ms);
    state.wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

// One connection, from its opening to its end; what ended it.
async function attempt(state, { url, token, deliver, tell }) {
  const control = new AbortController();
  let quiet = setTimeout(() => control.abort(), QUIET_MS);
  const heard = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => control.abort(), QUIET_MS);
    state.heard = Date.now();
  };
  try {
    const given = token();
    const response = await fetch(url, {
      headers: { accept: "text/event-stream", ...(given ? { authorization: `Bearer ${given}` } : {}) },
      cache: "no-store",
      signal: control.signal,
    });
    if (!response.ok) return await failure(response);
    const parser = new Parser((kind, data) => {
      deliver(kind, data);
      tell({ heard: state.heard });
      if (kind === "snapshot") {
        state.failures = 0;
        tell({ phase: "live", since: Date.now(), error: null, retryAt: null, live: true });
      }
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { message: "The fleet program closed the connection." };
      heard();
      parser.push(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    return { message: control.signal.aborted ? "The fleet program went silent." : readable(error) };
  } finally {
    clearTimeout(quiet);
    control.abort();
  }
}

// Browsers word a refused connection each in their own way.
function readable(error) {
  if (error instanceof SyntaxError) return `The fleet program sent something that cannot be read: ${error.message}`;
  return "The fleet program cannot be reached.";
}

// What an answer other than 2xx says.
export async function failure(response) {
  let code = null;
  let message = `The fleet program answered ${response.status} ${response.statusText}`.trim();
  try {
    const body = await response.json();
    // A worker's refusal is an answer with its own words.
    const words = body?.error?.message ?? body?.error;
    if (typeof words === "string") message = sentence(words);
    code = body?.error?.code ?? null;
  } catch {
    // A proxy in between answers in its own words; the status says enough.
  }
  return { status: response.status, code, message };
}

// Server-sent events out of pieces of text (HTML standard, "Interpreting an event stream"). A line may come in
// thousands of pieces: they are joined once, at its end.
export class Parser {
  constructor(deliver) {
    this.deliver = deliver;
    this.pieces = [];
    this.kind = "";
    this.data = [];
  }

  push(text) {
    let from = 0;
    for (;;) {
      const end = text.indexOf("\n", from);
      if (end < 0) break;
      this.pieces.push(text.slice(from, end));
      this.line(this.pieces.join(""));
      this.pieces = [];
      from = end + 1;
    }
    if (from < text.length) this.pieces.push(text.slice(from));
  }

  line(ended) {
    const line = ended.endsWith("\r") ? ended.slice(0, -1) : ended;
    if (line === "") {
      if (this.data.length) this.deliver(this.kind || "message", JSON.parse(this.data.join("\n")));
      this.kind = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") this.kind = value;
    else if (field === "data") this.data.push(value);
  }
}
