// A picture to ask about: drawn, dropped, pasted, chosen, or the model's own example.

import { el, newId } from "./dom.js";
import { Sketch } from "./sketch.js";

const KINDS = ["image/png", "image/jpeg"];

/** A picture file that a model takes: as it is, or, of any other kind that the browser reads, converted to PNG. */
async function acceptable(file) {
  if (KINDS.includes(file.type)) return { blob: file, converted: false };
  try {
    const picture = await createImageBitmap(file);
    const canvas = el("canvas", { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    return { blob, converted: true };
  } catch {
    // Not a picture, as far as the browser knows: the service says what it takes.
    return { blob: new Blob([file], { type: "image/png" }), converted: false };
  }
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

/** The form of a task that takes pictures; `changed` is called with each new picture. */
export function pictureForm({ input, example }, changed) {
  const id = newId("picture");
  const sketch = new Sketch({ colour: input.channels === 3, drawn: () => use({}) });
  const shown = el("img", { class: "given", alt: "", hidden: true });
  const about = el("p", { class: "hint", id: `${id}-about` });
  let picture = {};

  function use(given) {
    picture = given;
    shown.hidden = !given.blob;
    if (given.blob) {
      URL.revokeObjectURL(shown.src);
      shown.src = URL.createObjectURL(given.blob);
      shown.alt = `The picture that is asked about: ${given.name}`;
      about.textContent = given.name;
    } else about.textContent = "Your drawing";
    changed();
  }

  async function take(file) {
    if (!file) return;
    const { blob, converted } = await acceptable(file);
    use({
      blob,
      name: converted ? `${file.name}, converted to PNG by this browser` : file.name,
      file: converted ? null : file.name,
    });
  }

  function useExample() {
    const [{ b64 }] = example.instances;
    const bytes = bytesOf(b64);
    use({ blob: new Blob([bytes], { type: bytes[0] === 0xff ? KINDS[1] : KINDS[0] }), name: "The model's example" });
  }

  const choose = el("input", {
    type: "file",
    id,
    accept: "image/*",
    class: "away",
    onchange: () => take(choose.files[0]),
  });
  const clear = () => {
    sketch.clear();
    use({});
  };
  const element = el(
    "div",
    { class: "picture" },
    el("div", { class: "paper" }, sketch.canvas, shown),
    el(
      "div",
      { class: "tools" },
      about,
      el("p", { class: "hint" }, "Draw with mouse or finger, or drop or paste a picture anywhere on this page."),
      el(
        "div",
        { class: "row" },
        choose,
        el("label", { for: id, class: "button" }, "Choose a picture …"),
        example.instances[0]?.b64 && el("button", { type: "button", onclick: useExample }, "Example"),
        el("button", { type: "button", onclick: clear }, "Clear"),
        el("button", { type: "button", onclick: () => (sketch.undo(), use({})) }, "Undo"),
      ),
      sketch.controls,
    ),
  );

  const held = new AbortController();
  const on = (what, react) => document.addEventListener(what, react, { signal: held.signal });
  on("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  on("dragleave", (event) => event.relatedTarget || element.classList.remove("over"));
  on("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  on("paste", (event) => take(event.clipboardData.files[0]));

  return {
    element,
    begin: () => (example.instances[0]?.b64 ? useExample() : use({})),
    async request() {
      const body = picture.blob ?? (await sketch.blob());
      return { type: body.type, body, file: picture.file };
    },
    mark() {},
    end: () => held.abort(),
  };
}
