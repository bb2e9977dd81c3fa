// The token, for commands and where reading needs one: in this tab's session storage, nowhere else.

import { touch } from "./store.js";

const KEY = "tidegate.token";

export function token() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

let changed = () => {};

// Calls `listener` when this tab's token has changed.
export function onToken(listener) {
  changed = listener;
}

export function keepToken(value) {
  const before = token();
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Without storage it is asked for each time.
  }
  touch("connection");
  if (token() !== before) changed();
}

// The program did not take it.
export function refused() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // There was none.
  }
  touch("connection");
}

export function headers() {
  const value = token();
  return value ? { authorization: `Bearer ${value}` } : {};
}
