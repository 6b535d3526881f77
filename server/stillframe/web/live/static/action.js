// The table of an action's numbers: value, its place within the contract's range, and the last frames' values.

import { sparkline } from "./charts.js";
import { by, make, say } from "./dom.js";

let fields = null; // of the contract that the rows were made for
let rows = [];

export function draw(frames, frame, daemon) {
  const contract = daemon?.model?.action?.fields;
  if (!contract || !frame) return;
  if (fields !== contract) build(contract);
  rows.forEach((row, at) => {
    const value = frame.action[at];
    say(row.value, `${written(value)}${contract[at].unit === "1" ? "" : ` ${contract[at].unit}`}`);
    place(row, value);
    sparkline(row.chart, frames.map((one) => one.action[at]), row.low, row.high);
  });
}

function build(contract) {
  fields = contract;
  rows = contract.map(({ name, ranges }) => {
    const [low, high] = Object.values(ranges)[0] ?? [-1, 1];
    const row = { low, high, value: make("td", "number"), bar: make("i"), chart: make("canvas") };
    row.chart.setAttribute("aria-hidden", "true"); // the column before says the number
    row.track = make("span", "track", row.bar);
    row.track.setAttribute("aria-hidden", "true");
    row.range = make("span", "quiet");
    const head = make("th", "", name);
    head.scope = "row";
    row.line = make("tr", "", head, row.value, make("td", "range", row.track), make("td", "", row.chart));
    row.track.title = `${written(low)} to ${written(high)}`;
    return row;
  });
  by("action").tBodies[0].replaceChildren(...rows.map(({ line }) => line));
}

/** Draw the bar from zero, or from the low end where zero is outside the range or at its end. */
function place({ bar, low, high }, value) {
  const share = (number) => Math.min(1, Math.max(0, (number - low) / (high - low || 1)));
  const from = low < 0 && high > 0 ? share(0) : 0;
  const [begin, end] = [from, share(value)].sort((one, other) => one - other);
  bar.style.left = `${100 * begin}%`;
  bar.style.width = `${Math.max(1, 100 * (end - begin))}%`;
}

function written(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 0.1 ? 4 : 3)}`;
}
