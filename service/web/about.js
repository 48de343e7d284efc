// What a model is and how good it is, in the words of its manifest.

import { duration, el, number, percent, withUnit, words } from "./dom.js";

const RATIOS = new Set(["accuracy", "balanced_accuracy", "interval_coverage"]);
const LONG = { mae: "mean absolute error", mse: "mean squared error", rmse: "root mean squared error" };

const list = (names) => (names.length > 12 ? `${names.length} classes` : names.join(", "));
const channelsOf = ({ channels }) => (channels.length === 1 ? channels[0].name : `${channels.length} channels`);

/** Task kind -> a sentence. */
const SENTENCES = {
  image_classification: ({ labels, height, width, channels }) =>
    `Says which of ${labels.length} classes a picture shows. It sees ${width} × ${height} ${channels === 1 ? "grey" : "colour"} pixels; any other picture is prepared for it.`,
  tabular_regression: ({ fields, target, coverage }) =>
    `Estimates ${words(target)} from ${fields.length} fields, with a ${percent(coverage)} interval.`,
  tabular_classification: ({ fields, target, labels }) =>
    `Tells from ${fields.length} fields what ${words(target)} is: ${list(labels)}.`,
  sequence_forecast: (task) =>
    `Continues ${task.target} by ${duration(task.step, task.horizon)} from the last ${duration(task.step, task.lookback)} of ${channelsOf(task)}, with ${percent(task.coverage)} intervals.`,
  sequence_classification: (task) =>
    `Tells from the last ${duration(task.step, task.lookback)} of ${channelsOf(task)} which it is: ${list(task.labels)}.`,
};

export const sentenceOf = ({ input }) => SENTENCES[input.kind]?.(input) ?? words(input.kind);

const HEADS = ["figure", "this model", "simpler methods on the same rows"];

const figure = ({ name, unit }, value) => (RATIOS.has(name) ? percent(value) : withUnit(number(value), unit));

/** Quality on held-out rows, beside simpler methods on the same rows. */
export function qualityTable({ figures }) {
  const test = figures.filter(({ split }) => split === "test");
  const shown = test.length ? test : figures;
  const rows = new Set(shown.map(({ rows: count, split }) => `${number(count)} ${split}`));
  return el(
    "section",
    { class: "card" },
    el("h3", {}, "How good it is"),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Quality figures" },
      el(
        "table",
        {},
        el("thead", {}, el("tr", {}, ...HEADS.map((name) => el("th", { scope: "col" }, name)))),
        el(
          "tbody",
          {},
          ...shown.map((one) =>
            el(
              "tr",
              {},
              el(
                "th",
                { scope: "row" },
                LONG[one.name] ?? words(one.name),
                el("span", { class: "hint" }, one.higher_is_better ? " ↑" : " ↓"),
              ),
              el("td", {}, el("strong", {}, figure(one, one.value))),
              el(
                "td",
                {},
                ...Object.entries(one.baselines).map(([name, value]) =>
                  el("span", { class: "baseline" }, el("span", {}, name), el("span", {}, figure(one, value))),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
    el("p", { class: "hint" }, `On ${[...rows].join(", ")} rows. ↑ more is better, ↓ less is better.`),
  );
}

/** Where it comes from and how it runs. */
export function originList({ architecture, created, parameters, lineage, running, aliases }) {
  const rows = Object.entries(lineage.rows).map(([split, count]) => `${number(count)} ${split}`);
  const said = {
    aliases: Object.entries(aliases ?? {})
      .map(([alias, { version: of, loaded }]) => `${alias} ${of}${loaded ? "" : " (not loaded)"}`)
      .join(", "),
    created: new Date(created).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }),
    architecture: `${architecture}, ${number(parameters, 3)} parameters`,
    data: `${lineage.dataset}: ${rows.join(", ")}`,
    "made by": el("code", {}, lineage.command),
    "runs on": `${running.engine}, ${running.device}; one row ${number(running.batch_latency_ms["1"], 3)} ms at warm-up`,
  };
  return el(
    "section",
    { class: "card" },
    el("h3", {}, "Where it comes from"),
    el(
      "dl",
      {},
      ...Object.entries(said).flatMap(([name, value]) => (value ? [el("dt", {}, name), el("dd", {}, value)] : [])),
    ),
  );
}
