// What the pointer does on a film: window or draw with the first button, move with another one or with shift, zoom with
// the wheel. A shape is drawn by dragging, or by one click at each end.
import { apply, invert, matrixOf } from "./geometry.js";

const CLICK_PX = 4;

export class Pointer {
  // tool: "window", "pan", "measure" or "region". drawn: told each shape when it is done.
  constructor(viewer, { drawn = () => {} } = {}) {
    this.viewer = viewer;
    this.drawn = drawn;
    this.tool = "window";
    const { stage } = viewer;
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", () => (this.drag = null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  at(event) {
    const box = this.viewer.stage.getBoundingClientRect();
    return [(event.clientX - box.left) * this.viewer.ratio, (event.clientY - box.top) * this.viewer.ratio];
  }

  onFilm(event) {
    const { viewer } = this;
    const [x, y] = apply(invert(matrixOf(viewer.state.view, viewer.film, viewer.size)), ...this.at(event));
    return [Math.min(viewer.film.columns, Math.max(0, x)), Math.min(viewer.film.rows, Math.max(0, y))];
  }

  down(event) {
    if (!this.viewer.film) return;
    this.viewer.stage.setPointerCapture(event.pointerId);
    const pan = event.button !== 0 || event.shiftKey || this.tool === "pan";
    this.drag = { last: this.at(event), start: this.at(event), pan };
    if (pan || this.tool === "window") return;
    if (this.shape) {
      this.shape.to = this.onFilm(event);
      return;
    }
    const from = this.onFilm(event);
    this.shape = { kind: this.tool, from, to: from };
    this.viewer.shapes = [...this.viewer.shapes.filter((shape) => shape.kind !== this.tool), this.shape];
  }

  move(event) {
    if (this.shape) {
      this.shape.to = this.onFilm(event);
      this.viewer.redraw();
    }
    if (!this.drag) return;
    const [x, y] = this.at(event);
    const dx = x - this.drag.last[0], dy = y - this.drag.last[1];
    this.drag.last = [x, y];
    if (this.drag.pan) this.viewer.pan(dx, dy, { moving: true });
    else if (this.tool === "window") this.viewer.window(dx / this.viewer.ratio, dy / this.viewer.ratio, { moving: true });
  }

  up(event) {
    if (!this.drag) return;
    const [x, y] = this.at(event);
    const still = Math.hypot(x - this.drag.start[0], y - this.drag.start[1]) < CLICK_PX * this.viewer.ratio;
    this.drag = null;
    if (!this.shape) return;
    const first = Math.hypot(this.shape.to[0] - this.shape.from[0], this.shape.to[1] - this.shape.from[1]) < 2;
    if (still && first) return; // one end is set; the next click sets the other
    const done = this.shape;
    this.shape = null;
    this.drawn(done);
    this.viewer.set({});
  }

  wheel(event) {
    if (!this.viewer.film) return;
    event.preventDefault();
    const [x, y] = this.at(event);
    this.viewer.zoom(Math.exp(-event.deltaY / 500), x, y, { moving: true });
  }
}
