// The worklist: only the rows near what is on the screen are in the page, fresh ones come when something happened, and
// the keyboard goes through all of them.
import { SessionEnded, ask } from "./http.js";
import { offerUndo, undo } from "./undo.js";

const at = (id) => document.getElementById(id);
const rows = at("rows"), scroll = at("scroll"), live = at("live"), filters = at("filters");
const FETCH = 100, NEAR = 30, SLOW_MS = 15_000, SOON_MS = 250, SLOWEST_MS = 2000;
let total = Number(rows.dataset.total), offset = Number(rows.dataset.offset), active = -1;
let rowHeight = 0, last = "", busy = false, again = false, lost = false;

const shownRows = () => [...rows.querySelectorAll("tr[data-place]")];
const say = (text) => live.textContent !== text && (live.textContent = text);

function spacer(id, count) {
  const body = at(id);
  const height = Math.max(0, count) * rowHeight;
  if (body.dataset.height === String(height)) return;
  body.dataset.height = String(height);
  const row = document.createElement("tr"), cell = document.createElement("td");
  cell.colSpan = 8;
  cell.className = "spacer";
  cell.style.height = `${height}px`;
  row.append(cell);
  body.replaceChildren(...(height ? [row] : []));
}

function place() {
  const list = shownRows();
  if (list.length) rowHeight = list[0].getBoundingClientRect().height || rowHeight;
  spacer("above", offset);
  spacer("below", total - offset - list.length);
  mark();
  say(`${total} ${total === 1 ? "film" : "films"}`);
}

function mark() {
  for (const row of shownRows()) row.classList.toggle("active", Number(row.dataset.place) === active);
}

function query(from) {
  const wanted = new URLSearchParams(new FormData(filters));
  wanted.set("part", "rows");
  wanted.set("offset", String(from));
  wanted.set("limit", String(FETCH));
  return `/?${wanted}`;
}

// The rows that should be in the page: those on the screen and some around them.
function start() {
  const first = rowHeight ? Math.floor(scroll.scrollTop / rowHeight) : 0;
  return Math.max(0, Math.min(first - NEAR, Math.max(0, total - FETCH)));
}

async function load(from) {
  if (busy) return (again = true);
  busy = true;
  try {
    const reply = await ask(query(from));
    const text = await reply.text();
    total = Number(reply.headers.get("Hilum-Total"));
    if (text !== last || from !== offset) {
      const focused = rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      // The server has escaped every value; a document is parsed without running anything.
      const parsed = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
      rows.replaceChildren(...parsed.querySelectorAll("tbody > tr"));
      if (focused) [...rows.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
      last = text;
      offset = from;
    }
    lost = false;
    place();
  } catch (error) {
    lost = true;
    if (!(error instanceof SessionEnded)) say("Connection lost; trying again.");
  } finally {
    busy = false;
    if (again) {
      again = false;
      load(start());
    }
  }
}

let waiting = 0;
function scrolled() {
  if (waiting) return;
  waiting = requestAnimationFrame(() => {
    waiting = 0;
    const first = rowHeight ? scroll.scrollTop / rowHeight : 0;
    const screen = rowHeight ? scroll.clientHeight / rowHeight : 0;
    const there = shownRows().length;
    if (first < offset || first + screen > offset + there || (offset > 0 && first - offset < 5)) {
      if (start() !== offset) load(start());
    }
  });
}

function go(to) {
  active = Math.max(0, Math.min(total - 1, to));
  const top = active * rowHeight, head = scroll.querySelector("thead").getBoundingClientRect().height;
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + rowHeight + head > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + rowHeight + head - scroll.clientHeight;
  mark();
  const row = shownRows().find((one) => Number(one.dataset.place) === active);
  row?.querySelector("a").focus({ preventScroll: true });
}

const writes = (target) => target.matches?.("input, select, textarea");
const KEYS = {
  j: () => go(active + 1),
  k: () => go(active - 1),
  n: () => location.assign("/films/next"),
  u: undo,
  "/": () => at("search").focus(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey || writes(event.target) || localStorage.getItem("hilum.keys.off") === "yes") return;
  if (event.key === "Enter" && !event.target.matches?.("a, button")) shownRows().find((row) => Number(row.dataset.place) === active)?.querySelector("a").click();
  else if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

let soon = 0;
function fresh() {
  soon ||= setTimeout(() => {
    soon = 0;
    if (!document.hidden) load(start());
  }, SOON_MS);
}

// Events say at once that something happened; asking now and then tells of claims, and helps where events don't pass.
function follow() {
  const events = new EventSource("/api/v1/events");
  events.addEventListener("film", fresh);
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, SLOW_MS);
  };
}

async function watch() {
  if (!document.hidden) await load(start());
  setTimeout(watch, lost ? SLOWEST_MS : SLOW_MS);
}

filters.addEventListener("change", () => filters.requestSubmit());
scroll.addEventListener("scroll", scrolled, { passive: true });
globalThis.addEventListener("resize", place);
document.addEventListener("visibilitychange", () => document.hidden || fresh());
if (new URLSearchParams(location.search).get("done") === "1") {
  say("All films that need you are read.");
}
place();
offerUndo();
setTimeout(watch, SLOWEST_MS);
follow();
