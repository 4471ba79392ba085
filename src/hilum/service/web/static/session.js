// A person's session at the page: what is done here puts its end off, before the end it asks, and at the end the page is
// hidden and the login leads back to where the person was. The clock counts, not timers, which sleep with the computer.
import { Refused, SessionEnded, ask } from "./http.js";
import { caller, drop, keep, kept, wipe, wipeOthers } from "./kept.js";

const at = (id) => document.getElementById(id);
const page = document.body, dialog = at("ending"), idle = 1000 * Number(page.dataset.idle);
const TELL = Math.min(60_000, idle / 6), WARN = Math.min(60_000, idle / 3), TICK_MS = 500, RETRY_MS = 2000;
let end = Date.now() + 1000 * Number(page.dataset.left), last = Date.now() + 1000 * Number(page.dataset.most);
let acted = 0, told = Date.now(), asking = false, asked = false, over = false, quiet = false;

const others = new BroadcastChannel("hilum.session");

// The page is hidden at once; where the service can't be reached it stays so, and the login comes when it is back.
async function lock(told = true) {
  if (over) return;
  over = true;
  if (told) {
    document.dispatchEvent(new Event("hilum-keep"));
    keep("place", { path: location.pathname, search: location.search, top: (at("scroll") ?? document.scrollingElement).scrollTop });
  }
  document.dispatchEvent(new Event("hilum-locked"));
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  for (const canvas of document.querySelectorAll("canvas")) canvas.remove();
  page.classList.add("locked");
  at("locked").classList.remove("hidden");
  document.title = "Session ended · hilum";
  for (;;) {
    try {
      await fetch("/health/live", { cache: "no-store" });
      return location.replace(told ? `/login?next=${location.pathname}&ended=1` : "/login");
    } catch {
      at("locked-lost").classList.remove("hidden");
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}

// Ask how long the session lasts, or (POST) say that a person does something. Another tab may have done either.
async function look(method = "GET") {
  if (asking || over) return;
  asking = true;
  if (method === "POST") told = Date.now();
  try {
    const said = await (await ask("/session", { method })).json();
    if (said.user !== caller) return lock();
    document.querySelector('meta[name="csrf"]').content = said.csrf;
    for (const field of document.querySelectorAll('input[name="csrf"]')) field.value = said.csrf;
    end = Date.now() + 1000 * said.left_s;
    last = Date.now() + 1000 * said.at_most_s;
    page.classList.remove("veiled");
  } catch (error) {
    if (error instanceof SessionEnded || end <= Date.now()) lock();
    else if (error instanceof Refused && error.status === 403 && method === "POST") setTimeout(look); // another token since
  } finally {
    asking = false;
  }
}

function warn(left) {
  if (quiet) return;
  if (!asked) {
    asked = true;
    return look(); // another tab may be in use
  }
  if (asking) return;
  const stays = last - end > 1000;
  at("ending-in").textContent = `${Math.ceil(left / 1000)} s`;
  at("stay").classList.toggle("hidden", !stays);
  at("again").classList.toggle("hidden", stays);
  at("ending-why").textContent = stays
    ? "Nobody has done anything at this page for a while. Then it is hidden; what you wrote is kept in this tab."
    : "So long after its login a session ends, whatever is done. What you wrote is kept in this tab.";
  if (!dialog.open) dialog.showModal();
}

function tick() {
  if (over) return;
  const now = Date.now(), left = end - now;
  const fresh = acted > told && now - acted <= 2 * TELL; // what was done before the computer slept is no act of now
  if (left <= 0) {
    page.classList.add("veiled");
    look();
  } else if (fresh && now - told >= TELL && last - end > 1000) look("POST");
  else if (left <= WARN) warn(left);
  else {
    asked = false;
    if (dialog.open) dialog.close();
  }
}

function act(event) {
  if (event.type === "hilum-busy" || !(dialog.open || document.hidden)) acted = Date.now();
}

function stay() {
  dialog.close();
  if (last - end > 1000) look("POST");
  else quiet = true;
}

// Back where the session ended: the same address with what it asked for, and as far down.
function comeBack() {
  const place = kept("place");
  if (place?.path === location.pathname && place.search !== location.search) return location.replace(place.path + place.search);
  drop("place");
  if (place?.path === location.pathname) requestAnimationFrame(() => ((at("scroll") ?? document.scrollingElement).scrollTop = place.top));
}

at("stay").addEventListener("click", stay);
at("again").addEventListener("click", () => lock());
at("leave").addEventListener("click", () => document.querySelector("form.who").requestSubmit());
dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  stay();
});
document.querySelector("form.who").addEventListener("submit", () => {
  wipe();
  others.postMessage("");
});
others.onmessage = ({ data }) => {
  if (data === "") wipe();
  if (data !== caller) lock(data !== "");
};
for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart", "hilum-busy"]) {
  document.addEventListener(name, act, { passive: true, capture: true });
}
document.addEventListener("hilum-ended", () => lock());
document.addEventListener("visibilitychange", () => document.hidden || tick());
globalThis.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  page.classList.add("veiled");
  look();
});

wipeOthers();
others.postMessage(caller);
comeBack();
setInterval(tick, TICK_MS);
