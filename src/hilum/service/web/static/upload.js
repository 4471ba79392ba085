// Films from this computer to the service, two at a time, each with its progress and, when it is refused, why.
import { BadZip, members } from "./unzip.js";

const at = (id) => document.getElementById(id);
const drop = at("drop"), rows = at("rows"), largest = Number(drop.dataset.largest);
const AT_ONCE = 2, MOST_TRIES = 20, AGAIN_S = 5, MOST_FILES = 10_000, DEEPEST = 20;
const NO_FILM = /(^|\/)(\.[^/]*|__MACOSX\/.*|Thumbs\.db|desktop\.ini|DICOMDIR)$/i;
const waiting = [], count = { found: 0, received: 0, known: 0, refused: 0, skipped: 0 };
let working = 0, ended = false;

const bytes = (size) => (size < 2 ** 20 ? `${Math.ceil(size / 1024)} KiB` : `${(size / 2 ** 20).toFixed(1)} MiB`);

function tell() {
  const done = count.received + count.known + count.refused;
  const parts = [`${done} of ${count.found} done`, `${count.received} received`];
  if (count.known) parts.push(`${count.known} there already`);
  if (count.refused) parts.push(`${count.refused} refused`);
  if (count.skipped) parts.push(`${count.skipped} left out (no films by name)`);
  at("live").textContent = parts.join(", ");
}

function line(name, size) {
  at("sent").classList.remove("hidden");
  const row = rows.insertRow();
  const [file, much, state, why] = [0, 1, 2, 3].map(() => row.insertCell());
  file.className = "name";
  file.textContent = name; // text, whatever the file is called
  much.textContent = bytes(size);
  state.textContent = "waiting";
  why.className = "wrap";
  return {
    show(word, { kind = "", reason = "", link = "" } = {}) {
      const chip = document.createElement("span");
      chip.className = `chip ${kind}`;
      chip.textContent = word;
      state.replaceChildren(chip);
      why.textContent = reason;
      if (link) {
        const anchor = document.createElement("a");
        anchor.href = link;
        anchor.textContent = "Open the film";
        why.replaceChildren(anchor);
      }
    },
    progress(part) {
      let bar = state.querySelector("progress");
      if (!bar) {
        bar = document.createElement("progress");
        bar.max = 1;
        bar.setAttribute("aria-label", `Sending ${name}`);
        state.replaceChildren(bar);
      }
      bar.value = part;
    },
  };
}

// The kind by the first bytes, so that what is no film isn't sent at all; the service looks again.
async function kind(blob) {
  const head = new Uint8Array(await blob.slice(0, 132).arrayBuffer()), text = String.fromCharCode(...head);
  if (text.slice(128) === "DICM" || text.startsWith("\x89PNG\r\n\x1a\n") || text.startsWith("\xff\xd8\xff")) return "film";
  return text.startsWith("PK\x03\x04") || text.startsWith("PK\x05\x06") ? "zip" : "";
}

function post(blob, moved) {
  return new Promise((done) => {
    const request = new XMLHttpRequest(); // fetch can't tell how far it is
    request.open("POST", `/api/v1/studies${at("urgent").checked ? "?priority=stat" : ""}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-CSRF-Token", document.querySelector('meta[name="csrf"]').content);
    request.upload.addEventListener("progress", (event) => moved(event.loaded / (event.total || 1)));
    request.addEventListener("loadend", () => {
      let said = {};
      try {
        said = JSON.parse(request.responseText);
      } catch {} // a proxy's page says nothing to us
      done({ status: request.status, said, after: Number(request.getResponseHeader("Retry-After")) || AGAIN_S });
    });
    request.send(blob);
  });
}

// Sending is work: a session doesn't end under it, but at its last hour, and then nothing holds the page back.
setInterval(() => working && document.dispatchEvent(new Event("hilum-busy")), 1000);
document.addEventListener("hilum-locked", () => (ended = true));

async function deliver(blob, row) {
  for (let tries = 1; ; tries += 1) {
    const { status, said, after } = await post(blob, row.progress);
    if (status === 200 || status === 201) {
      count[status === 201 ? "received" : "known"] += 1;
      return row.show(status === 201 ? "received" : "there already", { kind: "answered", link: `/films/${encodeURIComponent(said.id)}` });
    }
    if (status === 401) return end(row);
    const reason = status ? said.detail ?? `The service refused it (${status}).` : "The connection was lost.";
    if ((status && status !== 429 && status < 502) || tries === MOST_TRIES) return refuse(row, reason);
    row.show(`again in ${after} s`, { kind: "preparing", reason });
    await new Promise((go) => setTimeout(go, after * 1000));
    if (ended) return end(row);
  }
}

function refuse(row, reason) {
  count.refused += 1;
  row.show("refused", { kind: "failed", reason });
}

function end(row) {
  ended = true;
  row.show("not sent", { kind: "failed", reason: "The session ended." });
  const anchor = document.createElement("a");
  anchor.href = "/login?next=/upload&ended=1";
  anchor.textContent = "Log in again";
  at("trouble").replaceChildren("Your session has ended; what is not marked as received was not sent. ", anchor, ", then drop it again: nothing is kept twice.");
  at("trouble").classList.remove("hidden");
}

async function handle({ blob, open, row, packed }) {
  if (ended) return end(row);
  const film = blob ?? (await open());
  const what = await kind(film);
  if (what === "zip" && !packed) return unfold(film, row);
  if (what === "zip") return refuse(row, "A zip within a zip is not opened. Unpack the outer one, then send the inner one.");
  if (!film.size) return refuse(row, "The file is empty (0 bytes). Send the whole file.");
  if (!what) return refuse(row, "It is none of DICOM (Part 10 file), PNG, JPEG and zip. Send one of these.");
  if (film.size > largest) return refuse(row, `It has ${film.size} bytes, more than the ${largest} accepted.`);
  row.progress(0);
  return deliver(film, row);
}

async function unfold(file, row) {
  const inside = await members(file, largest);
  count.found -= 1;
  row.show("opened", { reason: `${inside.length} ${inside.length === 1 ? "file" : "files"} in the zip` });
  for (const one of inside) add(`${file.name}/${one.name}`, one.size, { open: one.open, packed: true });
}

async function work() {
  if (working >= AT_ONCE) return;
  working += 1;
  while (waiting.length) {
    const item = waiting.shift();
    try {
      await handle(item);
    } catch (error) {
      // A file that was moved or that the browser may not read is one file's trouble.
      refuse(item.row, error instanceof BadZip ? error.message : "The browser can't read it. Is it still there?");
    }
    tell();
  }
  working -= 1;
}

function add(name, size, item) {
  if (NO_FILM.test(name)) return (count.skipped += 1);
  if (count.found >= MOST_FILES) return trouble(`More than ${MOST_FILES} files. The rest was left out; send it after this.`);
  count.found += 1;
  waiting.push({ ...item, row: line(name, size) });
  return work();
}

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").classList.remove("hidden");
}

const take = (file, path = "") => add(path || file.webkitRelativePath || file.name, file.size, { blob: file });

async function walk(entry, depth) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return take(file, entry.fullPath.slice(1));
  }
  if (depth > DEEPEST) return trouble(`Folders deeper than ${DEEPEST} are not opened.`);
  const reader = entry.createReader();
  const some = () => new Promise((done, failed) => reader.readEntries(done, failed));
  for (let list = await some(); list.length; list = await some()) for (const one of list) await walk(one, depth + 1);
}

async function dropped(transfer) {
  // The list is gone after the first wait, so everything is taken out of it at once.
  const list = [...transfer.items].filter((item) => item.kind === "file").map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  for (const [entry, file] of list) {
    try {
      if (entry) await walk(entry, 0);
      else if (file) take(file);
    } catch {
      trouble("A folder can't be read. Is it still there?");
    }
  }
  tell();
}

for (const [button, pick] of [["files", "pick-files"], ["folder", "pick-folder"]]) {
  at(button).addEventListener("click", () => at(pick).click());
  at(pick).addEventListener("change", () => {
    for (const file of at(pick).files) take(file);
    at(pick).value = ""; // the same again is a choice as well
    tell();
  });
}
for (const name of ["dragover", "dragleave", "drop"]) {
  // Anywhere on the page: a film dropped beside the box must not replace the page.
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") dropped(event.dataTransfer);
  });
}
globalThis.addEventListener("beforeunload", (event) => {
  if (working && !ended) event.preventDefault();
});
