// A record to ask about: one control a field, made from the model's schema.

import { el, newId, number, withUnit, words } from "./dom.js";

const MISSING = "\0missing";

/** A step with which a slider over `low` to `high` feels right. */
function stepOf({ low, high }, example) {
  if (Number.isInteger(low) && Number.isInteger(high) && Number.isInteger(example) && high - low <= 500) return 1;
  return 10 ** Math.floor(Math.log10((high - low) / 200));
}

function numberControl(field, example, changed) {
  const id = newId("field");
  const given = typeof example === "number";
  const middle = (field.low + field.high) / 2;
  const typed = el("input", {
    type: "number",
    id,
    step: "any",
    value: given ? example : middle,
    "aria-describedby": `${id}-hint`,
  });
  const slider = el("input", {
    type: "range",
    "aria-label": `${words(field.name)}, slider`,
    min: field.low,
    max: field.high,
    step: stepOf(field, example),
    value: given ? example : middle,
  });
  const unknown = field.missing && el("input", { type: "checkbox", id: `${id}-unknown`, checked: !given });
  const react = (from, to) => () => {
    to.value = from.value;
    changed();
  };
  slider.addEventListener("input", react(slider, typed));
  typed.addEventListener("input", react(typed, slider));
  const know = () => {
    typed.disabled = slider.disabled = Boolean(unknown?.checked);
  };
  unknown?.addEventListener("change", () => (know(), changed()));
  know();
  const range = withUnit(`${number(field.low)} to ${number(field.high)}`, field.unit);
  return {
    id,
    input: typed,
    controls: [
      slider,
      el(
        "span",
        { class: "typed" },
        typed,
        field.unit && el("span", { class: "unit" }, withUnit("", field.unit).trim()),
      ),
      unknown && el("label", { class: "unknown" }, unknown, "unknown"),
    ],
    hint: field.description ? `${field.description}, ${range}` : range,
    value() {
      if (unknown?.checked || typed.value === "") return null;
      return Number(typed.value);
    },
  };
}

function categoryControl(field, example, changed) {
  const id = newId("field");
  const select = el(
    "select",
    { id, "aria-describedby": `${id}-hint`, onchange: changed },
    ...field.values.map((value) =>
      el("option", { value, selected: value === example }, value === "" ? "(empty)" : value),
    ),
    field.missing && el("option", { value: MISSING, selected: example == null }, "unknown"),
  );
  return {
    id,
    input: select,
    controls: [select],
    hint: field.description,
    value: () => (select.value === MISSING ? null : select.value),
  };
}

/** The form of a task on records. */
export function recordForm({ input, example }, changed) {
  const [first] = example.instances;
  const fields = input.fields.map((field) => {
    const make = field.kind === "category" ? categoryControl : numberControl;
    const control = make(field, first?.[field.name], changed);
    const wrong = el("p", { class: "wrong", id: `${control.id}-wrong`, hidden: true });
    const element = el(
      "div",
      { class: "field" },
      el("label", { for: control.id }, words(field.name)),
      el("div", { class: "controls" }, ...control.controls),
      el("p", { class: "hint", id: `${control.id}-hint` }, control.hint),
      wrong,
    );
    return { ...control, field, wrong, element };
  });
  const instance = () => Object.fromEntries(fields.map(({ field, value }) => [field.name, value()]));

  return {
    element: el("div", { class: "fields" }, ...fields.map(({ element }) => element)),
    begin: changed,
    instance,
    async request() {
      return { type: "application/json", body: JSON.stringify({ instances: [instance()] }) };
    },
    /** Says at each field what the service says of it. */
    mark(errors) {
      for (const { field, input: control, wrong } of fields) {
        const error = errors.find((one) => one.field === `instances[0].${field.name}`);
        wrong.textContent = error ? `${field.name} ${error.rule}.` : "";
        wrong.hidden = !error;
        control.setAttribute("aria-invalid", Boolean(error));
      }
    },
    end() {},
  };
}
