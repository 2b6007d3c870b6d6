// Who is signed in, and requests that change something.

import { AWAY, toSignIn } from "./api.js";
import { $, say } from "./page.js";
import { emit, state } from "./state.js";

/** Asks who is signed in; `state.me` says so, and what that person may do. */
export async function loadMe() {
  try {
    const response = await fetch("/api/session");
    if (response.status === 401) return toSignIn();
    if (!response.ok) return undefined;
    state.me = await response.json();
  } catch {
    // The events say that the dashboard is away.
    return undefined;
  }
  const { login, name, role, csrf } = state.me;
  $("account").hidden = !login;
  $("sign-out").hidden = !csrf;
  if (login) say($("account-name"), `${name}, ${role}`);
  return emit("me");
}

/** Sends a request that changes something. */
export async function send(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "content-type": "application/json", "x-iotctl-csrf": state.me?.csrf ?? "" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error(AWAY);
  }
  if (response.status === 401) toSignIn();
  if (response.status === 204) return null;
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.remedy ? `${answer.detail} (${answer.remedy})` : answer.detail);
  return answer;
}

async function signOut() {
  try {
    await send("DELETE", "/api/session");
    toSignIn();
  } catch (error) {
    say($("account-name"), error.message, "warn");
  }
}

export const mayAcknowledge = () => state.me?.role === "operator";

export function begin() {
  $("sign-out").addEventListener("click", signOut);
  loadMe();
}
