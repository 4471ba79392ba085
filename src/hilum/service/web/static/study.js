// A film of a reader study: a finding and a confidence, recorded once, then the next film. There is no way back.
import { ConnectionLost, Refused, ask } from "./http.js";
import * as tab from "./kept.js";
import { keys, say, showHeat, shown, watchFindings, whenDigit } from "./film.js";
import { spent } from "./spent.js";

const page = document.getElementById("film"), section = document.getElementById("review");
const at = (id) => document.getElementById(id);
const { name, session, position } = section.dataset;
const here = `/reader-study/${name}`, RETRY_MS = 2000;
const DRAFT = `study/${name}/${session}/${position}`;
let stage = section.dataset.stage, busy = false;
const radios = () => [...document.querySelectorAll('input[name="opinion"]')];
const opinion = () => radios().find((one) => one.checked)?.value ?? "";

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").classList.toggle("hidden", !text);
}

const keep = () => tab.keep(DRAFT, { stage, opinion: opinion(), rating: at("rating").value });

function restore() {
  const draft = tab.kept(DRAFT);
  if (!draft || draft.stage !== stage) return;
  for (const one of radios()) one.checked = one.value === draft.opinion;
  at("rating").value = draft.rating;
}

async function put(body) {
  for (;;) {
    try {
      return await (await ask(`/api/v1/reader-studies/${name}/opinions`, { method: "POST", body })).json();
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
      trouble("Connection lost. Your opinion is kept, and is sent as soon as the service is back.");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

async function uncover() {
  const text = await (await ask(`${here}?part=answer`)).text();
  // The server has escaped every value; a document is parsed without running anything.
  const parsed = new DOMParser().parseFromString(text, "text/html");
  at("answer").replaceChildren(...parsed.body.childNodes);
  page.dataset.covered = "no";
  page.dataset.shown = document.querySelector('input[name="finding"]:checked')?.value ?? "";
  stage = section.dataset.stage = "final";
  at("asked").textContent = "What do you see now, with the model’s answer?";
  watchFindings();
  showHeat(true);
  at("stage").focus({ preventScroll: true });
  say("The model’s answer is shown. Change your opinion or keep it, then record it.");
}

async function record() {
  const rating = at("rating").valueAsNumber;
  if (!opinion()) return trouble("Choose what you see first.");
  if (!Number.isInteger(rating) || rating < 0 || rating > 100) {
    at("rating").focus();
    return trouble("Say how sure you are: a whole number from 0 (certainly not) to 100 (certainly).");
  }
  if (busy) return;
  busy = true;
  keep();
  try {
    const said = { session: Number(session), position: Number(position), stage, finding: opinion(), rating };
    const next = await put({ ...said, seconds: spent(), shown: shown() });
    tab.drop(DRAFT);
    trouble("");
    if (next.session === said.session && next.position === said.position) await uncover();
    else location.assign(next.film ? here : "/reader-study");
  } catch (error) {
    // It was recorded before, by a request whose reply was lost or in another tab: the page shows what is next.
    if (error instanceof Refused && error.status === 412) location.assign(here);
    else trouble(error.message);
  } finally {
    busy = false;
  }
}

at("opinion").addEventListener("submit", (event) => {
  event.preventDefault();
  record();
});
// A slider that stands somewhere draws readers there, so it shows no knob before a confidence is chosen.
function slide() {
  const { value } = at("rating");
  at("slide").value = value || 50;
  at("slide").classList.toggle("unset", !value);
  at("slide").setAttribute("aria-valuetext", value || "not chosen yet");
}

at("slide").addEventListener("input", () => {
  at("rating").value = at("slide").value;
  slide();
});
at("slide").addEventListener("click", () => {
  if (at("rating").value) return;
  at("rating").value = at("slide").value; // chosen just where the hidden knob was
  slide();
  keep();
});
at("rating").addEventListener("input", slide);
section.addEventListener("input", keep);
document.addEventListener("hilum-keep", keep);
document.addEventListener("keydown", (event) => {
  const free = !event.target.matches?.("button, a, summary, select, textarea, input");
  if (event.key !== "Enter" || event.defaultPrevented || !free || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  record();
});
whenDigit((number) => {
  const radio = radios()[number - 1];
  if (radio) {
    radio.checked = true;
    at("rating").focus();
    at("rating").select();
    keep();
  }
  return true;
});

restore();
slide();
keys.label();
