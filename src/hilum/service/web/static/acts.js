// What an admin does with buttons and forms: each is one request to the REST interface, whose refusals are shown as they are.
import { ask } from "./http.js";

const at = (id) => document.getElementById(id);

function trouble(error) {
  at("trouble").textContent = error.message;
  at("trouble").classList.remove("hidden");
  at("trouble").scrollIntoView({ block: "nearest" });
}

// One act at a time: a second click on a slow line must not do it twice.
let busy = false;
async function once(act) {
  if (busy) return;
  busy = true;
  at("trouble").classList.add("hidden");
  try {
    await act();
  } catch (error) {
    trouble(error);
  } finally {
    busy = false;
  }
}

function tell(words, secret) {
  const shown = document.createElement("code"), again = document.createElement("a");
  shown.textContent = secret;
  again.href = location.pathname;
  again.textContent = "Copied: show the list";
  at("secret").replaceChildren(words, shown, " ", again);
  at("secret").classList.remove("hidden");
  // It stands above the list, far from the button: who works by keyboard is led there.
  at("secret").tabIndex = -1;
  at("secret").focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-post]");
  if (!button || (button.dataset.ask && !confirm(button.dataset.ask))) return;
  once(async () => {
    const body = button.dataset.id ? { id: button.dataset.id } : undefined;
    const reply = await ask(button.dataset.post, { method: button.dataset.method ?? "POST", body });
    const { requeued, user, temporary_password, hours } = reply.status === 204 ? {} : await reply.json();
    if (temporary_password) return tell(`The temporary password of ${user}, shown this once and good for ${hours} hours: `, temporary_password);
    location.assign(requeued === undefined ? button.dataset.then : `${button.dataset.then}?done=${requeued}`);
  });
});

function fields(form) {
  const said = {};
  for (const box of form.querySelectorAll("input")) {
    if (box.type === "checkbox") (said[box.name] ??= []).push(...(box.checked ? [box.value] : []));
    else if (box.type === "number") said[box.name] = box.value ? Number(box.value) : null;
    else if (box.type === "password") said[box.name] = box.value || null;
    else said[box.name] = box.value.trim();
  }
  return said;
}

// The same request again (a reply that was lost) makes nothing twice; another one is another request.
const word = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

for (const form of document.querySelectorAll("form[data-make]")) {
  let last = "", key = "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(async () => {
      const body = fields(form), now = JSON.stringify(body);
      if (now !== last) [last, key] = [now, word()];
      const reply = await ask(form.dataset.make, { method: "POST", body, headers: { "Idempotency-Key": key } });
      const made = await reply.json();
      if (form.dataset.then) return location.assign(form.dataset.then);
      tell(`The secret of ${made.user}’s key, shown this once: `, made.secret);
      form.reset();
      last = "";
    });
  });
}
