// A sheet of paper to draw on: strokes are kept, so that the last one can be taken back.

import { el, newId } from "./dom.js";

const SIZE = 280;
const PAPER = "#ffffff";

export class Sketch {
  #strokes = [];
  #drawn;
  #width;
  #ink;
  #context;

  /** `colour`: whether the model sees colours; `drawn` is called while something is being drawn. */
  constructor({ colour, drawn }) {
    this.#drawn = drawn;
    this.canvas = el("canvas", {
      width: SIZE,
      height: SIZE,
      role: "img",
      "aria-label": "Your drawing, with a pointer; the buttons take a file or the example instead",
    });
    this.#context = this.canvas.getContext("2d", { alpha: false });
    const [width, ink] = [newId("pen"), newId("ink")];
    this.#width = el("input", { type: "range", id: width, min: 4, max: 80, value: 28 });
    this.#ink = colour
      ? el("input", { type: "color", id: ink, value: "#202020" })
      : el(
          "select",
          { id: ink },
          ...[
            ["black", "#000000"],
            ["grey", "#808080"],
            ["light grey", "#c0c0c0"],
            ["white", PAPER],
          ].map(([name, value]) => el("option", { value }, name)),
        );
    this.controls = el(
      "div",
      { class: "pair" },
      el("label", { for: width }, "Pen"),
      this.#width,
      el("label", { for: ink }, "Ink"),
      this.#ink,
    );
    this.canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.#go(event));
    this.#paint();
  }

  clear() {
    this.#strokes = [];
    this.#paint();
  }

  undo() {
    this.#strokes.pop();
    this.#paint();
  }

  /** The drawing as PNG. */
  blob() {
    return new Promise((done) => this.canvas.toBlob(done, "image/png"));
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
  }

  #begin(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#strokes.push({ ink: this.#ink.value, width: Number(this.#width.value), points: [this.#at(event)] });
    this.#changed();
  }

  #go(event) {
    if (!this.canvas.hasPointerCapture(event.pointerId)) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) this.#strokes.at(-1).points.push(this.#at(part));
    this.#changed();
  }

  #changed() {
    this.#paint();
    this.#drawn();
  }

  #paint() {
    const context = this.#context;
    context.fillStyle = PAPER;
    context.fillRect(0, 0, SIZE, SIZE);
    context.lineCap = context.lineJoin = "round";
    for (const { ink, width, points } of this.#strokes) {
      context.strokeStyle = ink;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...points[0]);
      for (const point of points) context.lineTo(...point);
      context.stroke();
    }
  }
}
