// Draws a film with the processor alone: where there is no WebGL 2, or only one that the processor imitates.
import { greyTable } from "./levels.js";
import { invert } from "./geometry.js";

const OUTSIDE = 0xff000000;

export class PlainRenderer {
  constructor(canvas, levels) {
    this.kind = "2d";
    this.canvas = canvas;
    this.levels = levels;
    this.context = canvas.getContext("2d", { alpha: false, desynchronized: true });
    this.bytes = new Uint8Array(65536);
    this.colours = new Uint32Array(65536);
    this.known = "";
  }

  // quick leaves out the smoothing between pixels, for frames of a movement.
  draw(matrix, window, inverted, quick) {
    const { width, height } = this.canvas;
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.out = new Uint32Array(this.image.data.buffer);
    }
    this.fill(window, inverted);
    const scale = Math.hypot(matrix[0], matrix[1]);
    const level = this.levels.for(scale);
    const back = invert(matrix);
    const ratioX = level.columns / this.levels.list[0].columns, ratioY = level.rows / this.levels.list[0].rows;
    const step = { xx: back[0] * ratioX, xy: back[1] * ratioY, yx: back[2] * ratioX, yy: back[3] * ratioY };
    // Of the canvas's pixels their middles count; values lie in the middle of the film's pixels.
    const x0 = (back[0] / 2 + back[2] / 2 + back[4]) * ratioX, y0 = (back[1] / 2 + back[3] / 2 + back[5]) * ratioY;
    if (quick || Number.isInteger(scale)) this.nearest(level, x0, y0, step, width, height);
    else this.smooth(level, x0 - 0.5, y0 - 0.5, step, width, height);
    this.context.putImageData(this.image, 0, 0);
  }

  fill(window, inverted) {
    const wanted = `${window.low} ${window.high} ${inverted}`;
    if (wanted === this.known) return;
    greyTable(window, inverted, this.bytes);
    for (let value = 0; value < 65536; value++) this.colours[value] = OUTSIDE | (this.bytes[value] * 0x010101);
    this.known = wanted;
  }

  nearest({ values, rows, columns }, x0, y0, { xx, xy, yx, yy }, width, height) {
    const { out, colours } = this;
    for (let row = 0, at = 0; row < height; row++) {
      let x = x0 + yx * row, y = y0 + yy * row;
      for (let column = 0; column < width; column++, x += xx, y += xy) {
        out[at++] = x >= 0 && y >= 0 && x < columns && y < rows ? colours[values[(y | 0) * columns + (x | 0)]] : OUTSIDE;
      }
    }
  }

  smooth({ values, rows, columns }, x0, y0, { xx, xy, yx, yy }, width, height) {
    const { out, colours } = this;
    const lastX = columns - 1, lastY = rows - 1;
    for (let row = 0, at = 0; row < height; row++) {
      let x = x0 + yx * row, y = y0 + yy * row;
      for (let column = 0; column < width; column++, x += xx, y += xy) {
        if (x < -0.5 || y < -0.5 || x >= lastX + 0.5 || y >= lastY + 0.5) {
          out[at++] = OUTSIDE;
          continue;
        }
        const left = x < 0 ? 0 : x | 0, top = y < 0 ? 0 : y | 0;
        const fx = x < 0 ? 0 : x - left, fy = y < 0 ? 0 : y - top;
        const here = top * columns + left, right = left < lastX ? 1 : 0, below = top < lastY ? columns : 0;
        const upper = values[here] + fx * (values[here + right] - values[here]);
        const lower = values[here + below] + fx * (values[here + below + right] - values[here + below]);
        out[at++] = colours[(upper + fy * (lower - upper) + 0.5) | 0];
      }
    }
  }
}
