// Lines, bands and axes of the charts, drawn at the size that they are shown in.

import { number, svg } from "./dom.js";

/** A linear scale from values to pixels; `back` goes the other way. */
export function scale([low, high], [from, to]) {
  const step = (to - from) / (high - low || 1);
  const forth = (value) => from + (value - low) * step;
  forth.back = (pixel) => low + (pixel - from) / step;
  return forth;
}

/** Lowest and highest of `values` with some air; never of no height. */
export function extent(values, air = 0.08) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value == null || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  const margin = (high - low) * air || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

/** About `count` round values between `low` and `high`. */
export function ticks(low, high, count = 4) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

/** Path data through `points`, broken where a y is null; a point alone is drawn as a dot. */
export function path(points) {
  let drawing = false;
  let data = "";
  for (const [x, y] of points) {
    if (y == null) {
      drawing = false;
      continue;
    }
    data += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${drawing ? "" : "h.01"}`;
    drawing = true;
  }
  return data;
}

/** Path data of the area between two lines over the same xs. */
export const band = (upper, lower) =>
  `M${[...upper, ...lower.toReversed()].map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`;

/** Horizontal lines with their values at the left. */
export const gridOf = (y, [low, high], left, right, count = 4) =>
  ticks(low, high, count).flatMap((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value, 3)),
  ]);
