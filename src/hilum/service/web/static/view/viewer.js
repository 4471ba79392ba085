// One film on the page: its state, and drawing it once a frame when something changed.
import { fitScale, matrixOf, moved, whole, zoomed } from "./geometry.js";
import { Overlay } from "./overlay.js";
import { PlainRenderer } from "./plain.js";
import { WebglRenderer, worthwhile } from "./webgl.js";

const SETTLED_MS = 120;
export const OPACITY = 0.45;

export class Viewer {
  // stage: the element that the canvases fill. renderer: "auto", "webgl2" or "2d". changed: called after each change.
  constructor(stage, { renderer = "auto", changed = () => {} } = {}) {
    this.stage = stage;
    this.wanted = renderer;
    this.changed = changed;
    this.top = this.canvas("lines");
    this.overlay = new Overlay(this.top);
    this.film = null;
    this.heat = null;
    this.shapes = [];
    this.frames = [];
    this.state = this.fresh();
    new ResizeObserver(() => this.resized()).observe(stage);
  }

  canvas(name) {
    const made = document.createElement("canvas");
    made.className = name;
    made.setAttribute("aria-hidden", "true");
    this.stage.append(made);
    return made;
  }

  fresh() {
    const window = this.film ? { low: this.film.low, high: this.film.high } : { low: 0, high: 65535 };
    return { view: whole(), window, inverted: false, opacity: OPACITY };
  }

  show(film) {
    this.film = film;
    this.base?.remove();
    this.base = this.canvas("film-pixels");
    this.stage.prepend(this.base);
    this.state = this.fresh();
    this.renderer = this.choose();
    this.resized();
    this.paint(); // now, not at the next frame: the first picture counts
  }

  choose() {
    const { levels } = this.film;
    if (this.wanted === "webgl2" || (this.wanted === "auto" && worthwhile())) {
      try {
        const made = new WebglRenderer(this.base, levels);
        this.base.addEventListener("webglcontextlost", () => this.fallBack());
        return made;
      } catch {
        this.anotherCanvas();
      }
    }
    return new PlainRenderer(this.base, levels);
  }

  anotherCanvas() {
    this.base.remove();
    this.base = this.canvas("film-pixels");
    this.stage.prepend(this.base);
  }

  // The graphics card was taken away: go on without it.
  fallBack() {
    this.anotherCanvas();
    this.renderer = new PlainRenderer(this.base, this.film.levels);
    this.resized();
  }

  get size() {
    return { width: this.top.width, height: this.top.height };
  }

  get scale() {
    return this.state.view.zoom * fitScale(this.film, this.size, this.state.view.turns);
  }

  resized() {
    this.ratio = globalThis.devicePixelRatio || 1;
    this.pen = (this.ratio * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 15;
    const width = Math.max(1, Math.round(this.stage.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.stage.clientHeight * this.ratio));
    // WebGL sets its own canvas's size as it draws.
    for (const canvas of [this.top, this.renderer?.kind === "webgl2" ? null : this.base]) {
      if (canvas && (canvas.width !== width || canvas.height !== height)) Object.assign(canvas, { width, height });
    }
    this.redraw();
  }

  // Change some of the state; moving: one of many changes, so that speed counts more than smoothness.
  set(change, { moving = false } = {}) {
    Object.assign(this.state, change);
    if (moving) {
      this.quick = true;
      clearTimeout(this.settling);
      this.settling = setTimeout(() => {
        this.quick = false;
        this.redraw();
      }, SETTLED_MS);
    }
    this.redraw();
    this.changed(this);
  }

  redraw() {
    if (this.frame || !this.film) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  paint() {
    if (!this.film) return;
    const { view, window, inverted, opacity } = this.state;
    const matrix = matrixOf(view, this.film, this.size);
    this.renderer.draw(matrix, window, inverted, this.quick, this.size);
    this.overlay.draw({ matrix, film: this.film, heat: this.heat, opacity, shapes: this.shapes, ratio: this.pen, quick: this.quick });
    this.frames.push(performance.now());
    if (this.frames.length > 600) this.frames.splice(0, 300);
  }

  reset() {
    this.shapes = this.shapes.filter((shape) => shape.kind === "region");
    this.set(this.fresh());
  }

  fit() {
    this.set({ view: { ...this.state.view, zoom: 1, x: 0.5, y: 0.5 } });
  }

  actual() {
    this.set({ view: { ...this.state.view, zoom: this.state.view.zoom / this.scale } });
  }

  zoom(factor, x, y, how) {
    this.set({ view: zoomed(this.state.view, this.film, this.size, factor, x, y) }, how);
  }

  pan(dx, dy, how) {
    this.set({ view: moved(this.state.view, this.film, this.size, dx, dy) }, how);
  }

  rotate() {
    this.set({ view: { ...this.state.view, turns: (this.state.view.turns + 1) % 4 } });
  }

  flip() {
    this.set({ view: { ...this.state.view, flip: !this.state.view.flip } });
  }

  invert() {
    this.set({ inverted: !this.state.inverted });
  }

  // Wider and darker by so many steps of the hand.
  window(wider, darker, how) {
    const { low, high } = this.state.window;
    const width = Math.min(4 * 65536, Math.max(64, (high - low) * Math.exp(wider / 200)));
    const center = Math.min(65536, Math.max(0, (low + high) / 2 + (darker * (high - low)) / 400));
    this.set({ window: { low: center - width / 2, high: center + width / 2 } }, how);
  }
}
