// The fleet page: the stream comes in, is drawn once per animation frame, and the address says what is shown.

import { setAttribute, setHidden, setText, byId } from "./dom.js";
import { plural, span, time, zone } from "./format.js";
import { PRESENT, listen, store } from "./store.js";
import { choices, read, SORTS, written } from "./choices.js";
import { token } from "./token.js";
import { IN_ROW } from "./words.js";
import * as overview from "./overview.js";
import * as list from "./list.js";
import * as timeline from "./timeline.js";
import * as page from "./page.js";
import * as queues from "./queues.js";
import * as rollouts from "./rollouts.js";
import * as commands from "./commands.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import * as watch from "./watch.js";

const THEMES = ["system", "light", "dark"];
// A screen reader hears of changes together, not one by one.
const ANNOUNCE_MS = 3000;
// An outage shorter than this is no banner: it flickers away before it is read.
const BLINK_MS = 1500;

// When screen readers were last told something, and of which states.
let announced = 0;
let before = null;
// Where the list was left, to come back to.
let place = { hash: "#/", y: 0 };

function route() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const id = /^\/workers\/(.+)$/.exec(path)?.[1];
  const onQueues = queues.route(path);
  setHidden(byId("worker"), !id);
  if (id) {
    let decoded = id;
    try {
      decoded = decodeURIComponent(id);
    } catch {
      // An address typed by hand; the program says that it knows no such worker.
    }
    page.open(decoded, commands.ask);
    scrollTo(0, 0);
  } else if (onQueues) {
    page.close();
    scrollTo(0, 0);
  } else {
    page.close();
    read(query);
    if (byId("filter").value !== choices.text) byId("filter").value = choices.text;
  }
  showMain();
  if (!id && !onQueues) {
    list.rechoose();
    rollouts.draw();
    overview.draw(choices);
    timeline.update(new Set(["drains"]));
    if (location.hash === place.hash) scrollTo(0, place.y);
    list.focusSelected();
  }
}

function showMain() {
  const known = store.summary !== null;
  const onWorker = page.currentId() !== null;
  setHidden(byId("fleet"), !known || onWorker || queues.isOpen());
  setHidden(byId("worker"), !known || !onWorker);
  setHidden(byId("waiting"), known);
  queues.show(known, onWorker);
}

function rewrite() {
  history.replaceState(null, "", written());
  place = { hash: location.hash, y: scrollY };
  list.rechoose();
  rollouts.draw();
  overview.draw(choices);
}

function toggleState(state, only = false) {
  if (only) {
    const alone = choices.states.size === 1 && choices.states.has(state);
    choices.states = new Set(alone ? [] : [state]);
  } else if (!choices.states.delete(state)) {
    choices.states.add(state);
  }
  rewrite();
}

function sortBy(key) {
  if (choices.sort === key) choices.turned = !choices.turned;
  else Object.assign(choices, { sort: key, turned: false });
  rewrite();
}

function clearFilter() {
  choices.states = new Set();
  choices.text = "";
  byId("filter").value = "";
  rewrite();
}

// The connection: how it is, since when, and what happens next.
function drawConnection() {
  const { phase, since, heard, error, retryAt } = store.connection;
  const known = store.summary !== null;
  const away = phase !== "live" && known;
  const stale = away && Date.now() - since > BLINK_MS;
  // Without a broker the program knows nothing new: what it says is as old as what a page says without the program.
  const brokerless = phase === "live" && store.summary?.broker?.connected === false;
  document.documentElement.dataset.live = stale || brokerless ? "no" : phase === "live" ? "yes" : "soon";
  const words = { live: brokerless ? "No broker" : "Live", connecting: "Connecting", waiting: known ? "Not connected" : "Connecting", unauthorised: "Token needed" };
  setText(byId("pulse-text"), words[phase]);
  setText(byId("pulse-time"), phase === "live" && heard ? time(heard) : "");
  // Said once, where the banner counts on each second.
  if (stale === byId("stale").hidden) {
    setText(byId("announce"), stale ? "Not connected. What is shown is old." : "Connected again.");
    announced = performance.now();
  }
  setHidden(byId("stale"), !stale);
  const next = retryAt === null ? "Trying now…" : `Next try in ${span(Math.max(0, retryAt - Date.now()))}.`;
  if (stale) {
    setText(byId("stale-title"), phase === "unauthorised" ? "The fleet program wants a token." : `Not connected since ${time(since)}, for ${span(Date.now() - since)}.`);
    setText(byId("stale-text"), `What you see is from then. ${error ?? ""}`.trim());
    setText(byId("stale-next"), phase === "unauthorised" ? "" : next);
    setText(byId("stale-retry"), phase === "unauthorised" ? "Enter the token" : "Try now");
  }
  drawBroker(phase === "live" ? store.summary?.broker : null);
  if (!known) drawWaiting(phase, error, next);
  setAttribute(byId("token-button"), "data-kept", token() !== null);
  setAttribute(byId("token-button"), "aria-label", token() === null ? "Token: none in this tab" : "Token: kept in this tab");
  const off = store.summary && !store.summary.commands;
  setHidden(byId("commands-off"), !off);
  if (off) setText(byId("commands-off"), "Commands are off: the fleet program has no token configured.");
}

// What stands between the program and the broker; without a broker it knows nothing new.
function drawBroker(broker) {
  const connected = broker?.connected !== false;
  const whole = connected && broker?.caught_up !== false;
  setHidden(byId("brokerless"), !broker || whole);
  setText(byId("brokerless-title"), connected ? "The fleet program is still reading its log." : "The fleet program has no connection to the broker.");
  setText(byId("brokerless-text"), connected ? "Workers may be missing until it has read it all." : "What you see is from before. Nothing new is known until it is back, and commands reach nobody.");
}

function drawWaiting(phase, error, next) {
  const needsToken = phase === "unauthorised";
  const failed = error !== null;
  setText(byId("waiting-title"), needsToken ? "This fleet is shown to those who have its token" : failed ? "The fleet program does not answer" : "Asking the fleet program");
  setText(byId("waiting-text"), needsToken ? (error ?? "") : failed ? `${error} ${next}` : "The first answer brings the whole fleet.");
  setHidden(byId("waiting-skeleton"), failed);
  setHidden(byId("waiting-retry"), !failed || needsToken);
  setHidden(byId("waiting-token"), !needsToken);
  document.title = failed ? "No answer · Tidegate" : "Tidegate fleet";
}

function drawFoot() {
  const { program, broker } = store.summary;
  const events = broker?.events ? "broker events show a crash at once" : "without broker events a crash shows within 90 s";
  setText(byId("foot"), `tidegate fleet ${program?.version ?? ""}, ${events}. Times are in ${zone}.`);
}

// What changed, said to screen readers.
function announce() {
  if (performance.now() - announced < ANNOUNCE_MS || !store.summary) return;
  const states = new Map([...store.workers.values()].map((worker) => [worker.id, worker.state]));
  const moved = new Map();
  if (before) {
    for (const [id, state] of states) {
      if (before.get(id) === state || (!before.has(id) && !PRESENT.has(state))) continue;
      moved.set(state, [...(moved.get(state) ?? []), store.workers.get(id).name]);
    }
  }
  before = states;
  if (!moved.size) return;
  announced = performance.now();
  const parts = [...moved].map(([state, names]) => `${names.length > 2 ? plural(names.length, "worker") : names.join(" and ")} ${state}`);
  setText(byId("announce"), `${parts.join("; ")}.`);
}

function theme(next) {
  const root = document.documentElement;
  const current = root.dataset.theme ?? "system";
  const chosen = next ?? THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
  if (chosen === "system") delete root.dataset.theme;
  else root.dataset.theme = chosen;
  try {
    if (chosen === "system") localStorage.removeItem("tidegate.theme");
    else localStorage.setItem("tidegate.theme", chosen);
  } catch {
    // It holds until the page is left.
  }
  const word = chosen[0].toUpperCase() + chosen.slice(1);
  setText(byId("theme-text"), word);
  setAttribute(byId("theme-button"), "aria-label", `Theme: ${word}`);
  setAttribute(byId("theme-button"), "title", `Theme: ${word} (t)`);
}

function pressed(key, field) {
  if (key === "Escape") return escape(field);
  if (key === "?") return byId("help").showModal() ?? true;
  if (key === "t") return theme() ?? true;
  const id = page.currentId() ?? (queues.isOpen() ? null : list.selectedId());
  if (key === "d" && id) return commands.ask("drain", id) ?? true;
  if (key === "p" && id) return commands.ask(store.workers.get(id)?.state === "paused" ? "resume" : "pause", id) ?? true;
  if (queues.isOpen()) return queues.pressed(key);
  if (page.currentId() !== null || byId("fleet").hidden) return false;
  return onList(key);
}

function onList(key) {
  const moves = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
  // Arrows scroll the page until a worker is chosen.
  if (Object.hasOwn(moves, key) && (key.length === 1 || list.selectedId() !== null)) return list.move(moves[key]) ?? true;
  if (key === "Home" && list.selectedId()) return list.focusRow(0) ?? true;
  if (key === "End" && list.selectedId()) return list.focusRow(list.last()) ?? true;
  if (key === "Enter" && list.selectedId()) return list.openSelected() ?? true;
  if (key === "x" && list.selectedId()) return list.toggle(list.selectedId()) ?? true;
  if (key === "/") {
    byId("filter").focus();
    byId("filter").select();
    return true;
  }
  if (key === "0") return clearFilter() ?? true;
  if (/^[1-7]$/.test(key)) return toggleState(IN_ROW[Number(key) - 1], true) ?? true;
  if (key === "s") {
    const index = SORTS.findIndex(([name]) => name === choices.sort);
    sortBy(SORTS[(index + 1) % SORTS.length][0]);
    setText(byId("announce"), `Sorted by ${SORTS[(index + 1) % SORTS.length][1].toLowerCase()}.`);
    return true;
  }
  return false;
}

function escape(field) {
  if (field) {
    field.blur();
    if (field === byId("filter")) list.focusSelected();
    return true;
  }
  if (queues.isOpen()) return queues.back();
  if (page.currentId() === null) return false;
  list.choose(page.currentId());
  location.hash = place.hash;
  return true;
}

// Whether what is shown is how things are now. Else its clocks stand still.
const isCurrent = () => store.summary?.broker?.connected !== false && store.connection.phase === "live";

function second() {
  drawConnection();
  announce();
  if (!isCurrent()) return;
  if (queues.isOpen()) return;
  if (page.currentId() === null) {
    overview.draw(choices);
    list.clock();
    timeline.clock();
  } else {
    page.clock();
  }
}

function start() {
  theme(document.documentElement.dataset.theme ?? "system");
  overview.build((state) => toggleState(state));
  list.build(commands.ask, sortBy);
  timeline.build();
  commands.build();
  queues.build();
  rollouts.build();
  keys.build();
  keys.listen(pressed);
  byId("theme-button").addEventListener("click", () => theme());
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("stale-retry").addEventListener("click", () => (store.connection.phase === "unauthorised" ? commands.askToken() : live.retryNow()));
  byId("waiting-retry").addEventListener("click", live.retryNow);
  byId("waiting-token").addEventListener("click", commands.askToken);
  byId("none-clear").addEventListener("click", clearFilter);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  byId("filter").addEventListener("input", () => {
    choices.text = byId("filter").value;
    rewrite();
  });
  byId("sort").addEventListener("change", () => sortBy(byId("sort").value));
  addEventListener("scroll", () => {
    if (page.currentId() === null && !queues.isOpen()) place = { hash: location.hash || "#/", y: scrollY };
  }, { passive: true });
  addEventListener("hashchange", route);
  listen((changes) => list.still(() => drawn(changes)));
  route();
  setInterval(() => list.still(second), 1000);
  watch.start();
  live.run();
}

function drawn(changes) {
  if (changes.has("connection") || changes.has("summary")) drawConnection();
  if (!store.summary) return;
  showMain();
  if (changes.has("summary")) drawFoot();
  if (changes.has("workers")) commands.update();
  if (queues.isOpen()) return;
  if (page.currentId() !== null) return page.update(changes);
  if (changes.has("summary") || changes.has("moved")) overview.draw(choices);
  list.update(changes);
  if (changes.has("moved") || changes.has("summary")) rollouts.draw();
  timeline.update(changes);
}

start();
