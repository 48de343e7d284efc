// Elements and numbers: the little that a framework would be used for.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/** An HTML element; attributes that begin with "on" are listeners, children are nodes or text. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

let ids = 0;
export const newId = (what) => `${what}-${++ids}`;

const significant = [3, 4].map((digits) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits }));
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number with as many digits as help a reader. */
export function number(value, digits = 4) {
  if (value == null || Number.isNaN(value)) return "–";
  if (value > 0 && value < 1e-4) return "< 0.0001";
  return Math.abs(value) >= 10 ** digits ? whole.format(value) : significant[digits - 3].format(value);
}

/** A share from 0 to 1 as percent; never 100 % for what is less. */
export function percent(share) {
  const shown = (100 * share).toFixed(1);
  if (shown === "100.0" && share < 1) return "> 99.9 %";
  if (shown === "0.0" && share > 0) return "< 0.1 %";
  return `${shown.replace(/\.0$/, "")} %`;
}

/** A field's or figure's name for people. */
export const words = (name) => name.replaceAll("_", " ");

export const withUnit = (text, unit) => (unit ? `${text} ${unit.replace(/^deg([CF])$/, "°$1")}` : text);

const UNITS = { Y: "year", M: "month", W: "week", D: "day", TH: "hour", TM: "minute", TS: "second" };

/** An ISO 8601 duration of one unit, such as PT15M, `count` times and in words; as it is if it has several units. */
export function duration(iso, count = 1) {
  const [, time, amount, letter] = /^P(T?)(\d+)([YMWDHS])$/.exec(iso) ?? [];
  const unit = UNITS[`${letter === "M" || time ? time : ""}${letter}`];
  if (!unit) return `${count} × ${iso}`;
  const all = amount * count;
  return `${all} ${unit}${all === 1 ? "" : "s"}`;
}

/** Calls `draw(width)` now and whenever the width of `node` changes. */
export function onWidth(node, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now && now !== width) draw((width = now));
  }).observe(node);
}
