// Requests of the page: what went wrong becomes one of three errors that the page can speak about.
export class SessionEnded extends Error {}
export class ConnectionLost extends Error {}
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const csrf = () => document.querySelector('meta[name="csrf"]')?.content ?? "";

export async function ask(address, { method = "GET", body, headers = {}, signal, keepalive = false } = {}) {
  const sent = { ...headers };
  if (method !== "GET") sent["X-CSRF-Token"] = csrf();
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let reply;
  try {
    const said = body === undefined ? undefined : JSON.stringify(body);
    reply = await fetch(address, { method, headers: sent, body: said, signal, keepalive, redirect: "manual" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ConnectionLost("The service can't be reached.");
  }
  if (reply.type === "opaqueredirect" || reply.status === 401) {
    document.dispatchEvent(new Event("hilum-ended")); // the page is hidden
    throw new SessionEnded("Your session has ended.");
  }
  if (reply.status >= 502 && reply.status <= 504) throw new ConnectionLost("The service can't answer now.");
  if (!reply.ok) {
    const told = await reply.json().catch(() => ({}));
    throw new Refused(reply.status, told.detail ?? `The service refused this (${reply.status}).`);
  }
  return reply;
}
