// Labelling: the film without the model's answer, one finding by its key, saved with Enter, and on to the next film. What
// is being written is kept in this tab, through a lost connection and an expired session.
import { ConnectionLost, ask } from "./http.js";
import { actions, keys, say, shown, viewer, whenDigit } from "./film.js";
import * as tab from "./kept.js";
import { spent } from "./spent.js";

const at = (id) => document.getElementById(id);
const study = at("film").dataset.study, over = Number(at("label").dataset.version);
const here = `/api/v1/labelling/${study}`, DRAFT = `label/${study}`, LAST = "label/last";
const RENEW_MS = 60_000, RETRY_MS = 2000;
const choices = [...document.querySelectorAll('input[name="label"]')];
const chosen = () => choices.find((one) => one.checked);
let busy = false, leaving = false;

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").classList.toggle("hidden", !text);
}

const failed = (error) => trouble(error.message);

function showReason() {
  const cannot = chosen()?.value === "";
  for (const part of document.querySelectorAll(".why-not")) part.classList.toggle("hidden", !cannot);
}

function keep() {
  const draft = { at: choices.indexOf(chosen()), reason: at("why-not").value, comment: at("comment").value };
  tab.keep(DRAFT, draft);
  showReason();
}

function restore() {
  const draft = tab.kept(DRAFT);
  if (draft) {
    if (choices[draft.at]) choices[draft.at].checked = true;
    at("why-not").value = draft.reason;
    at("comment").value = draft.comment;
  }
  showReason();
}

function choose(radio) {
  if (!radio) return;
  radio.checked = true;
  keep();
  if (radio.value === "") at("why-not").focus();
}

async function send(body) {
  for (;;) {
    try {
      return await ask(`${here}/labels`, { method: "POST", body: { ...body, seconds: spent(), shown: shown() } });
    } catch (error) {
      // Sent again after a lost reply, the same label is recorded once.
      if (!(error instanceof ConnectionLost)) throw error;
      trouble("Connection lost. Your label is kept, and is sent as soon as the service is back.");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

async function save() {
  const said = chosen(), reason = said?.value === "" ? at("why-not").value : "";
  if (!said) return trouble("Choose a finding first, or say that you can’t tell.");
  if (said.value === "" && !reason) {
    trouble("Say why you can’t tell.");
    return at("why-not").focus();
  }
  if (busy) return;
  busy = true;
  try {
    await send({ finding: said.value || null, reason_code: reason, comment: at("comment").value, over });
    tab.drop(DRAFT);
    tab.keep(LAST, { study, words: said.value || "can’t tell" });
    leaving = true;
    location.assign("/labelling");
  } catch (error) {
    failed(error);
  } finally {
    busy = false;
  }
}

async function pass() {
  if (!at("next")) return;
  try {
    await ask(`${here}/hold?passed=true`, { method: "DELETE" });
    leaving = true;
    location.assign("/labelling");
  } catch (error) {
    failed(error);
  }
}

async function hold() {
  try {
    const { mine } = await (await ask(`${here}/hold`, { method: "POST" })).json();
    if (!mine) trouble("Your hold on this film ran out, and other readers label it now. Go on with the next one (n).");
  } catch (error) {
    if (!(error instanceof ConnectionLost)) failed(error);
  }
}

function offerLast() {
  const last = tab.kept(LAST);
  if (!last || last.study === study) return;
  const link = document.createElement("a");
  link.href = `/labelling?film=${last.study}`;
  link.textContent = "Label it otherwise";
  at("last").replaceChildren(`You labelled film ${last.study.slice(0, 8)}: ${last.words}. `, link);
  at("last").classList.remove("hidden");
}

globalThis.addEventListener("pagehide", () => {
  if (!leaving) ask(`${here}/hold`, { method: "DELETE", keepalive: true }).catch(() => {});
});
Object.assign(actions, { next: pass, "cannot-tell": () => choose(choices.at(-1)) });
delete actions.overlay;
delete actions.prior;
at("next")?.addEventListener("click", pass);
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
at("form").addEventListener("input", keep);
document.addEventListener("hilum-keep", keep);
document.addEventListener("keydown", (event) => {
  const takes = event.target.matches?.("button, a, summary, select, textarea, input");
  const saves = event.ctrlKey || (!takes && !document.querySelector("dialog[open]"));
  if (event.key !== "Enter" || !saves) return;
  event.preventDefault();
  save();
});
whenDigit((number) => {
  if (number < choices.length) choose(choices[number - 1]);
  return true;
});
document.addEventListener("drawn", () => {
  viewer.shapes = viewer.shapes.filter((one) => one.kind !== "region");
  say("Regions are not part of a label.");
  viewer.redraw();
});

restore();
offerLast();
keys.label();
setInterval(hold, RENEW_MS);
globalThis.addEventListener("online", hold);
