// Time on task: seconds for which the page was in front.
const MOST = 86400;
let seconds = 0, since = document.hidden ? null : performance.now();

document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) seconds += (performance.now() - since) / 1000;
  since = document.hidden ? null : performance.now();
});

export const spent = () => Math.min(MOST, seconds + (since === null ? 0 : (performance.now() - since) / 1000));
