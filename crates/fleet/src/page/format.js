// Numbers, durations and times as the page writes them. Pure.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const fine = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const minutes = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const known = (value) => typeof value === "number" && Number.isFinite(value);

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const count = (value) => (known(value) ? whole.format(value) : NONE);

// "3 held" after the number of what runs; nothing if nothing is on hold.
export const andHeld = (held) => (known(held) && held > 0 ? ` · ${count(held)} held` : "");

// Rates keep three figures that mean something.
export function rate(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  if (value < 1) return hundredths.format(value);
  return value < 100 ? tenths.format(value) : whole.format(value);
}

export function percent(share) {
  if (!known(share)) return NONE;
  const value = share * 100;
  return value > 0 && value < 10 ? `${tenths.format(value)} %` : `${whole.format(value)} %`;
}

// 812 ms, 4.2 s, 48 s, 3 min 20 s, 5 h 10 min, 3 d 4 h.
export function duration(ms) {
  if (!known(ms)) return NONE;
  const value = Math.max(0, ms);
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 9_950) return `${tenths.format(value / 1000)} s`;
  return span(value);
}

// As `duration`, in whole seconds: for what ticks.
export function span(ms) {
  if (!known(ms)) return NONE;
  const seconds = Math.round(Math.max(0, ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return pair(seconds, 60, "min", "s");
  if (seconds < 86_400) return pair(Math.round(seconds / 60), 60, "h", "min");
  return pair(Math.round(seconds / 3600), 24, "d", "h");
}

function pair(value, base, large, small) {
  const rest = value % base;
  const head = `${whole.format(Math.floor(value / base))} ${large}`;
  return rest ? `${head} ${rest} ${small}` : head;
}

// One unit only, for narrow columns.
export function short(ms) {
  if (!known(ms)) return NONE;
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

export function parse(text) {
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : at;
}

// Local time of day, with the day where it is not today's.
export function time(at, now = Date.now()) {
  if (!known(at)) return NONE;
  const date = new Date(at);
  const today = date.toDateString() === new Date(now).toDateString();
  return today ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

export function tick(at, spanMs) {
  const date = new Date(at);
  if (spanMs > 2 * 86_400_000) return day.format(date);
  // Marks less than a second apart.
  if (spanMs < 4000) return fine.format(date);
  return spanMs < 10 * 60_000 ? clock.format(date) : minutes.format(date);
}

export const utc = (at) => (known(at) ? new Date(at).toISOString() : "");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

// Names may hold control and direction characters that would disturb what stands beside them.
export function visible(text) {
  return String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, "\ufffd");
}
