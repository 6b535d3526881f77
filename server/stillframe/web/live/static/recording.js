// What this page has seen of one session: figures of its last frames, and pictures of some. Knows no element.

const FRAMES_KEPT = 240, PICTURES_KEPT = 120;

export class Recording {
  frames = []; // oldest first; each as the feed says it, and the drift that a refresh measured
  pictures = []; // likewise
  #following = true;
  #shown = -1; // index of a picture

  /** The feed begins again, and tells of the last frames once more. */
  restart() {
    this.frames = [];
  }

  /** Entries of the feed's event `frames`. */
  add(entries) {
    for (const entry of entries) {
      if (entry.cache) this.frames.push({ ...entry, drift: null });
      else this.#drift(entry);
    }
    this.frames.splice(0, this.frames.length - FRAMES_KEPT);
  }

  addPicture(picture) {
    if (same(picture, this.pictures.at(-1))) return;
    this.pictures.push(picture);
    const dropped = this.pictures.splice(0, this.pictures.length - PICTURES_KEPT).length;
    this.#shown = this.#following ? this.pictures.length - 1 : Math.max(0, this.#shown - dropped);
  }

  get following() {
    return this.#following;
  }

  get index() {
    return this.#shown;
  }

  /** The picture to show, or undefined. */
  get picture() {
    return this.pictures[this.#shown];
  }

  /** Its figures. */
  get frame() {
    const picture = this.picture;
    if (!picture) return this.frames.at(-1);
    return this.frames.find((frame) => same(frame, picture)) ?? this.frames.at(-1);
  }

  /** Frames to draw: all of them, or while paused none after the one that is shown. */
  get drawn() {
    const last = this.frame;
    return this.#following || !last ? this.frames : this.frames.filter((frame) => frame.number <= last.number);
  }

  pause() {
    this.#following = false;
  }

  follow() {
    this.#following = true;
    this.#shown = this.pictures.length - 1;
  }

  seek(index) {
    this.pause();
    this.#shown = Math.min(this.pictures.length - 1, Math.max(0, index));
  }

  #drift({ epoch, seq, drift, refresh_ms }) {
    const frame = this.frames.findLast((one) => one.epoch === epoch && one.seq === seq);
    if (frame) Object.assign(frame, { drift, refresh_ms });
  }
}

function same(one, other) {
  return other && one.number === other.number && one.epoch === other.epoch && one.seq === other.seq;
}
