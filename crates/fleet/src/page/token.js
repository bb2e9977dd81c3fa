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

export function keepToken(value) {
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Without storage it is asked for each time.
  }
  touch("connection");
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
