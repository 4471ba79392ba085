// What a page keeps in this tab for whoever is logged in: never read by another user, wiped at logout and when somebody
// else comes.
export const caller = document.body.dataset.caller;
const ALL = "hilum/", MINE = `${ALL}${caller}/`;

export const keep = (name, value) => sessionStorage.setItem(MINE + name, JSON.stringify(value));
export const drop = (name) => sessionStorage.removeItem(MINE + name);

export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(MINE + name) ?? "null");
  } catch {
    return null;
  }
}

export function wipe(except = "") {
  for (const key of Object.keys(sessionStorage)) {
    if (key.startsWith(ALL) && !(except && key.startsWith(except))) sessionStorage.removeItem(key);
  }
}
export const wipeOthers = () => wipe(MINE);
