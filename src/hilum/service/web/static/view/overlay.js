// Draws what lies over a film: the heat map, and the reader's measures and regions.
import { apply, millimetres } from "./geometry.js";

const LINE = "#ffd866", REGION = "#6cc5d6";

export function lengthWords(film, shape) {
  const mm = millimetres(film, shape.from, shape.to);
  if (mm !== null) return `${mm.toFixed(1)} mm`;
  const px = Math.hypot(shape.to[0] - shape.from[0], shape.to[1] - shape.from[1]);
  return `${Math.round(px)} px (spacing not recorded)`;
}

export class Overlay {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  // quick leaves out the finer smoothing. What lies over the film is drawn only when it changed.
  draw({ matrix, film, heat, opacity, shapes, ratio, quick }) {
    const { context, canvas } = this, something = Boolean(heat || shapes.length);
    const lies = something && [matrix, opacity, ratio, quick, canvas.width, canvas.height, JSON.stringify(shapes)].join();
    if (lies === this.lies && heat === this.heat) return;
    Object.assign(this, { lies, heat });
    canvas.hidden = !something; // an empty one costs as much to lay over the film as a full one
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (heat) {
      context.setTransform(...matrix);
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = quick ? "low" : "high";
      context.drawImage(heat, 0, 0, film.columns, film.rows);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalAlpha = 1;
    }
    for (const shape of shapes) this.shape(shape, matrix, film, ratio);
  }

  shape(shape, matrix, film, ratio) {
    const { context } = this;
    const [x0, y0] = shape.from, [x1, y1] = shape.to;
    const corners = shape.kind === "measure" ? [[x0, y0], [x1, y1]] : [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]];
    const path = new Path2D();
    corners.map(([x, y]) => apply(matrix, x, y)).forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    context.lineJoin = "round";
    context.strokeStyle = "#000";
    context.lineWidth = 4 * ratio;
    context.stroke(path);
    context.strokeStyle = shape.kind === "measure" ? LINE : REGION;
    context.lineWidth = 2 * ratio;
    context.stroke(path);
    if (shape.kind === "measure") this.label(lengthWords(film, shape), apply(matrix, x1, y1), ratio);
  }

  label(text, [x, y], ratio) {
    const { context, canvas } = this;
    context.font = `${14 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
    const width = context.measureText(text).width + 10 * ratio, height = 20 * ratio;
    const left = Math.min(Math.max(0, x + 8 * ratio), canvas.width - width);
    const top = Math.min(Math.max(0, y + 8 * ratio), canvas.height - height);
    context.fillStyle = "#000c";
    context.fillRect(left, top, width, height);
    context.fillStyle = LINE;
    context.textBaseline = "middle";
    context.fillText(text, left + 5 * ratio, top + height / 2);
  }
}
