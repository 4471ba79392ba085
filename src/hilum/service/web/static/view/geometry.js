// Where a film lies on its canvas. A view is {zoom, x, y, turns, flip}: zoom 1 shows the whole film, (x, y) is the point
// of the film (0 … 1 down each side) in the middle of the canvas, turns are quarter turns clockwise, flip mirrors first.
// A matrix [a, b, c, d, e, f] takes film pixels to canvas pixels as in the canvas API: X = a·x + c·y + e, Y = b·x + d·y + f.

export const LEAST_ZOOM = 0.25;
export const MOST_ZOOM = 40;

export const whole = () => ({ zoom: 1, x: 0.5, y: 0.5, turns: 0, flip: false });

export function fitScale(film, canvas, turns) {
  const [width, height] = turns % 2 ? [film.rows, film.columns] : [film.columns, film.rows];
  return Math.min(canvas.width / width, canvas.height / height);
}

export function matrixOf(view, film, canvas) {
  const scale = view.zoom * fitScale(film, canvas, view.turns);
  const cos = [1, 0, -1, 0][view.turns], sin = [0, 1, 0, -1][view.turns];
  const mirror = view.flip ? -1 : 1;
  const a = scale * cos * mirror, b = scale * sin * mirror, c = -scale * sin, d = scale * cos;
  const x = view.x * film.columns, y = view.y * film.rows;
  let e = canvas.width / 2 - a * x - c * y, f = canvas.height / 2 - b * x - d * y;
  if (Number.isInteger(scale)) {
    // Film pixels on whole canvas pixels: what is shown is then exactly what is stored.
    e = Math.round(e);
    f = Math.round(f);
  }
  return [a, b, c, d, e, f];
}

export function invert([a, b, c, d, e, f]) {
  const det = a * d - b * c;
  return [d / det, -b / det, -c / det, a / det, (c * f - d * e) / det, (b * e - a * f) / det];
}

export const apply = ([a, b, c, d, e, f], x, y) => [a * x + c * y + e, b * x + d * y + f];

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// The view after the film moved by so many canvas pixels.
export function moved(view, film, canvas, dx, dy) {
  const back = invert(matrixOf(view, film, canvas));
  const x = view.x - (back[0] * dx + back[2] * dy) / film.columns;
  const y = view.y - (back[1] * dx + back[3] * dy) / film.rows;
  return { ...view, x: clamp(x, 0, 1), y: clamp(y, 0, 1) };
}

// The view at another zoom, the film's point under (cx, cy) of the canvas staying where it is.
export function zoomed(view, film, canvas, factor, cx = canvas.width / 2, cy = canvas.height / 2) {
  const zoom = clamp(view.zoom * factor, LEAST_ZOOM, MOST_ZOOM);
  const [x, y] = apply(invert(matrixOf(view, film, canvas)), cx, cy);
  const next = { ...view, zoom };
  const [nx, ny] = apply(invert(matrixOf(next, film, canvas)), cx, cy);
  return {
    ...next,
    x: clamp(next.x + (x - nx) / film.columns, 0, 1),
    y: clamp(next.y + (y - ny) / film.rows, 0, 1),
  };
}

// Millimetres between two points of a film, or null where its spacing is not recorded.
export function millimetres(film, [x0, y0], [x1, y1]) {
  if (!film.spacing_mm) return null;
  const [down, across] = film.spacing_mm;
  return Math.hypot((x1 - x0) * across, (y1 - y0) * down);
}
