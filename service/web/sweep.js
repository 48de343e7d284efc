// What if: how the answer changes while one field of a record goes through its range, from one request of many rows.

import { el, newId, number, onWidth, percent, svg, withUnit, words } from "./dom.js";
import { Problem, tryOut } from "./api.js";
import { band, extent, gridOf, path, scale } from "./chart.js";

const ROWS = 25;
// It asks when one has stopped to drag, not all the way.
const REST_MS = 300;
const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 12, 12, 26];

/** Rows over the range of `field`, all else as in `record`. */
function rowsOf(field, record) {
  const values =
    field.kind === "category"
      ? field.values
      : Array.from({ length: ROWS }, (_, place) => field.low + ((field.high - field.low) * place) / (ROWS - 1));
  return values.map((value) => ({ value, row: { ...record, [field.name]: value } }));
}

/** `instance()` is the record as entered, `path()` where to ask. */
export function sweepView(input, instance, pathOf) {
  const id = newId("sweep");
  const names = input.fields.map(({ name }) => el("option", { value: name }, words(name)));
  const choose = el("select", { id, onchange: update }, ...names);
  const drawing = svg("svg", { height: HEIGHT, role: "img", "aria-label": "No answer yet" });
  const said = el("p", { class: "hint" });
  const chart = el("div", { class: "channel" }, drawing);
  const box = el(
    "details",
    { class: "sweep", ontoggle: update },
    el("summary", {}, "What if: one field through its whole range"),
    el("div", { class: "row" }, el("label", { for: id }, "The answer over"), choose),
    chart,
    said,
  );
  let width = 0;
  let drawn = null;
  let asked = 0;

  /** Asks and draws, if anybody looks. */
  async function update() {
    if (!box.open) return;
    const field = input.fields.find(({ name }) => name === choose.value);
    const record = instance();
    const rows = rowsOf(field, record);
    const mine = ++asked;
    try {
      const body = JSON.stringify({ instances: rows.map(({ row }) => row) });
      const { predictions } = await (await tryOut(pathOf(), "application/json", body)).json();
      // What was asked last is shown, though an earlier question be answered later.
      if (mine !== asked) return;
      drawn = { field, rows, predictions, present: record[field.name] };
      draw();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      said.textContent = "The record as entered cannot be asked about.";
    }
  }

  function draw() {
    if (!drawn || !width) return;
    const { field, rows, predictions, present } = drawn;
    const classes = input.labels;
    // Of many classes only one line is readable: that of the last, which for two is the positive one.
    const label = classes?.at(-1);
    const values = predictions.map(({ value, probabilities }) => value ?? probabilities[label]);
    const span = classes ? [0, 1] : extent(predictions.flatMap(({ low, high }) => [low, high]));
    const category = field.kind === "category";
    const x = scale(category ? [-0.5, rows.length - 0.5] : [field.low, field.high], [LEFT, width - RIGHT]);
    const y = scale(span, [HEIGHT - BOTTOM, TOP]);
    const xs = rows.map(({ value }, place) => x(category ? place : value));
    const line = (of) => predictions.map((one, place) => [xs[place], y(of(one, place))]);
    const parts = gridOf(y, span, LEFT, width - RIGHT, 3);
    if (category)
      parts.push(
        ...predictions
          .map(
            ({ low, high }, place) =>
              low != null && svg("line", { class: "whisker", x1: xs[place], x2: xs[place], y1: y(low), y2: y(high) }),
          )
          .filter(Boolean),
        ...values.map((value, place) =>
          svg("circle", { class: rows[place].value === present ? "chosen" : "dot", cx: xs[place], cy: y(value), r: 5 }),
        ),
        ...rows.map(({ value }, place) =>
          svg("text", { class: "tick", x: xs[place], y: HEIGHT - 6, "text-anchor": "middle" }, value),
        ),
      );
    else {
      if (!classes)
        parts.push(
          svg("path", {
            class: "band",
            d: band(
              line(({ high }) => high),
              line(({ low }) => low),
            ),
          }),
        );
      parts.push(
        svg("path", { class: "line", d: path(line((_, place) => values[place])) }),
        svg("text", { class: "tick", x: LEFT, y: HEIGHT - 6 }, number(field.low)),
        svg(
          "text",
          { class: "tick", x: width - RIGHT, y: HEIGHT - 6, "text-anchor": "end" },
          withUnit(number(field.high), field.unit),
        ),
      );
      if (present != null)
        parts.push(svg("line", { class: "now", x1: x(present), x2: x(present), y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    drawing.replaceChildren(...parts);
    const shown = classes ? `The probability of ${label}` : `The estimate of ${words(input.target)}`;
    const [least, most] = [Math.min(...values), Math.max(...values)].map((value) =>
      classes ? percent(value) : withUnit(number(value), input.unit),
    );
    drawing.setAttribute("aria-label", `${shown} over ${words(field.name)}: from ${least} to ${most}`);
    said.textContent = `${shown} lies between ${least} and ${most}, all else as entered. Far from what the model learned from, it guesses.`;
  }

  onWidth(chart, (now) => {
    width = now;
    drawing.setAttribute("width", now);
    draw();
  });
  let rest;
  return {
    element: box,
    /** Follows the record, after a rest. */
    update() {
      clearTimeout(rest);
      rest = setTimeout(update, REST_MS);
    },
  };
}
