// The command line for exactly what was just sent.

import { el } from "./dom.js";
import { key } from "./api.js";

// A shell takes more, a person does not.
const LONGEST_BASE64 = 16_000;

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/**
 * `sent`: {path, type, body, file}. A picture that has a file name is read from that file; any other one is part of the
 * line, so that it can be repeated anywhere.
 */
export async function curlOf({ path, type, body, file }) {
  const url = new URL(path, location.href).href;
  const target = [quoted(url), `-H ${quoted(`Content-Type: ${type}`)}`];
  if (key.get()) target.push(`-H "X-API-Key: $API_KEY"`);
  if (typeof body === "string") return `curl -s ${target.join(" ")} -d ${quoted(body)}`;
  if (!file && body.size * 1.4 < LONGEST_BASE64)
    return `echo ${await base64(body)} | base64 -d | curl -s ${target.join(" ")} --data-binary @-`;
  return `curl -s ${target.join(" ")} --data-binary ${quoted(`@${file ?? "picture.png"}`)}`;
}

async function copy(text, node) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied";
  } catch {
    // Without HTTPS, and not on this machine, a browser gives no clipboard: leave the text selected.
    getSelection().selectAllChildren(node);
    return "Selected: press Ctrl+C";
  }
}

/** The part of the page that shows the line; `show(sent)` fills it. */
export function curlBox() {
  const line = el("code", { tabindex: 0, "aria-label": "curl command", role: "textbox", "aria-readonly": "true" });
  const button = el("button", { type: "button", class: "quiet" }, "Copy");
  const said = el("span", { role: "status", class: "hint" });
  button.addEventListener("click", async () => {
    said.textContent = await copy(line.textContent, line);
    setTimeout(() => (said.textContent = ""), 3000);
  });
  const element = el(
    "section",
    { class: "curl", "aria-label": "The same from a terminal", hidden: true },
    el(
      "div",
      { class: "row spread" },
      el("h3", {}, "The same from a terminal"),
      el("span", { class: "row" }, said, button),
    ),
    el("pre", {}, line),
  );
  return {
    element,
    async show(sent) {
      line.textContent = await curlOf(sent);
      element.hidden = false;
    },
  };
}
