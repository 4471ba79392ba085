// Draws a film with the processor alone: where there is no WebGL 2, or only one that the processor imitates. A film lies
// along the canvas's sides, so the place in the film that a canvas pixel shows is what its column gives plus what its row
// gives. The film's values at the canvas's pixels are kept: another window is then one look-up a pixel.
import { greyTable } from "./levels.js";
import { invert } from "./geometry.js";

const OUTSIDE = 0xff000000;

// For each of count canvas pixels along one side: the place of its value, how far it lies beside it, and the first and the
// last pixel that shows the film. from, step: film pixels; size: of the film's side; stride: from one value to the next.
function along(count, from, step, size, stride, smooth) {
  const place = new Int32Array(count), next = new Int32Array(count), part = new Float32Array(count);
  let first = count, last = -1;
  for (let i = 0, at = from; i < count; i++, at = from + step * i) {
    if (at < 0 || at >= size) continue;
    if (i < first) first = i;
    last = i;
    const whole = smooth ? Math.max(0, Math.floor(at - 0.5)) : Math.floor(at);
    place[i] = whole * stride;
    next[i] = whole < size - 1 ? stride : 0;
    part[i] = smooth ? Math.max(0, at - 0.5 - whole) : 0;
  }
  return { place, next, part, first, last };
}

export class PlainRenderer {
  constructor(canvas, levels) {
    this.kind = "2d";
    this.canvas = canvas;
    this.levels = levels;
    this.context = canvas.getContext("2d", { alpha: false });
    this.bytes = new Uint8Array(65536);
    this.colours = new Uint32Array(65536);
    this.known = this.lies = this.box = "";
  }

  // quick leaves out the smoothing between pixels, for frames of a movement.
  draw(matrix, window, inverted, quick) {
    const { width, height } = this.canvas;
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.out = new Uint32Array(this.image.data.buffer);
      this.values = new Uint16Array(width * height);
      this.lies = this.box = "";
    }
    const exact = Number.isInteger(Math.hypot(matrix[0], matrix[1])), lies = matrix.join();
    if (lies !== this.lies || !(quick || exact || this.smooth)) {
      this.smooth = !(quick || exact);
      this.sample(matrix);
      this.lies = lies;
    }
    this.fill(window, inverted);
    this.show();
  }

  fill(window, inverted) {
    const wanted = `${window.low} ${window.high} ${inverted}`;
    if (wanted === this.known) return;
    greyTable(window, inverted, this.bytes);
    for (let value = 0; value < 65536; value++) this.colours[value] = OUTSIDE | (this.bytes[value] * 0x010101);
    this.known = wanted;
  }

  sample(matrix) {
    const { width, height } = this.canvas, level = this.levels.for(Math.hypot(matrix[0], matrix[1]));
    const [a, b, c, d, e, f] = invert(matrix), whole = this.levels.list[0];
    const rx = level.columns / whole.columns, ry = level.rows / whole.rows;
    // Of the canvas's pixels their middles count; values lie in the middle of the film's pixels.
    const x = (a / 2 + c / 2 + e) * rx, y = (b / 2 + d / 2 + f) * ry, turned = a === 0;
    const sideX = [level.columns, 1, this.smooth], sideY = [level.rows, level.columns, this.smooth];
    this.across = turned ? along(width, y, b * ry, ...sideY) : along(width, x, a * rx, ...sideX);
    this.down = turned ? along(height, x, c * rx, ...sideX) : along(height, y, d * ry, ...sideY);
    if (this.smooth) this.between(level.values);
    else this.nearest(level.values);
  }

  nearest(from) {
    const { values, across: { place, first, last }, down, canvas: { width } } = this;
    for (let row = down.first; row <= down.last; row++) {
      const start = down.place[row], line = row * width;
      for (let column = first; column <= last; column++) values[line + column] = from[start + place[column]];
    }
  }

  between(from) {
    const { values, across: { place, next, part, first, last }, down, canvas: { width } } = this;
    for (let row = down.first; row <= down.last; row++) {
      const start = down.place[row], below = down.next[row], share = down.part[row], line = row * width;
      for (let column = first; column <= last; column++) {
        const here = start + place[column], there = here + below, beside = next[column], fine = part[column];
        const upper = from[here] + fine * (from[here + beside] - from[here]);
        const lower = from[there] + fine * (from[there + beside] - from[there]);
        values[line + column] = (upper + share * (lower - upper) + 0.5) | 0;
      }
    }
  }

  show() {
    const { out, values, colours, across: { first, last }, down, canvas: { width } } = this;
    const box = [first, down.first, last, down.last].join();
    if (box !== this.box) out.fill(OUTSIDE);
    for (let row = down.first; row <= down.last; row++) {
      for (let at = row * width + first, end = row * width + last; at <= end; at++) out[at] = colours[values[at]];
    }
    if (box !== this.box) this.context.putImageData(this.image, 0, 0);
    else this.context.putImageData(this.image, 0, 0, first, down.first, last - first + 1, down.last - down.first + 1);
    this.box = box;
  }
}
