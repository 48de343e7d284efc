// The service's routes, its problem documents as sentences, and the API key.

const KEY = "keras-serving.key";

/** Of this tab alone; never in an address, a log or localStorage. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** What went wrong: `status` 0 when no answer came; `errors` name fields. */
export class Problem extends Error {
  constructor(status, message, errors = []) {
    super(message);
    this.status = status;
    this.errors = errors;
  }

  /** One sentence or more an error: field, rule, what was received, and the remedy. */
  get sentences() {
    if (!this.errors.length) return [{ text: this.message }];
    return this.errors.map(({ field, rule, received, remedy }) => ({
      field,
      text: `${rule}. Received: ${received}. ${remedy}`,
    }));
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout(30_000) });
  } catch (error) {
    const why =
      error.name === "TimeoutError"
        ? "The service did not answer within 30 seconds. Try again."
        : "The service cannot be reached. It may be restarting: try again in a moment.";
    throw new Problem(0, why);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Problem(response.status, body.detail ?? `The service answered ${response.status}.`, body.errors ?? []);
}

export const getJson = async (path) => (await ask(path)).json();

/** Posts a body of `type`, with the key if there is one; the answer's headers say how long each stage took. */
export function post(path, type, body) {
  const headers = { "Content-Type": type, "X-Serving-Details": "1" };
  if (key.get()) headers["X-API-Key"] = key.get();
  return ask(path, { method: "POST", headers, body });
}

/** A prediction that somebody only tries: drift, shadow and capture, which watch the traffic, leave it out. */
export const tryOut = (path, type, body) => post(`${path}${path.includes("?") ? "&" : "?"}trial=1`, type, body);

/** Milliseconds that a response took inside of the service; null where it does not say. */
export function inside(response) {
  const stages = [...(response.headers.get("Server-Timing") ?? "").matchAll(/dur=([0-9.]+)/g)];
  return stages.length ? stages.reduce((sum, [, milliseconds]) => sum + Number(milliseconds), 0) : null;
}

/** Runs one value at a time, shortly after it came; of those that come meanwhile, only the latest. */
export class Latest {
  #run;
  #wanted = null;
  #busy = false;

  constructor(run) {
    this.#run = run;
  }

  async push(value) {
    this.#wanted = { value };
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#wanted) {
        await new Promise((done) => setTimeout(done, 25));
        const { value: latest } = this.#wanted;
        this.#wanted = null;
        await this.#run(latest);
      }
    } finally {
      this.#busy = false;
    }
  }
}
