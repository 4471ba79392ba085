// The film page: heat map on and off, its opacity, inversion, the finding shown, and the keys for them.
const film = document.getElementById("film");
const picture = document.getElementById("picture");
const layer = document.getElementById("layer");
const overlay = document.getElementById("overlay");
const invert = document.getElementById("invert");
const opacity = document.getElementById("opacity");
const opacityValue = document.getElementById("opacity-value");
const STEP = 10;

const chosen = () => document.querySelector('input[name="finding"]:checked');

function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

function pressed(button) {
  return button.getAttribute("aria-pressed") === "true";
}

function show(on) {
  const source = chosen()?.dataset.layer;
  const visible = Boolean(on && source);
  if (visible) {
    const address = `${source}?layer=true`;
    if (layer.getAttribute("src") !== address) layer.src = address;
    layer.alt = `Heat map of ${chosen().value} over the film; assistive, not for diagnosis`;
  }
  layer.classList.toggle("hidden", !visible);
  press(overlay, visible);
}

function fade(value) {
  opacity.value = String(Math.min(100, Math.max(0, value)));
  layer.style.opacity = String(opacity.value / 100);
  opacityValue.textContent = `${opacity.value} %`;
}

function turn() {
  press(invert, picture.classList.toggle("inverted"));
}

const KEYS = {
  o: () => show(!pressed(overlay)),
  "[": () => fade(Number(opacity.value) - STEP),
  "]": () => fade(Number(opacity.value) + STEP),
  i: turn,
  n: () => document.getElementById("next")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.('input[type="text"], textarea')) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

async function awaitAnswer() {
  const study = film.dataset.study;
  for (;;) {
    try {
      const reply = await fetch(`/api/v1/studies/${study}?wait=20`, { cache: "no-store" });
      const { state } = await reply.json();
      if (reply.ok && state !== "received" && state !== "preparing") return location.reload();
    } catch {
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

overlay.addEventListener("click", KEYS.o);
invert.addEventListener("click", turn);
opacity.addEventListener("input", () => fade(Number(opacity.value)));
for (const input of document.querySelectorAll('input[name="finding"]')) {
  input.addEventListener("change", () => show(true));
}

function noPicture() {
  picture.parentElement.classList.add("hidden");
  document.getElementById("no-picture").classList.remove("hidden");
}
picture.addEventListener("error", noPicture);
if (picture.complete && picture.naturalWidth === 0) noPicture();

overlay.disabled = !document.querySelector('input[name="finding"]:not([disabled])');
fade(Number(opacity.value));
show(true);
if (film.dataset.waiting === "yes") awaitAnswer();
