// Answers, by what a task gives: class bars, a value with its interval, a forecast. No code for a particular model.

import { duration, el, number, percent, withUnit } from "./dom.js";

const MOST_BARS = 12;

function classBars() {
  const list = el("ol", { class: "bars" });
  return {
    element: list,
    show({ label, confidence, probabilities }) {
      let classes = Object.entries(probabilities);
      const more = classes.length - MOST_BARS;
      // Bars that keep their places can be compared while one draws; of many classes only the first ones count.
      if (more > 0) classes = classes.sort(([, one], [, other]) => other - one).slice(0, MOST_BARS);
      list.replaceChildren(
        ...classes.map(([name, share]) => {
          const bar = el("span", { class: "bar" });
          bar.style.setProperty("--share", share);
          return el(
            "li",
            { class: name === label ? "best" : "" },
            el("span", { class: "name" }, name),
            el("span", { class: "track", "aria-hidden": "true" }, bar),
            el("span", { class: "share" }, percent(share)),
          );
        }),
        ...(more > 0 ? [el("li", { class: "hint" }, `and ${more} less probable classes`)] : []),
      );
      return [el("strong", {}, label), ` ${percent(confidence)}`];
    },
  };
}

function valueBar({ coverage }) {
  const mark = el("span", { class: "mark" });
  const reach = el("span", { class: "reach" });
  const ends = [el("span"), el("span")];
  const said = el("p", { class: "hint" });
  let scaleLow = Infinity;
  let scaleHigh = -Infinity;
  const element = el(
    "div",
    { class: "interval" },
    el("div", { class: "track", "aria-hidden": "true" }, reach, mark),
    el("div", { class: "row spread hint", "aria-hidden": "true" }, ...ends),
    said,
  );
  return {
    element,
    show({ value, low, high, unit }) {
      // The scale grows with what was seen, so that a change of the answer is a move of the mark.
      const air = (high - low) * 0.6;
      scaleLow = Math.min(scaleLow, low - air);
      scaleHigh = Math.max(scaleHigh, high + air);
      const place = (point) => `${(100 * (point - scaleLow)) / (scaleHigh - scaleLow || 1)}%`;
      element.style.setProperty("--low", place(low));
      element.style.setProperty("--high", place(high));
      element.style.setProperty("--value", place(value));
      ends[0].textContent = number(scaleLow, 3);
      ends[1].textContent = number(scaleHigh, 3);
      said.textContent = `${percent(coverage)} interval: ${number(low)} to ${withUnit(number(high), unit)}`;
      return [el("strong", {}, number(value)), ` ${withUnit("", unit).trim()}`];
    },
  };
}

function forecastTable({ coverage, horizon, step }) {
  const rows = el("tbody");
  const table = el(
    "table",
    {},
    el("caption", {}, `The next ${duration(step, horizon)}, with ${percent(coverage)} intervals`),
    el("thead", {}, el("tr", {}, ...["step", "value", "low", "high"].map((name) => el("th", { scope: "col" }, name)))),
    rows,
  );
  return {
    element: el(
      "details",
      {},
      el("summary", {}, "The forecast in numbers"),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Forecast in numbers" }, table),
    ),
    show({ forecast, low, high, unit }) {
      rows.replaceChildren(
        ...forecast.map((value, place) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, `+${place + 1}`),
            ...[value, low[place], high[place]].map((one) => el("td", {}, number(one))),
          ),
        ),
      );
      const last = forecast.length - 1;
      return [
        el("strong", {}, number(forecast[last])),
        ` ${withUnit("", unit).trim()} after ${duration(step, horizon)}, probably ${number(low[last])} to ${number(high[last])}`,
      ];
    },
  };
}

const KINDS = {
  image_classification: classBars,
  tabular_classification: classBars,
  sequence_classification: classBars,
  tabular_regression: valueBar,
  sequence_forecast: forecastTable,
};

/** Shows answers of a task: `show(answer)` returns its summary. */
export const answerView = (input) => KINDS[input.kind]?.(input);
