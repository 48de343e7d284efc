// The page: which models there are, which one is looked at, and what the service says every two seconds.

import { el, number, words } from "./dom.js";
import { getJson, key } from "./api.js";
import { Live, livePanel } from "./live.js";
import { formOf, modelView } from "./view.js";

const DRIFT_SLOTS = 8;
const NEWS_MS = 15_000;

const at = (id) => document.getElementById(id);
const [main, nav, state, news, keyBox] = ["model", "models", "state", "news", "key"].map(at);

let models = [];
let open = null;
let versions = "";
let latest = null;
let driftDue = 0;
let told;

const live = new Live({ news: heard, lost: () => say("No connection. Trying again …", "bad") });

function say(text, kind = "") {
  if (state.textContent !== text) state.textContent = text;
  state.className = `state ${kind}`;
}

function tell(text) {
  news.textContent = text;
  clearTimeout(told);
  told = setTimeout(() => (news.textContent = ""), NEWS_MS);
}

/** What the address names, else the first model. */
const wanted = () => {
  const name = location.hash.startsWith("#/") ? decodeURIComponent(location.hash.slice(2)) : "";
  return models.find((model) => model.name === name) ?? models[0];
};

function list() {
  nav.replaceChildren(
    ...models.map(({ name, kind }) =>
      el(
        "a",
        { href: `#/${encodeURIComponent(name)}`, "aria-current": open?.name === name ? "page" : null },
        el("span", { class: "name" }, name),
        el("span", { class: "kind" }, words(kind)),
        el("span", { class: "rate", "data-model": name }),
      ),
    ),
  );
}

/** Brings the model that the address names onto the page, or its new version into the view that is there. */
async function show() {
  const model = wanted();
  if (!model) {
    open?.view.end();
    open = null;
    list();
    main.replaceChildren(
      el(
        "p",
        { class: "card" },
        "No model is served yet. ",
        el("a", { href: "/readyz" }, "What the service says of that"),
        ".",
      ),
    );
    return;
  }
  const description = await getJson(`/models/${encodeURIComponent(model.name)}`);
  if (wanted()?.name !== model.name) return;
  // Another worker may have answered than the one that told of a change, and not know of it yet: ask again then.
  const known = latest?.models[model.name];
  if (known && known.version !== description.version) versions = "";
  if (open?.name === model.name && open.version !== description.version)
    tell(`${model.name}: version ${description.version} answers now, in the place of ${open.version}.`);
  if (open?.name === model.name && open.form === formOf(description)) {
    open.version = description.version;
    open.view.update(description);
    if (keyBox.hidden) open.view.again();
    return;
  }
  open?.view.end();
  const panel = livePanel(model.name);
  const view = modelView(description, { live: panel.element, locked: () => lock(true) });
  open = { name: model.name, version: description.version, form: formOf(description), panel, view };
  list();
  document.title = `${model.name} · keras-serving`;
  main.replaceChildren(view.element);
  scrollTo(0, 0);
  if (latest) {
    panel.show(live, latest);
    lookForDrift(latest.slot);
  }
  if (keyBox.hidden) view.begin();
}

async function refresh() {
  try {
    ({ models } = await getJson("/models"));
    list();
    await show();
  } catch (problem) {
    say(problem.message, "bad");
    versions = "";
  }
}

/** After each poll: figures, and whether any version is another one now. */
function heard(found) {
  latest = found;
  lock(found.needs_key && !key.get());
  const served = Object.entries(found.models);
  const total = served.reduce((sum, [name]) => sum + (live.of(name).rows.get(found.slot)?.[0] ?? 0), 0);
  say(`${served.length} ${served.length === 1 ? "model" : "models"}, ${number(total, 3)} requests/s`, "good");
  for (const rate of nav.querySelectorAll(".rate")) {
    const [now] = live.of(rate.dataset.model).rows.get(found.slot) ?? [0];
    rate.textContent = now ? `${number(now, 3)}/s` : "";
  }
  const present = JSON.stringify(
    served.map(([name, { version, candidate, traffic }]) => [name, version, candidate, traffic]),
  );
  if (present !== versions) {
    versions = present;
    refresh().then(() => open?.panel.show(live, found));
  }
  open?.panel.show(live, found);
  if (found.slot >= driftDue) lookForDrift(found.slot);
}

/** Drift moves slowly, and its answer is long: now and then is enough. */
async function lookForDrift(slot) {
  if (!open) return;
  driftDue = slot + DRIFT_SLOTS;
  const { name, panel } = open;
  try {
    panel.showDrift(await getJson(`/models/${encodeURIComponent(name)}/drift`));
  } catch {
    // The next look will tell; that there is no connection is said already.
  }
}

function lock(locked) {
  if (keyBox.hidden !== locked) return;
  keyBox.hidden = !locked;
  if (locked) at("key-input").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key-input").value.trim());
  at("key-input").value = "";
  lock(false);
  open?.view.begin();
});

addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/")) return;
  show().catch((problem) => say(problem.message, "bad"));
  main.focus({ preventScroll: true });
});
live.start();
