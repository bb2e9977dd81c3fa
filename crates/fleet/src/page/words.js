// The states, outcomes, steps and commands in words.

// The states as the water stands in the gate: what works left, what leaves and what is missing right.
export const IN_ROW = ["running", "starting", "paused", "draining", "silent", "lost", "stopped"];

export const MEANINGS = {
  running: "It takes deliveries.",
  starting: "It has said that it starts, and does not take deliveries yet.",
  paused: "It takes no new deliveries until it is resumed.",
  draining: "It takes nothing new, has handed back what had not started, and finishes what runs. It will end by its deadline.",
  stopped: "It ended by itself and left a report.",
  silent: "Its lease ran out and it answers nothing, but its connection still stands: it may hang.",
  lost: "It is gone without a report: killed, crashed, or cut off. The broker delivers again what it had.",
};

// In the order in which they happen.
export const STEPS = [
  ["cancel", "cancel consumers"],
  ["hand_back", "hand back unstarted"],
  ["finish", "finish running"],
  ["interrupt", "interrupt the rest"],
  ["settle", "settle and close"],
  ["release", "release handlers"],
];

// How a drain can end, and the picture of it.
export const OUTCOMES = { clean: "clean", unconfirmed: "unconfirmed", interrupted: "interrupted", aborted: "aborted", failed: "aborted" };

const ENDED = { stopped: "it has stopped", lost: "it is lost" };

// Why a worker cannot be given a command now; null where it can.
export function hindrance(worker, command, summary) {
  if (summary && !summary.commands) return "commands are off, because the fleet program has no token configured";
  if (!worker) return "there is no such worker";
  if (ENDED[worker.state]) return ENDED[worker.state];
  if (worker.state === "draining") return command === "drain" ? "it is draining already" : "it is draining, and will not come back";
  if (command === "pause" && worker.state === "paused") return "it is paused already";
  if (command === "resume" && worker.state === "running") return "it is running already";
  return null;
}

// What a command will do, for the confirmation.
export function consequence(worker, command) {
  const busy = worker.inFlight === 1 ? "the delivery that runs finish" : `the ${worker.inFlight} deliveries that run finish`;
  const running = worker.inFlight ? `lets ${busy}` : "has nothing running";
  switch (command) {
    case "drain":
      return `It takes nothing new, hands back what has not started, ${running}, and ends. It comes back only if its platform starts it again.`;
    case "pause":
      return `It takes nothing new and ${running}. It stays connected until it is resumed.`;
    default:
      return "It takes deliveries again.";
  }
}

// What a delivery on hold is.
export const ON_HOLD = "On hold: started, and waiting for something without using a slot";
