// The keys of the page: what each does, which key it has on this machine, and the dialog that changes it.
const STORED = "hilum.keys", OFF = "hilum.keys.off";

export const DEFAULTS = {
  invert: ["i", "Invert"], overlay: ["o", "Heat map on or off"], fade: ["[", "Heat map fainter"],
  strengthen: ["]", "Heat map stronger"], style: ["c", "Areas or contours"], "zoom-in": ["+", "Zoom in"],
  "zoom-out": ["-", "Zoom out"], fit: ["=", "Fit"], actual: ["0", "One film pixel for each pixel of the screen"],
  rotate: ["r", "Rotate"], flip: ["f", "Flip"], preset: ["w", "Next window preset"], measure: ["m", "Measure"],
  region: ["g", "Draw a region"], prior: ["p", "Prior film beside"], reset: [" ", "Reset the view"],
  agree: ["a", "Agree"], override: ["d", "Override, or settle a disagreement"], next: ["n", "Next film"],
  undo: ["u", "Undo the last review"], "cannot-tell": ["t", "Can’t tell, when labelling"], worklist: ["b", "Back to the worklist"], help: ["?", "Keys"],
};

export function readKeys() {
  const keys = Object.fromEntries(Object.entries(DEFAULTS).map(([action, [key]]) => [action, key]));
  try {
    for (const [action, key] of Object.entries(JSON.parse(localStorage.getItem(STORED) ?? "{}"))) {
      if (action in keys && typeof key === "string" && key) keys[action] = key;
    }
  } catch {
    localStorage.removeItem(STORED);
  }
  return keys;
}

export const keysAreOff = () => localStorage.getItem(OFF) === "yes";
const named = (key) => (key === " " ? "Space" : key);
const writes = (target) => target.matches?.('textarea, select, input:not([type="radio"], [type="checkbox"], [type="range"])');
const pressesItself = (target, key) => (key === " " || key === "Enter") && target.matches?.("button, a, summary, input, select");

// actions: by name, what to do. digits: told 1 … 9. others: told any other key; true when it took it.
export class Keys {
  constructor(actions, { digits = () => {}, others = () => false } = {}) {
    Object.assign(this, { actions, digits, others, keys: readKeys() });
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  pressed(event) {
    if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
    if (this.others(event)) return event.preventDefault();
    if (event.ctrlKey || event.metaKey || writes(event.target) || pressesItself(event.target, event.key) || keysAreOff()) return;
    const action = Object.keys(this.keys).find((name) => this.keys[name] === event.key);
    if (action && this.actions[action]) {
      event.preventDefault();
      this.actions[action]();
    } else if (/^[1-9]$/.test(event.key)) {
      event.preventDefault();
      this.digits(Number(event.key));
    }
  }

  // Writes the present keys into the page, where [data-key] names an action.
  label() {
    for (const place of document.querySelectorAll("kbd[data-key]")) place.textContent = named(this.keys[place.dataset.key]);
  }

  openDialog() {
    const dialog = document.getElementById("keys");
    const list = dialog.querySelector("#key-list");
    list.replaceChildren(...Object.keys(DEFAULTS).map((action) => this.row(action, dialog)));
    const off = dialog.querySelector("#keys-off");
    off.checked = keysAreOff();
    off.onchange = () => localStorage.setItem(OFF, off.checked ? "yes" : "no");
    dialog.querySelector("#keys-default").onclick = () => {
      localStorage.removeItem(STORED);
      this.keys = readKeys();
      this.label();
      this.openDialog();
    };
    if (!dialog.open) dialog.showModal();
  }

  row(action, dialog) {
    const row = document.createElement("li"), name = document.createElement("span"), button = document.createElement("button");
    name.textContent = DEFAULTS[action][1];
    button.type = "button";
    button.textContent = named(this.keys[action]);
    button.setAttribute("aria-label", `${DEFAULTS[action][1]}: ${named(this.keys[action])}. Press to change.`);
    button.onclick = () => {
      button.textContent = "press a key";
      button.addEventListener("keydown", (event) => this.take(event, action, dialog), { once: true });
    };
    row.append(name, button);
    return row;
  }

  take(event, action, dialog) {
    if (event.key === "Tab" || event.key === "Shift") return this.openDialog();
    event.preventDefault();
    const told = dialog.querySelector("#keys-told");
    const other = Object.keys(this.keys).find((name) => name !== action && this.keys[name] === event.key);
    if (event.key !== "Escape" && !other && !/^[1-9]$|^Enter$|^Arrow/.test(event.key)) {
      this.keys[action] = event.key;
      localStorage.setItem(STORED, JSON.stringify(this.keys));
      told.textContent = `${DEFAULTS[action][1]}: ${named(event.key)}.`;
    } else if (event.key !== "Escape") {
      told.textContent = other ? `${named(event.key)} is taken by “${DEFAULTS[other][1]}”.` : `${named(event.key)} can’t be used.`;
    }
    this.label();
    this.openDialog();
  }
}
