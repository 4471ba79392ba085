// A film in halves, quarters, … so that a reduced picture averages instead of leaving pixels out. Averages are taken
// before the window, as the preprocessing does.
const SMALLEST = 256;

function halved({ values, rows, columns }) {
  const half = { rows: rows >> 1, columns: columns >> 1 };
  const out = new Uint16Array(half.rows * half.columns);
  for (let y = 0, at = 0; y < half.rows; y++) {
    let above = 2 * y * columns, below = above + columns;
    for (let x = 0; x < half.columns; x++, above += 2, below += 2) {
      out[at++] = (values[above] + values[above + 1] + values[below] + values[below + 1] + 2) >> 2;
    }
  }
  return { ...half, values: out };
}

export class Levels {
  constructor(values, rows, columns) {
    this.list = [{ values, rows, columns }];
  }

  // The level that is at least as fine as the canvas at this scale (canvas pixels by film pixel); made when needed.
  for(scale) {
    let depth = 0;
    for (let s = scale; s <= 0.5; s *= 2) depth += 1;
    while (this.list.length <= depth) {
      const last = this.list.at(-1);
      if (Math.min(last.rows, last.columns) < 2 * SMALLEST) break;
      this.list.push(halved(last));
    }
    return this.list[Math.min(depth, this.list.length - 1)];
  }
}

// 8-bit greys of all 65,536 values through a window.
export function greyTable({ low, high }, inverted, table = new Uint8Array(65536)) {
  const span = 255 / (high - low);
  for (let value = 0; value < 65536; value++) {
    const grey = (value - low) * span;
    const shown = grey <= 0 ? 0 : grey >= 255 ? 255 : grey;
    table[value] = (inverted ? 255 - shown : shown) + 0.5;
  }
  return table;
}
