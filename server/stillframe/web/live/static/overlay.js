// Draws a picture with the fate of its patches over it. Knows one camera's document.

import { colours } from "./colours.js";

export const FATES = ["reused", "changed", "relevant", "limited"]; // by digit
const NAMES = ["reused", "computed for they changed", "computed for the task looks there", "computed for they were too old or past what may be reused"];

/** How many patches have each fate. */
export function counts(camera) {
  const found = [0, 0, 0, 0];
  for (const digit of camera.patches) found[digit] += 1;
  return found;
}

/** The overlay in words. */
export function described(camera) {
  const parts = counts(camera).map((count, fate) => `${count} ${NAMES[fate]}`);
  return `Camera ${camera.name}: of ${camera.patches.length} patches ${parts.join(", ")}.`;
}

/** Draw on a canvas of any size; `shown`: a set of the fates that are marked. */
export function draw(canvas, bitmap, camera, shown) {
  const scale = Math.min(2, devicePixelRatio || 1);
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.round((width * camera.height) / camera.width);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const grid = new Grid(camera, width, height);
  if (shown.has(0)) veil(context, grid);
  if (shown.has(3)) dots(context, grid, scale);
  if (shown.has(1)) outline(context, grid, 1, colours()["mark-teal"], scale);
  if (shown.has(2)) hatch(context, grid, scale);
}

class Grid {
  constructor({ rows, columns, patches }, width, height) {
    Object.assign(this, { rows, columns, patches, width: width / columns, height: height / rows });
  }

  is(row, column, fate) {
    const inside = row >= 0 && column >= 0 && row < this.rows && column < this.columns;
    return inside && Number(this.patches[row * this.columns + column]) === fate;
  }

  *cells(fate) {
    for (let row = 0; row < this.rows; row += 1)
      for (let column = 0; column < this.columns; column += 1)
        if (this.is(row, column, fate)) yield [row, column];
  }

  /** The area of all patches of a fate. */
  area(fate) {
    const path = new Path2D();
    for (const [row, column] of this.cells(fate))
      path.rect(column * this.width, row * this.height, this.width, this.height);
    return path;
  }

  /** The lines round them, without those between two of them. */
  contour(fate) {
    const path = new Path2D();
    const line = (x0, y0, x1, y1) => {
      path.moveTo(x0 * this.width, y0 * this.height);
      path.lineTo(x1 * this.width, y1 * this.height);
    };
    for (const [row, column] of this.cells(fate)) {
      if (!this.is(row - 1, column, fate)) line(column, row, column + 1, row);
      if (!this.is(row + 1, column, fate)) line(column, row + 1, column + 1, row + 1);
      if (!this.is(row, column - 1, fate)) line(column, row, column, row + 1);
      if (!this.is(row, column + 1, fate)) line(column + 1, row, column + 1, row + 1);
    }
    return path;
  }
}

function veil(context, grid) {
  context.fillStyle = colours().veil;
  context.fill(grid.area(0));
}

function outline(context, grid, fate, colour, scale) {
  const path = grid.contour(fate);
  context.lineCap = "square";
  context.strokeStyle = "rgb(10 20 25 / 55%)";
  context.lineWidth = 3.5 * scale;
  context.stroke(path);
  context.strokeStyle = colour;
  context.lineWidth = 1.75 * scale;
  context.stroke(path);
}

function hatch(context, grid, scale) {
  context.save();
  context.clip(grid.area(2));
  const { width, height } = context.canvas;
  context.beginPath();
  for (let x = -height; x < width; x += 7 * scale) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.strokeStyle = colours()["mark-amber"];
  context.globalAlpha = 0.8;
  context.lineWidth = 1.25 * scale;
  context.stroke();
  context.restore();
  outline(context, grid, 2, colours()["mark-amber"], scale);
}

function dots(context, grid, scale) {
  context.fillStyle = "#ffffff";
  context.strokeStyle = "#101518";
  context.lineWidth = 1.5 * scale;
  for (const [row, column] of grid.cells(3)) {
    context.beginPath();
    context.arc((column + 0.5) * grid.width, (row + 0.5) * grid.height, 1.8 * scale, 0, 2 * Math.PI);
    context.stroke();
    context.fill();
  }
}
