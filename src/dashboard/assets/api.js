// Requests to the JSON API, and the stream of events.

const asking = new Map();

export const AWAY = "the dashboard does not answer (check that it is running)";

/** To where people sign in; the part of the address that says what the page shows comes along. */
export const toSignIn = () => location.replace(`/login${location.hash}`);

/** Sends a request; it cancels the previous one of the same kind, which then returns `null`. */
export async function ask(kind, path, parameters = {}) {
  asking.get(kind)?.abort();
  const controller = new AbortController();
  asking.set(kind, controller);
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  try {
    const response = await fetch(query.size ? `${path}?${query}` : path, { signal: controller.signal });
    if (response.status === 401) {
      toSignIn();
      return null;
    }
    const body = await response.json();
    if (!response.ok) throw new Error(body.remedy ? `${body.detail} (${body.remedy})` : body.detail);
    return controller.signal.aborted ? null : body;
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error instanceof TypeError ? new Error(AWAY) : error;
  } finally {
    if (asking.get(kind) === controller) asking.delete(kind);
  }
}

/** Cancels the requests whose kind begins with one of `kinds`. */
export function cancel(...kinds) {
  for (const [kind, controller] of asking) if (kinds.some((start) => kind.startsWith(start))) controller.abort();
}

/** Runs the tasks, at most `most` at once: the server reads four ranges of rows at a time, for all pages. */
export async function inTurns(tasks, most) {
  const left = [...tasks];
  const worker = async () => {
    while (left.length) await left.shift()();
  };
  await Promise.all(Array.from({ length: Math.min(most, tasks.length) }, worker));
}

/**
 * Listens to the server's events; `acts` by name, with `open`, `closed` when the server has refused, and `heard` after anything
 * that was heard or lost.
 */
export function connect(acts) {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => {
    acts.heard(true);
    acts.open();
  });
  for (const [name, act] of Object.entries(acts.events)) {
    source.addEventListener(name, (event) => {
      act(JSON.parse(event.data));
      acts.heard(true);
    });
  }
  source.addEventListener("error", () => {
    acts.heard(false);
    // The browser reconnects by itself, unless the server answered with an error.
    if (source.readyState === EventSource.CLOSED) {
      acts.closed();
      setTimeout(() => connect(acts), 3000);
    }
  });
}
