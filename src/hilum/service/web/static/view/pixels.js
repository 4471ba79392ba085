// Fetches a film's 16-bit values and what its header says of them.
import { Levels } from "./levels.js";
import { ask } from "../http.js";

export async function fetchFilm(study, { ahead = false } = {}) {
  const reply = await ask(`/api/v1/studies/${study}/pixels`, { headers: ahead ? { "Hilum-Ahead": "true" } : {} });
  if (ahead) {
    await reply.arrayBuffer();
    return null;
  }
  const head = JSON.parse(reply.headers.get("Hilum-Film"));
  let values = new Uint16Array(await reply.arrayBuffer());
  if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 0) {
    values = values.map((v) => ((v & 255) << 8) | (v >> 8)); // this machine's bytes come the other way round
  }
  return { ...head, study, levels: new Levels(values, head.rows, head.columns) };
}

// The window from the 1st to the 99th percentile of the film's values.
export function percentileWindow(film) {
  const level = film.levels.for(0.1);
  const counts = new Uint32Array(65536);
  for (const value of level.values) counts[value] += 1;
  const total = level.values.length;
  let low = 0, high = 65535;
  for (let seen = 0, v = 0; v < 65536; v++) {
    seen += counts[v];
    if (seen < 0.01 * total) low = v;
    if (seen <= 0.99 * total) high = v;
  }
  return high > low ? { low, high } : { low: 0, high: 65535 };
}
