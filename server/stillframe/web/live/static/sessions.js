// The list of sessions: each a button, with figures of its last frames. Knows the feed's event `sessions`.

import { ago, by, bytes, make, ms, percent, say } from "./dom.js";

const STATES = { idle: "idle", busy: "computing", leaving: "connection lost", away: "connection lost" };

export const keyOf = ({ id, owner }) => JSON.stringify([owner, id]);

export class SessionList {
  #rows = new Map(); // by key
  #choose;

  /** `choose`: called with a session that was clicked. */
  constructor(choose) {
    this.#choose = choose;
  }

  show({ sessions, ended, not_listed, sessions_limit, kv_in_use_bytes, kv_budget_bytes }, watched) {
    const list = by("sessions"), keys = new Set(sessions.map(keyOf));
    for (const [key, row] of this.#rows) if (!keys.has(key)) (row.item.remove(), this.#rows.delete(key));
    const owners = new Set(sessions.map((session) => session.owner));
    for (const session of sessions) this.#row(list, session, owners.size > 1, watched);
    by("no-session").hidden = sessions.length > 0;
    say(by("sessions-title"), `Sessions ${sessions.length + not_listed}${sessions_limit ? ` of ${sessions_limit}` : ""}`);
    this.#ended(ended);
    by("pool").value = kv_budget_bytes ? kv_in_use_bytes / kv_budget_bytes : 0;
    const pool = `${bytes(kv_in_use_bytes)} of ${bytes(kv_budget_bytes)}`;
    say(by("pool-text"), pool);
    by("pool").textContent = pool;
  }

  #row(list, session, owned, watched) {
    const key = keyOf(session);
    let row = this.#rows.get(key);
    if (!row) {
      row = { name: make("strong"), state: make("span", "state"), figures: make("span", "figures") };
      row.button = make("button", "session", row.name, row.state, row.figures);
      row.button.type = "button";
      row.item = make("li", "", row.button);
      this.#rows.set(key, row);
      list.append(row.item);
    }
    row.button.onclick = () => this.#choose(session);
    row.button.toggleAttribute("aria-current", key === watched);
    if (key === watched) row.button.setAttribute("aria-current", "true");
    row.button.dataset.state = session.state;
    say(row.name, owned ? `${session.owner} / ${session.id}` : session.id);
    row.button.title = session.id;
    say(row.state, stateOf(session));
    say(row.figures, figuresOf(session));
  }

  #ended(ended) {
    by("ended-title").hidden = !ended.length;
    by("ended").replaceChildren(
      ...ended.map(({ id, state, ended_s }) => make("li", "", make("span", "id", id), ` ${state} ${ago(ended_s)}`)),
    );
  }
}

function stateOf({ state, idle_s }) {
  const word = STATES[state] ?? state;
  return state === "idle" && idle_s > 2 ? `idle since ${Math.round(idle_s)} s` : word;
}

function figuresOf({ recent }) {
  if (!recent || recent.reuse_ratio === null) return "no frame yet";
  return `${percent(recent.reuse_ratio)} reused, ${ms(recent.total_ms)}, ${recent.frames_per_s.toFixed(1)} Hz`;
}
