// The cards of figures: big number, chart, note. Knows frames as the feed says them, and the contract.

import * as charts from "./charts.js";
import { colours } from "./colours.js";
import { by, bytes, make, median, ms, percent, say } from "./dom.js";

const GROUPS = [
  ["queue", ["queue"]],
  ["vision", ["prepare", "vision"]],
  ["cache", ["plan", "keep"]],
  ["prefill", ["prefill"]],
  ["decode", ["decode"]],
];

/** Draw all cards for `frames`, the one that is shown being `frame`; `mark`: whether to point at it. */
export function draw(frames, frame, mark, daemon) {
  const options = mark && frame ? { mark: frame.number } : {};
  reuse(frames, frame, options);
  latency(frames, frame, options);
  drift(frames, frame, options, daemon);
  passes(frames, frame, options);
  memory(frames, frame, options, daemon);
  keyframes(frames);
}

function reuse(frames, frame, options) {
  const mean = frames.reduce((sum, { cache }) => sum + cache.reuse_ratio, 0) / (frames.length || 1);
  const whole = frames.filter(({ cache }) => cache.frame === "keyframe").length;
  figure("reuse", frame && percent(frame.cache.reuse_ratio));
  note("reuse", frame && `${frame.cache.reused_tokens} of ${frame.cache.total_tokens} rows; mean ${percent(mean)}`);
  charts.area(by("reuse-chart"), frames, 1, ({ cache }) => cache.reuse_ratio, colours().teal, {
    ...options, ticks: [0, 0.5, 1], say: (tick) => `${100 * tick}%`,
  });
  label("reuse", `Reuse ratio of ${frames.length} frames: mean ${percent(mean)}, ${whole} keyframes.`);
}

function latency(frames, frame, options) {
  const typical = median(frames.map(({ total_ms }) => total_ms));
  const most = nice(1.15 * Math.max(10, ...frames.slice(-120).map(({ total_ms }) => total_ms)));
  const { s1, s2, s3, s4, s5 } = colours();
  figure("latency", frame && ms(frame.total_ms));
  charts.stacked(by("latency-chart"), frames, most, parts, [s1, s2, s3, s4, s5], {
    ...options, ticks: [0, most / 2, most], say: (tick) => tick.toFixed(0),
  });
  const shown = frame ? parts(frame) : [];
  by("stages").replaceChildren(
    ...shown.map((part, at) => make("li", `stage s${at + 1}`, `${GROUPS[at][0]} ${part.toFixed(1)}`)),
  );
  label("latency", frames.length ? `Milliseconds of ${frames.length} frames, by stage: median ${ms(typical)}.` : "");
}

function parts({ timing_ms }) {
  return GROUPS.map(([, names]) => names.reduce((sum, name) => sum + (timing_ms[name] ?? 0), 0));
}

function drift(frames, frame, options, daemon) {
  const budget = daemon?.settings?.reuse?.drift_budget ?? null;
  const measured = frames.filter((one) => one.drift !== null);
  const over = measured.filter((one) => budget !== null && one.drift > budget).length;
  const most = nice(Math.max(2 * (budget ?? 0.01), 1.1 * Math.max(0, ...measured.slice(-120).map((one) => one.drift))));
  const last = measured.at(-1);
  const shown = options.mark ? frame : last;
  figure("drift", shown && shown.drift !== null && shown.drift.toFixed(4));
  const said = budget === null ? "" : `, ${over} over the budget of ${budget}`;
  note("drift", measured.length ? `${measured.length} answers measured${said}` : "Measured while the device is idle");
  charts.points(by("drift-chart"), frames, most, (one) => one.drift, budget, {
    ...options, ticks: [0, most], say: (tick) => (tick === 0 ? "0" : tick.toPrecision(2)),
  });
  label("drift", `Drift of ${measured.length} answers in normalised units${said}.`);
}

function passes(frames, frame, options) {
  const most = Math.max(4, ...frames.slice(-120).map((one) => one.passes));
  const mean = frames.reduce((sum, one) => sum + one.passes, 0) / (frames.length || 1);
  figure("passes", frame && String(frame.passes));
  const draft = frame?.draft;
  const drafted = draft && draft.mode !== "off" ? `; drafted tokens that were right: ${draft.accepted}` : "";
  note("passes", frame && `mean ${mean.toFixed(1)}${drafted}`);
  charts.stacked(by("passes-chart"), frames, most, (one) => [one.passes], [colours().s3], {
    ...options, ticks: [0, most / 2, most],
  });
  label("passes", `Decoder passes of ${frames.length} frames: mean ${mean.toFixed(1)}.`);
}

function memory(frames, frame, options, daemon) {
  const kept = daemon?.model?.history;
  const history = frame?.history;
  figure("memory", frame && bytes(frame.cache.kv_bytes + (history?.nbytes ?? 0)));
  if (!frame) return;
  const said = history
    ? `history ${bytes(history.nbytes)}: ${history.held} chunks held, ${history.kept} kept, ${history.dropped} dropped`
    : `history off: ${kept?.why ?? "not served"}`;
  note("memory", `KV ${bytes(frame.cache.kv_bytes)}; ${said}`);
  const value = (one) => [one.cache.kv_bytes, one.history?.nbytes ?? 0];
  const most = nice(1.2 * Math.max(1024, ...frames.slice(-120).map((one) => value(one)[0] + value(one)[1])) / 1024) * 1024;
  charts.stacked(by("memory-chart"), frames, most, value, [colours().s2, colours().amber], {
    ...options, ticks: [0, most], say: (tick) => (tick ? bytes(tick).replace(" ", "") : "0"),
  });
  label("memory", `Bytes that the session holds: ${said}.`);
}

function keyframes(frames) {
  const whole = frames.filter(({ cache }) => cache.frame === "keyframe");
  const reasons = Object.entries(Object.groupBy(whole, ({ cache }) => cache.reason));
  by("keyframes").replaceChildren(
    ...whole.slice(-7).reverse().map(({ epoch, seq, cache }) =>
      make("li", "", make("strong", "", cache.reason), make("span", "quiet", ` episode ${epoch}, frame ${seq}`))),
  );
  const counted = reasons.map(([reason, of]) => `${of.length} ${reason}`).join(", ");
  note("keyframes", whole.length ? `${whole.length} of the last ${frames.length} frames: ${counted}` : "None yet");
}

function figure(name, text) {
  say(by(`${name}-figure`), text || "–");
}

function note(name, text) {
  say(by(`${name}-note`), text || "");
}

/** The chart in words. */
function label(name, text) {
  by(`${name}-chart`).setAttribute("aria-label", text || "No frame yet.");
}

/** The next number that is easily read. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}
