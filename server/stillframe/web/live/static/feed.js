// The feed of events: one request that goes on, made again when it ends. Knows server-sent events; not what they say.

import { get, Refused } from "./token.js";

const SILENT_MS = 6000; // the daemon says something every second
const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 10000;
const GONE = [404, 409, 410]; // the session that was asked for

export class Feed {
  #handlers;
  #session = null;
  #switched = false;
  #abort = new AbortController();

  /** `handlers`: {event(name, document), state(word, detail), gone(detail)}. */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#run();
  }

  /** Watch another session, {id, owner}; null: none. */
  watch(session) {
    this.#session = session;
    this.#switched = true;
    this.#abort.abort("another session");
  }

  async #run() {
    let waitMs = FIRST_WAIT_MS;
    for (;;) {
      const abort = (this.#abort = new AbortController());
      const asked = this.#session;
      let restMs = 0;
      try {
        const response = await get(this.#path(), { signal: abort.signal });
        this.#handlers.state("live");
        this.#switched = false;
        for await (const { name, document } of events(response.body, abort)) {
          waitMs = FIRST_WAIT_MS;
          if (!abort.signal.aborted) this.#handlers.event(name, document);
        }
        if (!abort.signal.aborted) this.#handlers.state("lost");
      } catch (error) {
        if (asked === this.#session) restMs = this.#failed(error);
      }
      if (asked !== this.#session) continue;
      await new Promise((next) => setTimeout(next, Math.max(waitMs, restMs)));
      waitMs = Math.min(LONGEST_WAIT_MS, 2 * waitMs);
    }
  }

  /** Say why a request failed or ended; return for how long to leave the daemon alone, at least. */
  #failed(error) {
    if (error instanceof Refused && GONE.includes(error.status) && this.#session) {
      this.#session = null;
      this.#handlers.gone(error.message);
      return 0;
    }
    if (error instanceof Refused && this.#switched) {
      this.#switched = false; // its own place of a moment ago may not be free yet
      return 0;
    }
    const refused = error instanceof Refused;
    this.#handlers.state(refused ? "refused" : "lost", error.message);
    return refused ? error.waitMs : 0;
  }

  #path() {
    if (!this.#session) return "live/feed";
    const { id, owner } = this.#session;
    return `live/feed?${new URLSearchParams({ session: id, owner })}`;
  }
}

/** Yield {name, document} for each event of a body. Aborts it when nothing comes for SILENT_MS. */
export async function* events(body, abort) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silent = setTimeout(() => abort.abort("silent"), SILENT_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(silent));
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) yield parsed(part);
  }
}

function parsed(part) {
  const [, name, data] = part.match(/^event: (\S+)\ndata: ([^]*)$/);
  return { name, document: JSON.parse(data) };
}
