// What is served and the settings in force, as lists. Knows the feed's event `daemon`.

import { by, make, say } from "./dom.js";

export function show({ state, version, model, settings }) {
  const pill = by("daemon-state");
  pill.hidden = false;
  pill.dataset.state = state;
  say(pill, state);
  say(by("served"), model ? `${model.name} on ${model.device}, ${model.dtype}` : "no policy yet");
  by("contract").replaceChildren(...(model ? terms(contractOf(model, version)) : []));
  by("settings").replaceChildren(...terms(flat(settings)));
}

function contractOf(model, version) {
  const { observation, action } = model;
  const [height, width] = observation.image_size;
  return {
    model: model.source ?? model.name,
    family: model.family,
    parameters: model.parameters.toLocaleString("en"),
    precision: `${model.dtype} on ${model.device}`,
    "batch invariant": model.batch_invariant ? "yes, as measured at load" : "up to rounding, as measured at load",
    cameras: observation.cameras.join(", "),
    "picture as seen": `${width} × ${height} pixels`,
    "centre crop": observation.center_crop === null ? "none" : String(observation.center_crop),
    state: observation.state ? observation.state.fields.map(({ name }) => name).join(", ") : "not read",
    action: action.fields.map(({ name, unit }) => (unit === "1" ? name : `${name} (${unit})`)).join(", "),
    gripper: action.gripper,
    "actions an answer": `${action.chunk_horizon}, of which ${action.execute} to be played`,
    statistics: Object.keys(model.norm_stats).join(", "),
    "older frames": model.history.enabled ? `on (${model.history.gate}): ${model.history.why}` : `off: ${model.history.why}`,
    stillframe: version,
  };
}

/** Nested settings by their full names. */
function flat(settings, prefix = "") {
  return Object.entries(settings).reduce((found, [name, value]) => {
    const nested = value !== null && typeof value === "object" && !Array.isArray(value);
    return { ...found, ...(nested ? flat(value, `${prefix}${name}.`) : { [prefix + name]: JSON.stringify(value) }) };
  }, {});
}

function terms(pairs) {
  return Object.entries(pairs).map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value)));
}
