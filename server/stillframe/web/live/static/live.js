// The live page: puts feed, list, stage and cards together. Knows which session is watched.

import * as action from "./action.js";
import { onScheme } from "./colours.js";
import * as contract from "./contract.js";
import { by, say } from "./dom.js";
import { Feed } from "./feed.js";
import * as panels from "./panels.js";
import { Recording } from "./recording.js";
import { keyOf, SessionList } from "./sessions.js";
import { Stage } from "./stage.js";

const page = { daemon: null, listed: null, watched: null, chosen: false, recording: new Recording(), drawing: false, ending: "", refused: false };

const STATES = { live: "live", lost: "connection lost, trying again", refused: "refused, trying again" };

const stage = new Stage(() => page.recording, draw);
const list = new SessionList((session) => watch(session, { chosen: true }));
const feed = new Feed({ event: (name, document) => handlers[name]?.(document), state: connection, gone: leave });

const handlers = {
  daemon(document) {
    page.daemon = document;
    contract.show(document);
    draw();
  },
  sessions(document) {
    page.listed = document;
    list.show(document, page.watched && keyOf(page.watched));
    if (!page.watched || (page.watched.over && !page.chosen)) follow(document.sessions);
  },
  frames(document) {
    page.recording.add(document);
    draw();
  },
  picture(document) {
    page.recording.addPicture(document);
    draw();
  },
  ended({ id, state }) {
    page.ending = `Session ${id} was ${state}.`;
    leave(`${page.ending} What you see is its last frame.`);
  },
};

/** Watch the session that was used last, unless one was chosen. */
function follow(sessions) {
  const [latest] = [...sessions].sort((one, other) => one.idle_s - other.idle_s);
  if (!latest) return;
  const before = page.watched && page.ending ? `${page.ending} This is ${latest.id} now.` : "";
  watch(latest, { chosen: false });
  notice(before);
}

function watch({ id, owner }, { chosen }) {
  Object.assign(page, { watched: { id, owner }, chosen, recording: new Recording() });
  document.body.dataset.watched = "on";
  notice("");
  feed.watch(page.watched);
  if (page.listed) list.show(page.listed, keyOf(page.watched));
  draw();
}

/** The session that was asked for is gone. */
function leave(detail) {
  page.watched = { ...page.watched, over: true };
  document.body.dataset.watched = "over";
  notice(detail);
}

function connection(word, detail) {
  const pill = by("feed-state");
  document.body.dataset.feed = word;
  pill.dataset.state = word;
  say(pill, word === "live" ? `live, ${page.daemon?.rate_hz ?? "…"} Hz` : STATES[word]);
  if (word === "live") page.recording.restart();
  if (word === "refused") notice(detail);
  if (word === "live" && page.refused) notice("");
  page.refused = word === "refused" || (page.refused && word === "lost");
}

function notice(text) {
  by("notice").hidden = !text;
  say(by("notice"), text);
}

/** Draw with the browser's next frame, once for all that came before it. */
function draw() {
  if (page.drawing) return;
  page.drawing = true;
  requestAnimationFrame(() => {
    page.drawing = false;
    const { recording, daemon } = page;
    stage.show(recording, page.watched);
    panels.draw(recording.drawn, recording.frame, !recording.following, daemon);
    action.draw(recording.drawn, recording.frame, daemon);
    if (daemon && document.body.dataset.feed === "live") say(by("feed-state"), `live, ${daemon.rate_hz} Hz`);
  });
}

onScheme(draw);
new ResizeObserver(draw).observe(by("stage"));
