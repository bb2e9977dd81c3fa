// Runs in a SharedWorker: one stream of events for all tabs of a browser, which opens only six connections to a
// server. It keeps the fleet as it was last told, so that a new tab is complete at once.

import { follow } from "./stream.js";

const DRAINS = 200;

const ports = new Set();
const fleet = { summary: null, workers: new Map(), drains: new Map() };
const connection = { phase: "connecting", since: Date.now(), heard: null, error: null, retryAt: null, live: false };
let token = null;
let retryNow = null;

const apply = {
  snapshot(data) {
    fleet.summary = data.summary;
    fleet.workers = new Map(data.workers.map((worker) => [worker.id, worker]));
    fleet.drains = new Map([...data.drains].reverse().map((drain) => [drain.worker, drain]));
  },
  summary: (data) => (fleet.summary = data),
  worker: (data) => fleet.workers.set(data.id, data),
  gone: ({ id }) => fleet.workers.delete(id),
  drain(data) {
    fleet.drains.set(data.worker, data);
    if (fleet.drains.size > DRAINS) fleet.drains.delete(fleet.drains.keys().next().value);
  },
};

function post(message) {
  for (const port of ports) port.postMessage(message);
}

function deliver(kind, data) {
  if (Object.hasOwn(apply, kind)) apply[kind](data);
  post({ kind, data });
}

function told(changes) {
  Object.assign(connection, changes);
  post({ connection: changes });
}

addEventListener("connect", ({ ports: [port] }) => {
  ports.add(port);
  port.addEventListener("message", ({ data }) => {
    if ("token" in data) token = data.token;
    if (data.goodbye) ports.delete(port);
    else if (data.retry) retryNow?.();
    else if (!retryNow) retryNow = follow({ url: data.url, token: () => token, deliver, told, refused: () => post({ refused: true }) });
  });
  port.start();
  if (fleet.summary) {
    const snapshot = { summary: fleet.summary, workers: [...fleet.workers.values()], drains: [...fleet.drains.values()].reverse() };
    port.postMessage({ kind: "snapshot", data: snapshot });
  }
  port.postMessage({ connection });
});
