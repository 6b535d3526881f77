// Small charts on canvases: bars, an area, points, a line. Knows numbers and colours; not what they mean.

import { colours } from "./colours.js";

const SLOTS = 120; // frames from left to right
const LEFT = 46, RIGHT = 6, TOP = 6, BOTTOM = 14; // CSS pixels round the plot

/** A canvas with its scales: x in frames, y from 0 to `most`. */
class Plot {
  constructor(canvas, frames, most, { mark = null, ticks = [0, most], say = String } = {}) {
    const scale = devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    canvas.width = Math.max(1, Math.round(this.width * scale));
    canvas.height = Math.max(1, Math.round(this.height * scale));
    this.context = canvas.getContext("2d");
    this.context.scale(scale, scale);
    this.frames = frames.slice(-SLOTS);
    this.most = most;
    this.step = (this.width - LEFT - RIGHT) / SLOTS;
    this.#axes(ticks, say);
    this.#keyframes();
    if (mark) this.#mark(mark);
  }

  /** The middle of a frame's slot: the newest is at the right. */
  x(index) {
    return this.width - RIGHT - (this.frames.length - index - 0.5) * this.step;
  }

  y(value) {
    const share = Math.min(1, Math.max(0, value / this.most));
    return this.height - BOTTOM - share * (this.height - TOP - BOTTOM);
  }

  #axes(ticks, say) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of ticks) {
      context.fillStyle = colours().line;
      context.fillRect(LEFT, Math.round(this.y(tick)), this.width - LEFT - RIGHT, 1);
      context.fillStyle = colours().quiet;
      context.fillText(say(tick), LEFT - 7, this.y(tick));
    }
  }

  #keyframes() {
    const { context } = this;
    context.fillStyle = colours().quiet;
    this.frames.forEach(({ cache }, index) => {
      if (cache.frame !== "keyframe") return;
      const x = this.x(index), y = this.height - BOTTOM + 4;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x - 3.5, y + 7);
      context.lineTo(x + 3.5, y + 7);
      context.fill();
    });
  }

  #mark(number) {
    const at = this.frames.findIndex((frame) => frame.number === number);
    if (at < 0) return;
    this.context.fillStyle = colours().line;
    const wide = Math.max(3, this.step);
    this.context.fillRect(this.x(at) - wide / 2, TOP, wide, this.height - TOP - BOTTOM);
  }
}

/** Bars of parts on each other: `parts(frame)` gives numbers, `shades` a colour for each. */
export function stacked(canvas, frames, most, parts, shades, options) {
  const plot = new Plot(canvas, frames, most, options);
  const wide = Math.max(1, plot.step - 0.75);
  plot.frames.forEach((frame, index) => {
    let below = 0;
    parts(frame).forEach((part, at) => {
      const top = plot.y(below + part);
      plot.context.fillStyle = shades[at];
      plot.context.fillRect(plot.x(index) - wide / 2, top, wide, Math.max(0, plot.y(below) - top));
      below += part;
    });
  });
}

/** An area under a line that steps from frame to frame. */
export function area(canvas, frames, most, value, colour, options) {
  const plot = new Plot(canvas, frames, most, options);
  const { context } = plot;
  if (!plot.frames.length) return;
  const path = new Path2D();
  plot.frames.forEach((frame, index) => {
    const x = plot.x(index), y = plot.y(value(frame));
    if (index === 0) path.moveTo(x - plot.step / 2, y);
    path.lineTo(x - plot.step / 2, y);
    path.lineTo(x + plot.step / 2, y);
  });
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke(path);
  path.lineTo(plot.x(plot.frames.length - 1) + plot.step / 2, plot.y(0));
  path.lineTo(plot.x(0) - plot.step / 2, plot.y(0));
  context.globalAlpha = 0.16;
  context.fillStyle = colour;
  context.fill(path);
  context.globalAlpha = 1;
}

/** Points, filled up to `limit`, hollow squares above it; a dashed line at the limit. Frames without a value have none. */
export function points(canvas, frames, most, value, limit, options) {
  const plot = new Plot(canvas, frames, most, options);
  const { context } = plot;
  if (limit !== null) {
    context.strokeStyle = colours().quiet;
    context.setLineDash([4, 3]);
    context.beginPath();
    context.moveTo(LEFT, plot.y(limit));
    context.lineTo(plot.width - RIGHT, plot.y(limit));
    context.stroke();
    context.setLineDash([]);
  }
  plot.frames.forEach((frame, index) => {
    const drift = value(frame);
    if (drift === null) return;
    const x = plot.x(index), y = plot.y(drift);
    if (limit !== null && drift > limit) {
      context.strokeStyle = colours().red;
      context.lineWidth = 1.5;
      context.strokeRect(x - 3, y - 3, 6, 6);
    } else {
      context.fillStyle = colours().teal;
      context.beginPath();
      context.arc(x, y, 2.2, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

/** A line without axes, between `low` and `high`, for a table's cell. */
export function sparkline(canvas, values, low, high) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const y = (value) => 2 + (height - 4) * (1 - (value - low) / (high - low || 1));
  if (low < 0 && high > 0) {
    context.fillStyle = colours().line;
    context.fillRect(0, Math.round(y(0)), width, 1);
  }
  context.strokeStyle = colours().teal;
  context.lineWidth = 1.25;
  context.beginPath();
  values.slice(-SLOTS).forEach((value, index, all) => {
    context.lineTo(width - ((all.length - 1 - index) * width) / (SLOTS - 1), y(Math.min(high, Math.max(low, value))));
  });
  context.stroke();
}
