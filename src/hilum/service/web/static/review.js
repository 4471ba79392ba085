// A reader's review: own opinion first where asked for, agree, override with finding, region, reason and comment, and on
// to the next film. What is being written is kept in this tab, through a lost connection and an expired session.
import { ConnectionLost, Refused, ask } from "./http.js";
import * as tab from "./kept.js";
import { actions, keys, say, showHeat, shown, useTool, viewer, watchFindings, whenDigit } from "./film.js";
import { spent } from "./spent.js";
import { offerUndo, remember, undo } from "./undo.js";

const page = document.getElementById("film"), section = document.getElementById("review");
const at = (id) => document.getElementById(id);
const study = page.dataset.study, DRAFT = `draft/${study}`;
const RENEW_MS = 60_000, RETRY_MS = 2000;
const WORDS = { agree: "You agreed with the answer on", override: "You overrode the answer on", adjudicate: "You settled" };
const mine = `/api/v1/studies/${study}/reviews/mine`;
let version = Number(section.dataset.version), covered = section.dataset.covered === "yes", busy = false;

const regions = () =>
  viewer.shapes.filter((one) => one.kind === "region").map(({ from: [x0, y0], to: [x1, y1] }) =>
    [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map((v) => Math.round(v)));

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").classList.toggle("hidden", !text);
}

function keep() {
  const draft = {
    open: !at("other").classList.contains("hidden"),
    finding: at("instead").value, reason: at("reason").value, comment: at("comment").value,
    opinion: document.querySelector('input[name="opinion"]:checked')?.value ?? "", regions: regions(),
  };
  tab.keep(DRAFT, draft);
}

function restore() {
  const draft = tab.kept(DRAFT);
  if (!draft) return;
  at("instead").value = draft.finding;
  at("reason").value = draft.reason;
  at("comment").value = draft.comment;
  for (const [x0, y0, x1, y1] of draft.regions ?? []) viewer.shapes.push({ kind: "region", from: [x0, y0], to: [x1, y1] });
  const opinion = [...document.querySelectorAll('input[name="opinion"]')].find((one) => one.value === draft.opinion);
  if (opinion) opinion.checked = true;
  if (draft.open && !covered) open();
  showRegions();
}

function showRegions() {
  const count = regions().length;
  at("regions").textContent = count ? `${count} drawn` : "none drawn";
  at("undraw").classList.toggle("hidden", !count);
}

// Was the review that got no reply recorded after all? Then it must not be sent twice.
async function recorded(body) {
  const reply = await ask(mine);
  const there = await reply.json();
  return there.decision === body.decision && there.finding === (body.finding ?? null) && there.version === version + 1
    ? reply.headers.get("ETag") : null;
}

async function put(body) {
  const over = version ? { "If-Match": `"v${version}"` } : { "If-None-Match": "*" };
  for (let again = false; ; again = true) {
    try {
      const reply = await ask(mine, { method: "PUT", body: { ...body, seconds: spent(), shown: shown() }, headers: over });
      return reply.headers.get("ETag");
    } catch (error) {
      if (again && error instanceof Refused && error.status === 412) {
        const tag = await recorded(body).catch(() => null);
        if (tag) return tag;
      }
      if (!(error instanceof ConnectionLost)) throw error;
      trouble("Connection lost. Your review is kept, and is sent as soon as the service is back.");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

async function send(body, then) {
  if (busy) return;
  if (elsewhere) {
    at("trouble").dataset.about = "claim";
    return trouble(elsewhere); // keys reach it also where buttons are off
  }
  busy = true;
  keep();
  try {
    const tag = await put(body);
    version = Number(tag.match(/\d+/)[0]);
    trouble("");
    tab.drop(DRAFT);
    await then(tag);
  } catch (error) {
    trouble(error.message);
  } finally {
    busy = false;
  }
}

const decide = (decision, more = {}) =>
  send({ decision, comment: "", ...more }, (tag) => {
    remember(study, tag, WORDS[decision]);
    leaving = true;
    location.assign(`/films/next?after=${study}`);
  });

// Where the model gave no finding there is nothing to agree with: the film needs one of the reader's own.
const noFinding = () => Boolean(at("answer").querySelector("[data-no-finding]"));

function askForFinding() {
  if (!noFinding() || !at("agree")) return;
  at("agree").classList.add("hidden");
  at("differ").firstChild.textContent = "Give your finding ";
}

function agree() {
  if (covered) return say("Record your own opinion first.");
  if (noFinding()) return say("The model gave no finding, so there is nothing to agree with. Give your finding (d).");
  if (!at("agree")) return say("Two readers differ. Settle it with your own finding (d).");
  decide("agree");
}

function open() {
  if (covered) return say("Record your own opinion first.");
  at("other").classList.remove("hidden");
  at("differ").setAttribute("aria-expanded", "true");
  section.scrollIntoView({ block: "end" });
  at("instead").focus({ preventScroll: true });
}

function close() {
  at("other").classList.add("hidden");
  at("differ").setAttribute("aria-expanded", "false");
  useTool("window");
  at("differ").focus();
  keep();
}

function override() {
  if (!at("other").reportValidity()) return;
  const more = { finding: at("instead").value, reason_code: at("reason").value, comment: at("comment").value, regions: regions() };
  decide(section.dataset.decision, more);
}

async function record() {
  const opinion = document.querySelector('input[name="opinion"]:checked')?.value;
  if (!opinion) return trouble("Choose what you see first.");
  await send({ decision: "opinion", finding: opinion }, async () => {
    const text = await (await ask(`/films/${study}?part=answer`)).text();
    // The server has escaped every value; a document is parsed without running anything.
    const parsed = new DOMParser().parseFromString(text, "text/html");
    at("answer").replaceChildren(...parsed.body.childNodes);
    covered = false;
    page.dataset.covered = "no";
    page.dataset.shown = document.querySelector('input[name="finding"]:checked')?.value ?? "";
    askForFinding();
    at("first").remove();
    at("decide").classList.remove("hidden");
    watchFindings();
    showHeat(true);
    (noFinding() ? at("differ") : at("agree"))?.focus({ preventScroll: true });
    say(`You said ${opinion}. The model’s answer is shown.`);
  });
}

// Who opens a film holds it, and lets it go on leaving.
let leaving = false, held = false, elsewhere = "";
async function hold() {
  try {
    const { mine: ours, held_by } = await (await ask(`/api/v1/studies/${study}/claim`, { method: "POST" })).json();
    held = ours;
    at("held").classList.toggle("hidden", ours);
    elsewhere = ours ? "" : `${held_by} reads this film now. Go on with the next one (n), or wait.`;
    at("held").textContent = elsewhere;
    for (const button of section.querySelectorAll("button")) button.disabled = !ours;
    if (at("trouble").dataset.about === "claim") trouble("");
  } catch (error) {
    at("trouble").dataset.about = "claim";
    if (error instanceof ConnectionLost) trouble("Connection lost; trying again. What you wrote is kept.");
  }
}
globalThis.addEventListener("pagehide", () => {
  if (held && !leaving) ask(`/api/v1/studies/${study}/claim`, { method: "DELETE", keepalive: true }).catch(() => {});
});

actions.agree = agree;
actions.override = open;
actions.undo = undo;
at("agree")?.addEventListener("click", agree);
at("differ").addEventListener("click", () => (at("other").classList.contains("hidden") ? open() : close()));
at("record")?.addEventListener("click", record);
at("cancel").addEventListener("click", close);
at("draw").addEventListener("click", () => actions.region());
at("undraw").addEventListener("click", () => {
  viewer.shapes = viewer.shapes.filter((one) => one.kind !== "region");
  viewer.redraw();
  showRegions();
  keep();
});
at("other").addEventListener("submit", (event) => {
  event.preventDefault();
  override();
});
section.addEventListener("input", keep);
document.addEventListener("hilum-keep", keep);
document.addEventListener("drawn", () => {
  showRegions();
  keep();
});
section.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || at("other").classList.contains("hidden")) return;
  close();
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  // From wherever one is: a region that was drawn last leaves the focus on the film.
  if (event.key === "Enter" && event.ctrlKey && !at("other").classList.contains("hidden") && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    return override();
  }
  const free = !event.target.matches?.("button, a, summary, select, textarea");
  if (event.key === "Enter" && covered && free && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    record();
  }
});
whenDigit((number) => {
  if (!covered) return false;
  const radio = document.querySelectorAll('input[name="opinion"]')[number - 1];
  if (radio) {
    radio.checked = true;
    keep();
  }
  return true;
});

restore();
askForFinding();
offerUndo();
keys.label();
hold();
setInterval(hold, RENEW_MS);
globalThis.addEventListener("online", hold);
