// The last review can be undone for a minute, from whatever page comes next; undoing is an event of its own.
import { ask } from "./http.js";
import { drop, keep, kept } from "./kept.js";

const STORED = "last", FOR_MS = 60_000;

export function remember(study, etag, words) {
  keep(STORED, { study, etag, words, at: Date.now() });
}

function last() {
  const said = kept(STORED);
  return said && Date.now() - said.at < FOR_MS ? said : null;
}

export async function undo() {
  const said = last(), place = document.getElementById("undo");
  if (!said) return;
  try {
    await ask(`/api/v1/studies/${said.study}/reviews/mine`, {
      method: "PUT", body: { decision: "withdraw" }, headers: { "If-Match": said.etag },
    });
    drop(STORED);
    location.assign(`/films/${said.study}`);
  } catch (error) {
    place.textContent = error.message;
  }
}

export function offerUndo() {
  const said = last(), place = document.getElementById("undo");
  if (!said || !place) return;
  const button = document.createElement("button"), key = document.createElement("kbd");
  button.type = "button";
  key.dataset.key = "undo";
  key.textContent = "u";
  button.append("Undo ", key);
  button.addEventListener("click", undo);
  place.replaceChildren(`${said.words} film ${said.study.slice(0, 8)}. `, button);
  place.classList.remove("hidden");
  setTimeout(() => place.classList.add("hidden"), FOR_MS - (Date.now() - said.at));
}
