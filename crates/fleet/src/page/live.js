// Brings the stream of events to this tab: through the worker that all tabs share, or by a connection of its own in
// browsers without shared workers.

import { receive, store, touch } from "./store.js";
import { follow } from "./stream.js";
import { onToken, refused, token } from "./token.js";

const URL_OF_EVENTS = new URL("api/v1/events?figures=watched", location.href).href;

let retry = () => {};
let port = null;

// Ends a wait between two attempts.
export const retryNow = () => retry();

function told(changes) {
  Object.assign(store.connection, changes);
  touch("connection");
}

export function run() {
  addEventListener("online", retryNow);
  if (typeof SharedWorker !== "function") {
    retry = follow({ url: URL_OF_EVENTS, token, deliver: receive, told, refused });
    return;
  }
  share();
  retry = () => port.postMessage({ ...hello(), retry: true });
  // What is live was let in by the token that it has; a new one may be for commands only, or wrong.
  onToken(() => {
    if (store.connection.phase !== "live") share();
  });
  addEventListener("pagehide", (event) => {
    if (!event.persisted) leave();
  });
}

const hello = () => ({ url: URL_OF_EVENTS, token: token() });

function leave() {
  port?.postMessage({ goodbye: true });
  port?.close();
}

// Tabs with different tokens may be allowed to see different things: they share nothing.
function share() {
  leave();
  const worker = new SharedWorker("shared.js", { type: "module", name: `tidegate ${mark(token())}` });
  worker.addEventListener("error", () => told({ phase: "waiting", error: "A part of this page has not arrived: load it again.", retryAt: null }));
  const own = worker.port;
  port = own;
  own.addEventListener("message", ({ data }) => {
    if (own !== port) return;
    if (data.connection) told(data.connection);
    else if (data.refused) refused();
    else receive(data.kind, data.data);
  });
  own.start();
  own.postMessage(hello());
}

// A short word for a token: FNV-1a, which is no secret's hash but tells tokens apart.
function mark(text) {
  let hash = 0x811c9dc5;
  for (const character of text ?? "") hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193) >>> 0;
  return text === null ? "open" : hash.toString(16);
}
