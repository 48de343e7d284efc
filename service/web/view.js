// One model on the page: what it is, a form made from its schema, its answer, and the same as a command line.

import { el, newId, number, words } from "./dom.js";
import { Latest, Problem, inside, key, post, tryOut } from "./api.js";
import { answerView } from "./answers.js";
import { curlBox } from "./curl.js";
import { originList, qualityTable, sentenceOf } from "./about.js";
import { pictureForm } from "./picture.js";
import { recordForm } from "./record.js";
import { sequenceForm } from "./sequence.js";
import { sweepView } from "./sweep.js";

const FORMS = {
  image_classification: pictureForm,
  tabular_regression: recordForm,
  tabular_classification: recordForm,
  sequence_forecast: sequenceForm,
  sequence_classification: sequenceForm,
};

/** What a form depends on: a new version with the same may go on with what was entered. */
export const formOf = ({ input }) => JSON.stringify(input);

/**
 * The view of the model that `description` (of `GET /models/{model}`) describes; `live` is shown with it, and
 * `locked()` is called when a key is needed.
 */
export function modelView(description, { live, locked }) {
  const { name, input, example } = description;
  const asked = { alias: "production" };
  const summary = el("p", { class: "summary" });
  const said = el("p", { class: "hint" });
  const wrong = el("div", { class: "problem", hidden: true });
  const saw = el("figure", { class: "saw", hidden: true }, el("img", { alt: "" }), el("figcaption"));
  const curl = curlBox();
  const answer = answerView(input);
  const once = new Latest(run);
  const form = FORMS[input.kind]?.({ input, example }, () => once.push());
  const query = () => (asked.alias === "production" ? "" : `?label=${encodeURIComponent(asked.alias)}`);
  const path = () => `/predict/${name}${query()}`;
  const sweep = form?.instance && sweepView(input, form.instance, path);

  async function run() {
    try {
      const request = await form.request();
      const sent = { path: path(), ...request };
      await curl.show(sent);
      const started = performance.now();
      const response = await tryOut(sent.path, sent.type, sent.body);
      const { version: answered, predictions } = await response.json();
      const milliseconds = number(performance.now() - started, 3);
      const [first] = predictions;
      summary.replaceChildren(...answer.show(first));
      form.show?.(first);
      said.textContent = `Version ${answered} answered; ${number(inside(response), 3)} ms in the service, ${milliseconds} ms there and back.`;
      await showSeen(first, request, answered);
      complain(null);
      sweep?.update();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      complain(problem);
      if (problem.status === 401) {
        key.forget();
        locked();
      }
    }
  }

  /** The picture in the model's size, as the service prepares it for the version that answered. */
  async function showSeen(first, { type, body }, answered) {
    if (!(body instanceof Blob)) return;
    const prepared = `/models/${name}/prepared?version=${answered}`;
    const seen = first.applied ? await (await post(prepared, type, body)).blob() : body;
    const [picture, caption] = saw.children;
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(seen);
    picture.alt = `${input.width} by ${input.height} pixels, as the model saw them`;
    caption.textContent = `What the model saw: ${first.applied ? first.applied.join(", ") : "the picture as it is"}.`;
    saw.hidden = false;
  }

  function complain(problem) {
    wrong.hidden = !problem;
    for (const part of [summary, outcome, said]) part.classList.toggle("stale", Boolean(problem));
    form.mark(problem?.errors ?? []);
    wrong.replaceChildren(
      ...(problem?.sentences ?? []).map(({ field, text }) =>
        el("p", {}, field && el("code", {}, field), field && " ", text),
      ),
    );
  }

  const choice = newId("alias");
  const alias = el("select", { id: choice, onchange: () => ((asked.alias = alias.value), once.push()) });
  const who = el("div", { class: "row", hidden: true }, el("label", { for: choice }, "Ask"), alias);
  const outcome = el("div", { class: "outcome" }, answer?.element, saw);
  const details = el("div", { class: "details" });
  const version = el("code", {}, "");
  const what = el("p", { class: "what" });
  const element = el(
    "article",
    { "aria-labelledby": "model-name" },
    el(
      "header",
      {},
      el("h2", { id: "model-name" }, name, el("span", { class: "kind" }, words(input.kind))),
      what,
      el("p", { class: "hint" }, "Version ", version),
    ),
    el(
      "div",
      { class: input.channels?.length ? "try wide" : "try" },
      el(
        "section",
        { class: "card", "aria-label": "Try it" },
        el("div", { class: "row spread" }, el("h3", {}, "Try it"), who),
        form?.element,
      ),
      el(
        "section",
        { class: "card", "aria-label": "Answer" },
        el("h3", {}, "Answer"),
        el("div", { role: "status" }, summary, wrong),
        outcome,
        said,
        sweep?.element,
      ),
    ),
    el("div", { class: "card" }, curl.element),
    live,
    details,
  );

  /** Takes over what a version says of itself; what was entered stays. */
  function update(fresh) {
    version.textContent = fresh.version;
    what.textContent = sentenceOf(fresh);
    details.replaceChildren(qualityTable(fresh), originList(fresh));
    const others = Object.entries(fresh.aliases ?? {}).filter(([, { loaded }]) => loaded);
    if (!others.some(([one]) => one === asked.alias)) asked.alias = "production";
    who.hidden = others.length < 2;
    alias.replaceChildren(...others.map(([one]) => el("option", { value: one, selected: one === asked.alias }, one)));
  }

  update(description);
  return {
    element,
    update,
    again: () => once.push(),
    begin: () => form?.begin(),
    end: () => form?.end(),
  };
}
