// Building elements. Every text on the page goes through here or through `setText`, as text: names, queues and
// reasons come from messages, and nothing in them may become markup.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; a child that is no node becomes text.
// `class`, `text`, `on` ({event: listener}) and `hidden` are understood; other keys are attributes.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "text") element.textContent = value;
    else if (key === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// One of the symbols of index.html, invisible to screen readers: a word stands beside it or names its button.
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(svg, name) {
  setAttribute(svg.firstChild, "href", `#i-${name}`);
}

// Writes only what differs: most updates change little, and each write costs a layout.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export const byId = (id) => document.getElementById(id);

// A control that is off but can be reached, so that its reason can be read and heard.
export function setReason(button, label, reason) {
  setAttribute(button, "aria-disabled", reason ? "true" : null);
  setAttribute(button, "title", reason ?? label);
  setAttribute(button, "aria-label", reason ? `${label}: ${reason}` : label);
}
