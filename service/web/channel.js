// One channel of a series as a chart: its points follow the pointer or the arrow keys; a forecast fans out of its end.

import { duration, el, number, onWidth, svg, withUnit } from "./dom.js";
import { band, extent, gridOf, path, scale } from "./chart.js";

const HEIGHT = 220;
const LEFT = 46;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 24;
const DOTS = 130;

/**
 * `series`: {values(), set(step, value), future: steps of a forecast that this channel gets, step: their duration}.
 */
export function channelChart(channel, series) {
  const named = withUnit(channel.name, channel.unit && `(${withUnit("", channel.unit).trim()})`);
  const drawing = svg("svg", {
    class: "series",
    height: HEIGHT,
    tabindex: 0,
    role: "slider",
    "aria-label": `${named}: left and right choose a step, up and down change it`,
  });
  const element = el("figure", { class: "channel" }, el("figcaption", {}, named), drawing);
  let width = 0;
  let forecast = null;
  let chosen = Infinity;
  let span = [0, 1];
  let held = false;
  let x;
  let y;

  function draw(answer = forecast) {
    forecast = answer;
    if (!width) return;
    const values = series.values();
    const last = values.length - 1;
    // The scale stays while a point is held: it would run away under the finger.
    if (!held)
      span = extent([...values, ...(forecast && series.future ? [...forecast.low, ...forecast.high] : [])], 0.15);
    x = scale([0, Math.max(last + series.future, 1)], [LEFT, width - RIGHT]);
    y = scale(span, [HEIGHT - BOTTOM, TOP]);
    chosen = Math.max(0, Math.min(chosen, last));
    const at = (step, value) => [x(step), y(value)];
    const parts = gridOf(y, span, LEFT, width - RIGHT);
    parts.push(
      svg("text", { class: "tick", x: LEFT, y: HEIGHT - 6 }, `${duration(series.step, values.length)}, oldest first`),
      svg("path", { class: "line", d: path(values.map((value, step) => at(step, value))) }),
    );
    if (forecast && series.future) parts.push(...fan(last, values[last], at));
    if (values.length <= DOTS)
      parts.push(...values.map((value, step) => svg("circle", { class: "dot", cx: x(step), cy: y(value), r: 2.2 })));
    if (last >= 0) parts.push(svg("circle", { class: "chosen", cx: x(chosen), cy: y(values[chosen]), r: 5 }));
    drawing.replaceChildren(...parts);
    drawing.setAttribute("aria-valuemin", channel.low);
    drawing.setAttribute("aria-valuemax", channel.high);
    drawing.setAttribute("aria-valuenow", values[chosen] ?? channel.low);
    drawing.setAttribute(
      "aria-valuetext",
      `step ${chosen + 1} of ${last + 1}: ${withUnit(number(values[chosen]), channel.unit)}`,
    );
  }

  /** The forecast with its interval, from the last known point on. */
  function fan(last, known, at) {
    const line = (values) => [at(last, known), ...values.map((value, step) => at(last + 1 + step, value))];
    return [
      svg("path", { class: "band", d: band(line(forecast.high), line(forecast.low)) }),
      svg("path", { class: "line ahead", d: path(line(forecast.forecast)) }),
      svg("line", { class: "now", x1: x(last), x2: x(last), y1: TOP, y2: HEIGHT - BOTTOM }),
      svg(
        "text",
        { class: "tick", x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" },
        `next ${duration(series.step, series.future)}`,
      ),
    ];
  }

  function follow(event) {
    const box = drawing.getBoundingClientRect();
    const last = series.values().length - 1;
    chosen = Math.min(last, Math.max(0, Math.round(x.back(event.clientX - box.left))));
    series.set(chosen, y.back(Math.min(HEIGHT - BOTTOM, Math.max(TOP, event.clientY - box.top))));
    draw();
  }

  drawing.addEventListener("pointerdown", (event) => {
    if (event.button || !x) return;
    drawing.setPointerCapture(event.pointerId);
    held = true;
    follow(event);
  });
  drawing.addEventListener("pointermove", (event) => drawing.hasPointerCapture(event.pointerId) && follow(event));
  drawing.addEventListener("lostpointercapture", () => {
    held = false;
    draw();
  });
  drawing.addEventListener("keydown", (event) => {
    const [sideways, upwards] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[
      event.key
    ] ?? [0, 0];
    if (!sideways && !upwards) return;
    event.preventDefault();
    const values = series.values();
    chosen = Math.min(values.length - 1, Math.max(0, chosen + sideways));
    const [low, high] = extent(values);
    if (upwards) series.set(chosen, values[chosen] + (upwards * (high - low)) / 50);
    draw();
  });
  onWidth(element, (now) => {
    width = now;
    drawing.setAttribute("width", now);
    draw();
  });
  return { element, draw };
}
