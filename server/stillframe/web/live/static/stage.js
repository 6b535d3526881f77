// The pictures of the frame that is shown, their overlay, and the buttons to pause and step. Knows a Recording.

import { by, make, percent, say } from "./dom.js";
import * as overlay from "./overlay.js";

export class Stage {
  #fates = new Set([0, 1, 2, 3]);
  #bitmaps = new WeakMap(); // picture -> promise of its cameras' bitmaps
  #figures = new Map(); // camera -> {canvas, caption}
  #wanted = null; // the picture to draw, once the one before is decoded
  #drawing = false;
  #changed;

  /** `recording()` gives the one that is shown; `changed`: called when pausing or stepping changed what is. */
  constructor(recording, changed) {
    this.#changed = changed;
    by("pause").onclick = () => this.#move((of) => (of.following ? of.pause() : of.follow()), recording());
    by("back").onclick = () => this.#move((of) => of.seek(of.index - 1), recording());
    by("forward").onclick = () => this.#move((of) => of.seek(of.index + 1), recording());
    by("seek").oninput = (event) => this.#move((of) => of.seek(Number(event.target.value)), recording());
    for (const box of document.querySelectorAll("[data-fate]")) box.onchange = () => this.#toggle(box);
  }

  /** Show what a recording shows now. */
  show(recording, session) {
    say(by("session-title"), session?.id ?? "No session is watched");
    const { picture, frame } = recording;
    this.#player(recording);
    this.#badge(frame);
    by("waiting").hidden = Boolean(picture);
    say(by("waiting"), session ? "Waiting for its next frame." : "Choose a session; its next frame shows here.");
    this.#wanted = picture ?? null;
    if (picture) this.#drawWanted();
    else this.#empty();
  }

  #empty() {
    say(by("instruction"), "");
    by("cameras").replaceChildren();
    this.#figures.clear();
    for (const count of document.querySelectorAll("[data-count]")) say(count, "");
  }

  /** Decode and draw; a picture that came meanwhile follows, and those between are left out. */
  async #drawWanted() {
    if (this.#drawing) return;
    this.#drawing = true;
    for (let drawn = null; this.#wanted && drawn !== this.#wanted; ) {
      drawn = this.#wanted;
      const bitmaps = await this.#decoded(drawn).catch(() => null);
      if (bitmaps && this.#wanted) this.#draw(drawn, bitmaps);
    }
    this.#drawing = false;
  }

  #draw(picture, bitmaps) {
    say(by("instruction"), `“${picture.instruction}”`);
    this.#legend(picture);
    const names = picture.cameras.map(({ name }) => name);
    if (names.join() !== [...this.#figures.keys()].join()) this.#build(names);
    picture.cameras.forEach((camera, at) => {
      const { canvas } = this.#figures.get(camera.name);
      canvas.style.aspectRatio = `${camera.width} / ${camera.height}`;
      overlay.draw(canvas, bitmaps[at], camera, this.#fates);
      canvas.setAttribute("aria-label", overlay.described(camera));
    });
  }

  #build(names) {
    this.#figures = new Map(names.map((name) => [name, { canvas: make("canvas") }]));
    for (const { canvas } of this.#figures.values()) canvas.setAttribute("role", "img");
    const figures = [...this.#figures].map(([name, { canvas }]) => make("figure", "", canvas, make("figcaption", "", name)));
    by("cameras").replaceChildren(...figures);
    by("cameras").dataset.cameras = names.length;
  }

  #decoded(picture) {
    if (!this.#bitmaps.has(picture)) this.#bitmaps.set(picture, Promise.all(picture.cameras.map(bitmap)));
    return this.#bitmaps.get(picture);
  }

  #player(recording) {
    const last = recording.pictures.length - 1, paused = !recording.following;
    by("pause").setAttribute("aria-pressed", String(paused));
    say(by("pause"), paused ? "Go on" : "Pause");
    Object.assign(by("seek"), { max: Math.max(0, last), disabled: last < 1 });
    by("seek").value = Math.max(0, recording.index);
    by("back").disabled = recording.index < 1;
    by("forward").disabled = recording.index >= last;
    const { picture } = recording;
    const behind = last - recording.index;
    const text = picture ? `episode ${picture.epoch}, frame ${picture.seq}` : "";
    say(by("place"), text + (paused && behind > 0 ? ` (${behind} behind)` : ""));
    by("seek").setAttribute("aria-valuetext", text);
  }

  #badge(frame) {
    const badge = by("badge");
    badge.hidden = !frame;
    if (!frame) return;
    const { cache } = frame;
    badge.dataset.frame = cache.frame;
    const text = cache.frame === "keyframe" ? `keyframe: ${cache.reason}` : `delta: ${percent(cache.reuse_ratio)} reused`;
    say(badge, `${text}, mode ${cache.mode}`);
  }

  #legend(picture) {
    const total = [0, 0, 0, 0];
    for (const camera of picture.cameras) overlay.counts(camera).forEach((count, fate) => (total[fate] += count));
    total.forEach((count, fate) => say(document.querySelector(`[data-count="${fate}"]`), String(count)));
  }

  #toggle(box) {
    const fate = Number(box.dataset.fate);
    if (box.checked) this.#fates.add(fate);
    else this.#fates.delete(fate);
    this.#changed();
  }

  #move(change, recording) {
    change(recording);
    this.#changed();
  }
}

async function bitmap({ jpeg }) {
  const bytes = Uint8Array.from(atob(jpeg), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}
