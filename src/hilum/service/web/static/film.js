// The film page: puts the viewer, its tools and the keys together.
import { ask } from "./http.js";
import { Keys } from "./keys.js";
import { drop, keep, kept } from "./kept.js";
import { percentileWindow, fetchFilm } from "./view/pixels.js";
import { lengthWords } from "./view/overlay.js";
import { Pointer } from "./view/pointer.js";
import { Viewer } from "./view/viewer.js";

const page = document.getElementById("film");
const at = (id) => document.getElementById(id);
const renderer = new URLSearchParams(location.search).get("renderer") ?? "auto";
const STEP = 10, PAN = 40, NUDGE = 24, LOOK_MS = 20_000;

export const viewer = new Viewer(at("stage"), { renderer, changed: linked });
let beside = null;
let style = "heat";
let heatFor = "", drawn = "heat";

// What the reader has on the screen, for the record of a review.
export function shown() {
  const { window, inverted, view } = viewer.state;
  return {
    heat_map: viewer.heat ? chosen()?.value ?? "" : "",
    style,
    window: [Math.round(window.low), Math.round(window.high)],
    inverted,
    zoom: Number(view.zoom.toFixed(2)),
    prior: at("prior-stage").classList.contains("hidden") ? "" : page.dataset.prior,
    renderer: viewer.renderer?.kind ?? "",
  };
}

const press = (button, on) => button?.setAttribute("aria-pressed", String(on));
const pressed = (button) => button?.getAttribute("aria-pressed") === "true";
export const chosen = () => document.querySelector('input[name="finding"]:checked');
export const say = (text) => (at("readout").textContent = text);

function sorry(text) {
  at("no-picture").textContent = text;
  at("no-picture").classList.remove("hidden");
}

// The prior film follows: the same view, and the same window where both films have the whole range of values.
function linked() {
  if (!beside?.film || at("prior-stage").classList.contains("hidden")) return;
  const { view, inverted } = viewer.state;
  Object.assign(beside.state, { view: { ...view }, inverted });
  beside.redraw();
}

export async function showHeat(on) {
  const source = chosen()?.dataset.layer;
  const visible = Boolean(on && source);
  press(at("overlay"), visible);
  at("overlay").disabled = !document.querySelector('input[name="finding"]:not([disabled])');
  if (!visible) {
    viewer.heat = null;
    viewer.redraw();
    return;
  }
  const address = `${source}?layer=true&style=${style}`;
  if (viewer.heat && heatFor === address) return;
  heatFor = address;
  try {
    const reply = await ask(address);
    const picture = await createImageBitmap(await reply.blob());
    if (heatFor !== address || !pressed(at("overlay"))) return;
    viewer.heat = picture;
    drawn = address.endsWith("contour") ? "contour" : "heat";
    viewer.state.opacity = strength();
    at("stage").setAttribute("aria-label", `Chest radiograph with the heat map of ${chosen().value}; assistive, not for diagnosis`);
  } catch (error) {
    press(at("overlay"), false);
    say(error.message);
  }
  viewer.redraw();
}

function fade(value) {
  at("opacity").value = String(Math.min(100, Math.max(0, value)));
  at("opacity-value").textContent = `${at("opacity").value} %`;
  viewer.set({ opacity: strength() });
}

// Lines need more strength than areas to be seen.
const strength = () => Math.min(1, (Number(at("opacity").value) / 100) * (drawn === "contour" ? 2 : 1));

function restyle() {
  style = style === "heat" ? "contour" : "heat";
  press(at("style"), style === "contour");
  if (pressed(at("overlay"))) showHeat(true);
}

const PRESETS = {
  own: () => ({ low: viewer.film.low, high: viewer.film.high }),
  percentile: () => percentileWindow(viewer.film),
  whole: () => ({ low: 0, high: 65535 }),
  bright: () => {
    const { low, high } = percentileWindow(viewer.film);
    return { low: low + (high - low) * 0.1, high: low + (high - low) * 0.6 };
  },
};

function preset(name) {
  at("preset").value = name;
  viewer.set({ window: PRESETS[name]() });
}

function nextPreset() {
  const names = Object.keys(PRESETS);
  preset(names[(names.indexOf(at("preset").value) + 1) % names.length]);
  say(`Window: ${at("preset").selectedOptions[0].textContent}`);
}

// An earlier film may be fetched from the PACS after this one was opened.
async function lookForPrior() {
  if (page.dataset.prior || !at("prior") || document.hidden) return;
  const [film, words = ""] = (await (await ask(`/films/${page.dataset.study}?part=prior`)).text()).split("\n");
  page.dataset.prior = film;
  at("prior-stage").dataset.words = words;
  at("prior").classList.toggle("hidden", !page.dataset.prior);
}

async function prior() {
  const button = at("prior"), stage = at("prior-stage");
  await lookForPrior().catch((error) => say(error.message));
  if (!page.dataset.prior) return say("No prior film of this patient is recorded here.");
  const on = stage.classList.toggle("hidden") === false;
  press(button, on);
  stage.setAttribute("aria-label", `${stage.dataset.words || "Prior"}: film of the same patient, 16-bit`);
  if (on && !beside) {
    try {
      const film = await fetchFilm(page.dataset.prior);
      beside = new Viewer(stage, { renderer });
      beside.show(film);
    } catch (error) {
      say(error.message);
    }
  }
  linked();
}

export const pointer = new Pointer(viewer, {
  drawn: (shape) => {
    say(shape.kind === "measure" ? lengthWords(viewer.film, shape) : "Region drawn. It goes with the review.");
    document.dispatchEvent(new CustomEvent("drawn", { detail: shape }));
  },
});

export function useTool(tool) {
  pointer.tool = tool;
  pointer.shape = null;
  for (const button of document.querySelectorAll(".tool")) press(button, button.dataset.tool === tool);
  at("stage").dataset.tool = tool;
}

// With the keyboard a drawing begins in the middle of the film; arrows move it.
function drawing(kind) {
  if (!viewer.film) return;
  if (pointer.tool === kind) return useTool("window");
  useTool(kind);
  if (viewer.shapes.some((shape) => shape.kind === kind)) return;
  const { columns, rows } = viewer.film;
  const shape = { kind, from: [columns * 0.4, rows * 0.4], to: [columns * 0.6, rows * (kind === "measure" ? 0.4 : 0.6)] };
  viewer.shapes = [...viewer.shapes, shape];
  pointer.drawn(shape);
  viewer.redraw();
}

function nudge(event) {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!by || event.ctrlKey || event.metaKey || !viewer.film || event.target.matches?.("input, select, textarea, .panel")) return false;
  const shape = viewer.shapes.find((one) => one.kind === pointer.tool);
  if (shape) {
    const step = Math.max(viewer.film.columns, viewer.film.rows) / NUDGE / 4;
    const move = ([x, y]) => [
      Math.min(viewer.film.columns, Math.max(0, x + by[0] * step)),
      Math.min(viewer.film.rows, Math.max(0, y + by[1] * step)),
    ];
    if (!event.shiftKey) shape.from = move(shape.from);
    shape.to = move(shape.to);
    pointer.drawn(shape);
    viewer.redraw();
  } else if (event.shiftKey) viewer.window(by[0] * 20, by[1] * 20);
  else viewer.pan(by[0] * PAN, by[1] * PAN);
  return true;
}

function reset() {
  viewer.reset();
  press(at("invert"), false);
  at("preset").value = "own";
  fade(45);
  useTool("window");
  say("");
}

function invert() {
  viewer.invert();
  press(at("invert"), viewer.state.inverted);
}

export const actions = {
  invert, style: restyle, reset, prior,
  overlay: () => showHeat(!pressed(at("overlay"))),
  fade: () => fade(Number(at("opacity").value) - STEP),
  strengthen: () => fade(Number(at("opacity").value) + STEP),
  "zoom-in": () => viewer.zoom(1.25), "zoom-out": () => viewer.zoom(0.8),
  fit: () => viewer.fit(), actual: () => viewer.actual(),
  rotate: () => viewer.rotate(), flip: () => viewer.flip(), preset: nextPreset,
  measure: () => drawing("measure"), region: () => drawing("region"),
  next: () => at("next")?.click(), worklist: () => at("worklist").click(),
  help: () => keys.openDialog(),
};

export function pick(number) {
  const radio = document.querySelectorAll('input[name="finding"]')[number - 1];
  if (!radio || radio.disabled) return;
  radio.checked = true;
  showHeat(true);
}

let digitTaken = () => false;
export const whenDigit = (taker) => (digitTaken = taker);

export const keys = new Keys(actions, { digits: (number) => digitTaken(number) || pick(number), others: nudge });

// Out of a field and back to the film, whose keys then count again.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (event.target.matches?.("input, select, textarea")) at("stage").focus({ preventScroll: true });
});

export function watchFindings() {
  for (const input of document.querySelectorAll('input[name="finding"]')) {
    input.addEventListener("change", () => showHeat(true));
  }
}

async function awaitAnswer() {
  for (;;) {
    try {
      const { state } = await (await ask(`/api/v1/studies/${page.dataset.study}?wait=20`)).json();
      if (state !== "received" && state !== "preparing") return location.reload();
    } catch (error) {
      say(error.message);
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

// At the end of a session the view is kept, and is there again after the login.
const VIEW = `view/${page.dataset.study}`;
document.addEventListener("hilum-keep", () => {
  const measures = viewer.shapes.filter((shape) => shape.kind === "measure");
  const heat = pressed(at("overlay")), opacity = Number(at("opacity").value);
  keep(VIEW, { state: viewer.state, measures, style, heat, opacity, finding: chosen()?.value });
});
document.addEventListener("hilum-locked", () => (viewer.film = null));

// True when the heat map is wanted, as it is on a film that is opened anew.
function comeBack() {
  const before = kept(VIEW);
  drop(VIEW);
  if (!before || !viewer.film) return true;
  viewer.shapes.push(...before.measures);
  const radio = [...document.querySelectorAll('input[name="finding"]')].find((one) => one.value === before.finding);
  if (radio && !radio.disabled) radio.checked = true;
  if (before.style !== style) restyle();
  fade(before.opacity);
  viewer.set(before.state);
  press(at("invert"), before.state.inverted);
  return before.heat;
}

async function start() {
  keys.label();
  for (const id of ["overlay", "style", "invert", "zoom-in", "zoom-out", "fit", "rotate", "flip", "prior", "reset", "help"]) {
    at(id)?.addEventListener("click", () => actions[id]());
  }
  for (const button of document.querySelectorAll(".tool")) button.addEventListener("click", () => useTool(button.dataset.tool));
  at("preset").addEventListener("change", () => preset(at("preset").value));
  at("opacity").addEventListener("input", () => fade(Number(at("opacity").value)));
  watchFindings();
  useTool("window");
  try {
    viewer.show(await fetchFilm(page.dataset.study));
    performance.mark("hilum-first-picture");
    page.dataset.ready = "yes";
  } catch (error) {
    page.dataset.ready = "no";
    sorry(`This film can’t be drawn. ${error.message}`);
  }
  showHeat(comeBack());
  setInterval(() => lookForPrior().catch(() => {}), LOOK_MS);
  if (page.dataset.waiting === "yes") awaitAnswer();
  const following = at("next")?.dataset.study;
  // Ahead of its turn, so that the next film is there at once.
  if (following) setTimeout(() => fetchFilm(following, { ahead: true }).catch(() => {}), 1000);
}

globalThis.hilum = { viewer, pointer, keys, actions };
start();
