// Keeps the worklist fresh: asks for the rows every two seconds and replaces them only when they changed.
const rows = document.getElementById("rows");
const live = document.getElementById("live");
const EVERY_MS = 2000;
let last = null;

function count() {
  const films = rows.querySelectorAll("tr[data-state]");
  const waiting = [...films].filter((row) => ["received", "preparing"].includes(row.dataset.state)).length;
  return `${films.length} ${films.length === 1 ? "film" : "films"}, ${waiting} waiting`;
}

function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

async function refresh() {
  try {
    const reply = await fetch("/?part=rows", { cache: "no-store" });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    const text = await reply.text();
    if (text !== last) {
      const focused = rows.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      // The server has escaped every value; a template is parsed without running anything.
      const parsed = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
      rows.replaceChildren(...parsed.querySelectorAll("tbody > tr"));
      if (focused) rows.querySelector(`a[href="${CSS.escape(focused).replaceAll("\\/", "/")}"]`)?.focus();
      last = text;
    }
    say(count());
  } catch {
    say("Connection lost; trying again.");
  }
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, EVERY_MS);
}

say(count());
setTimeout(watch, EVERY_MS);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
