// What the service does now: ten minutes of a model's figures, polled as one small JSON while somebody looks.

import { el, number, percent, svg, words } from "./dom.js";
import { getJson } from "./api.js";
import { path, scale } from "./chart.js";

const POLL_MS = 2000;
// A worker may be late with a slot: the last ones are asked for again.
const AGAIN = 4;
const [WIDTH, HEIGHT] = [300, 72];
// Only where there were any: a line of zeros would lie on that of the requests.
const ERRORS = 1;
const COLUMNS = ["requests_per_s", "errors_per_s", "p50_ms", "p99_ms", "batch_rows", "queue_rows"];

/** What is known of the last ten minutes; calls `news(document)` after each poll, and `lost()` where one failed. */
export class Live {
  #since = 0;
  #history = new Map();

  constructor({ news, lost }) {
    this.news = news;
    this.lost = lost;
  }

  start() {
    document.addEventListener("visibilitychange", () => document.hidden || this.#poll());
    this.#poll();
  }

  async #poll() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    try {
      const found = await getJson(`/live.json?since=${this.#since}`);
      this.#take(found);
      this.news(found);
    } catch {
      this.lost();
    }
    this.timer = setTimeout(() => this.#poll(), POLL_MS);
  }

  #take({ slot, slots, models }) {
    // A server whose clock was set back begins anew.
    this.#since = Math.max(slot - AGAIN, 0);
    for (const [name, model] of Object.entries(models)) {
      const known = this.#history.get(name) ?? { rows: new Map(), switched: new Map() };
      model.slots.forEach((at, place) =>
        known.rows.set(
          at,
          COLUMNS.map((column) => model[column][place]),
        ),
      );
      model.switched.forEach(([at, version]) => known.switched.set(at, version));
      for (const kept of [known.rows, known.switched])
        for (const at of kept.keys()) if (at < slot - slots) kept.delete(at);
      this.#history.set(name, known);
    }
  }

  /** Rows and switches of a model by slot. */
  of(name) {
    return this.#history.get(name) ?? { rows: new Map(), switched: new Map() };
  }
}

/** Charts: title, columns, how a value is said, and what no entry in a slot means. */
const CHARTS = [
  {
    title: "Requests a second",
    columns: [0, ERRORS],
    say: ([rate, errors]) => `${number(rate, 3)}${errors ? `, ${number(errors, 3)} refused or failed` : ""}`,
    none: 0,
  },
  {
    title: "p50, paler p99",
    columns: [3, 2],
    say: ([p99, p50]) => (p50 == null ? "–" : `${number(p50, 3)}, ${number(p99, 3)} ms`),
    none: null,
  },
  { title: "Rows in a batch", columns: [4], say: ([rows]) => number(rows, 3), none: null },
  { title: "Rows waiting", columns: [5], say: ([rows]) => number(rows, 3), none: 0 },
];

/** The panel of one model; `show(live, document)` brings it up to date. */
export function livePanel(name) {
  const charts = CHARTS.map((chart) => {
    const value = el("span", { class: "value" });
    const most = el("span", { class: "hint" });
    const drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${chart.title}: nothing known yet`,
    });
    const axis = el("div", { class: "row spread hint" }, el("span", {}, "10 min ago"), most, el("span", {}, "now"));
    const title = el("figcaption", {}, el("span", {}, chart.title), value);
    const element = el("figure", { class: "small" }, title, drawing, axis);
    return { ...chart, value, most, drawing, element };
  });
  const versions = el("p", { class: "versions" });
  const drift = el("p", { class: "drift hint", hidden: true });
  const element = el(
    "section",
    { class: "card live", "aria-label": "Live" },
    el("div", { class: "row spread" }, el("h3", {}, "Live"), versions),
    el("div", { class: "smalls" }, ...charts.map((chart) => chart.element)),
    drift,
  );

  function draw(chart, { rows, switched }, last, slots) {
    const first = last - slots + 1;
    const at = (slot) => chart.columns.map((column) => rows.get(slot)?.[column] ?? chart.none);
    const shown = Array.from({ length: slots }, (_, place) => at(first + place));
    const high = Math.max(...shown.flat(), 0);
    const x = scale([first, last], [0, WIDTH]);
    const y = scale([0, high || 1], [HEIGHT - 1, 4]);
    const hidden = (value, place) => value == null || (chart.columns[place] === ERRORS && !value);
    const line = (place) =>
      path(shown.map((values, index) => [x(first + index), hidden(values[place], place) ? null : y(values[place])]));
    chart.drawing.replaceChildren(
      ...[...switched.keys()].map((slot) => svg("line", { class: "now", x1: x(slot), x2: x(slot), y1: 0, y2: HEIGHT })),
      ...chart.columns.map((_, place) => svg("path", { class: `trace trace-${chart.columns[place]}`, d: line(place) })),
    );
    chart.value.textContent = chart.say(shown.at(-1));
    chart.most.textContent = high ? `highest ${number(high, 3)}` : "";
    chart.drawing.setAttribute("aria-label", `${chart.title} in the last ten minutes, now ${chart.say(shown.at(-1))}`);
  }

  return {
    element,
    show(live, { slot, slots, models }) {
      const model = models[name];
      if (!model) return;
      const known = live.of(name);
      charts.forEach((chart) => draw(chart, known, slot, slots));
      const { canary, shadow } = model.traffic ?? {};
      versions.replaceChildren(
        el("span", {}, "production ", el("code", {}, model.version)),
        ...(model.candidate
          ? [
              el(
                "span",
                {},
                "candidate ",
                el("code", {}, model.candidate),
                canary ? ` gets ${number(canary.percent)} %` : "",
                shadow ? " shadows" : "",
              ),
            ]
          : []),
        ...(known.switched.size
          ? [el("span", { class: "hint" }, `${known.switched.size} switched in ten minutes`)]
          : []),
      );
    },
    /** Whether production's traffic is as in training, in the words of `GET /models/{model}/drift`: of one worker. */
    showDrift({ worker, versions: seen }) {
      const found = seen.find(({ alias }) => alias === "production");
      drift.hidden = !found;
      if (!found) return;
      const others =
        worker.of > 1 ? ` Seen by worker ${worker.number} of ${worker.of}; worst of all: ${found.worst_worker}.` : "";
      drift.className = `drift hint ${found.worst_worker === "major" ? "moved" : ""}`;
      drift.replaceChildren(el("strong", {}, `Drift: ${found.state}. `), found.summary + others);
    },
  };
}
