// A stretch of a series to ask about: a chart a channel whose points can be dragged, and the numbers as text.

import { duration, el, newId, withUnit } from "./dom.js";
import { Problem } from "./api.js";
import { channelChart } from "./channel.js";

/** Steps from text: JSON, or numbers with anything between them, one step a line if there are several channels. */
export function parseSteps(text, channels) {
  const trimmed = text.trim();
  if (trimmed.startsWith("[")) {
    let steps;
    try {
      steps = JSON.parse(trimmed);
    } catch {
      throw new Problem(0, "The numbers begin like JSON, but are none. Check the brackets and commas.");
    }
    return steps.map((step) => (Array.isArray(step) ? step : [step]));
  }
  const read = (part, line) => {
    const value = Number(part);
    if (part === "" || Number.isNaN(value))
      throw new Problem(
        0,
        `Line ${line}: must be numbers. Received: ${part.slice(0, 30)}. Write a point in front of decimals.`,
      );
    return value;
  };
  const lines = trimmed.split("\n").map((line) =>
    line
      .trim()
      .split(/[\s,;]+/)
      .filter(Boolean),
  );
  if (channels === 1) return lines.flatMap((parts, line) => parts.map((part) => [read(part, line + 1)]));
  return lines.map((parts, line) => {
    if (parts.length !== channels)
      throw new Problem(
        0,
        `Line ${line + 1}: must hold ${channels} numbers, one a channel. Received: ${parts.length}.`,
      );
    return parts.map((part) => read(part, line + 1));
  });
}

const clamp = (value, { low, high }) => Math.min(high, Math.max(low, Math.round(value * 1000) / 1000));

/** Stretches to begin with, made from the model's example by channel: name -> (value, place from 0 to 1, stretch). */
const SHAPES = {
  "the model's example": (value) => value,
  "its last value throughout": (_, __, all) => all.at(-1),
  "the example turned around": (_, place, all) => all[Math.round((1 - place) * (all.length - 1))],
  "a jump at the end": (value, place, all) =>
    value + (place > 0.9 ? 0.5 * (Math.max(...all) - Math.min(...all)) || Math.abs(value) * 0.1 || 1 : 0),
};

/** The form of a task on series. */
export function sequenceForm({ input, example }, changed) {
  const { channels, lookback } = input;
  const begun = example.instances[0]
    .slice(-lookback)
    .map((step) => channels.map((_, place) => [step].flat()[place] ?? 0));
  let steps = begun.map((step) => [...step]);
  let broken = null;

  const charts = channels.map((channel, place) =>
    channelChart(channel, {
      values: () => steps.map((step) => step[place]),
      set(step, value) {
        steps[step][place] = clamp(value, channel);
        write();
        changed();
      },
      future: channel.name === input.target ? input.horizon : 0,
      step: input.step,
    }),
  );
  const redraw = () => charts.forEach((chart) => chart.draw());

  const [text, shape] = [newId("steps"), newId("shape")];
  const numbers = el("textarea", { id: text, rows: 6, spellcheck: "false", "aria-describedby": `${text}-hint` });
  numbers.addEventListener("input", () => {
    try {
      const parsed = parseSteps(numbers.value, channels.length);
      broken = null;
      // Of more steps the most recent count, as for the service; of fewer it says so itself.
      steps = parsed.slice(-lookback);
      redraw();
    } catch (problem) {
      broken = problem;
    }
    changed();
  });
  const write = () => {
    broken = null;
    const separator = channels.length === 1 ? ", " : "\n";
    numbers.value = steps.map((step) => step.map((value) => value ?? "").join(", ")).join(separator);
  };
  const choose = el(
    "select",
    {
      id: shape,
      onchange() {
        const make = SHAPES[choose.value];
        steps = begun.map((step, row) =>
          step.map((value, place) => {
            const all = begun.map((one) => one[place]);
            return clamp(make(value, row / (begun.length - 1 || 1), all), channels[place]);
          }),
        );
        write();
        redraw();
        changed();
      },
    },
    ...Object.keys(SHAPES).map((name) => el("option", {}, name)),
  );
  write();
  const each = channels.map(({ name, unit }) => withUnit(name, unit && `(${withUnit("", unit).trim()})`)).join(", ");

  return {
    element: el(
      "div",
      { class: "sequence" },
      el("div", { class: "row" }, el("label", { for: shape }, "Begin with"), choose),
      ...charts.map(({ element }) => element),
      el(
        "details",
        {},
        el("summary", {}, "The numbers"),
        el(
          "label",
          { for: text },
          channels.length === 1 ? `${each}, oldest first` : `A line a step, oldest first: ${each}`,
        ),
        numbers,
        el(
          "p",
          { class: "hint", id: `${text}-hint` },
          `Paste at least ${lookback} steps of ${duration(input.step)}; the most recent ${lookback} count.`,
        ),
      ),
    ),
    begin: changed,
    async request() {
      if (broken) throw broken;
      const instance = channels.length === 1 ? steps.map(([value]) => value) : steps;
      return { type: "application/json", body: JSON.stringify({ instances: [instance] }) };
    },
    /** Draws a forecast behind the series that it continues. */
    show(answer) {
      if (answer.forecast) charts.forEach((chart) => chart.draw(answer));
    },
    mark() {},
    end() {},
  };
}
