// The page's colours as canvases need them, light or dark. Knows names of page.css.

const NAMES = ["card", "ink", "quiet", "line", "teal", "amber", "red", "veil", "mark-teal", "mark-amber", "s1", "s2", "s3", "s4", "s5"];
const scheme = matchMedia("(prefers-color-scheme: dark)");
let known = null;

export function colours() {
  if (!known) {
    const style = getComputedStyle(document.documentElement);
    known = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  return known;
}

/** Call `redraw` when the scheme changes. */
export function onScheme(redraw) {
  scheme.addEventListener("change", () => {
    known = null;
    redraw();
  });
}
