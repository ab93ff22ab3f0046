// Anteroom's client for scripts: join, watch, enter, leave. No dependencies; for browsers and Node 18 or newer.
// anteroom.d.ts says what everything means, example/ shows it at work.

// Seconds. A stream speaks at least every 30: longer silence means that something between holds it back.
const SILENCE = 45;
const STATUSES = ["waiting", "called", "admitted", "gone"];
// Tried again later these may go well; everything else is an answer.
const PASSING = [0, 429, 502, 503, 504];
const KINDS = { 0: "network", 401: "no_token", 403: "not_called", 404: "no_room", 410: "gone" };

export class AnteroomError extends Error {
  constructor(status, problem = {}, retryAfter = 0, kind) {
    super(problem.detail || problem.title || `the waiting room answered ${status}`);
    this.name = "AnteroomError";
    kind ||= KINDS[status] || (PASSING.includes(status) ? "busy" : "error");
    Object.assign(this, { kind, status, problem, retryAfter, standing: problem.standing || null });
  }
}

// Upwards only: a server's "not before" is kept, and no crowd comes back as one.
const spread = (seconds) => seconds * (1 + Math.random() / 3);
const seconds = (text) => Math.min(300, Math.max(0, Number(text) || 0));
const retryAfter = (answer) => seconds(answer.headers.get("retry-after"));
const isOf = (answer, type) => (answer.headers.get("content-type") || "").startsWith(type);
const field = (block, name) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];

// Made up anew for each check-in, for rooms that want one (`checkin: nonce`). Nothing secret: it only has to be another one
// each time. Not every page and not every Node has randomUUID.
const nonce = () =>
  globalThis.crypto?.randomUUID?.() ??
  [Date.now(), Math.random(), Math.random()].map((n) => n.toString(36).slice(-12)).join("_").replaceAll(".", "-").padEnd(16, "_");

// Listens until the returned function is called. Without a page there is nothing to hear.
function on(events, act) {
  for (const name of events) globalThis.addEventListener?.(name, act);
  return () => {
    for (const name of events) globalThis.removeEventListener?.(name, act);
  };
}

// The network or the page has come back.
const onWake = (act) => on(["online", "pageshow", "visibilitychange"], () => globalThis.document?.hidden || act());

function pause(length, signal, wakes) {
  return new Promise((done, fail) => {
    const end = (act) => () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      off();
      act();
    };
    const abort = end(() => fail(signal.reason));
    const timer = setTimeout(end(done), length * 1000);
    const off = wakes ? onWake(end(done)) : () => {};
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
  });
}

export class Anteroom {
  #rooms;
  #store;
  #fetch;
  #tokens = {};
  // When the next request of our own accord may go out: never more than one a second.
  #free = 0;

  constructor({ room, base = "/anteroom/v1", storage, ticket, pass, leaveOnHide = "line", fetch: how }) {
    this.room = room;
    this.standing = null;
    this.#rooms = `${base.replace(/\/$/, "")}/rooms/${encodeURIComponent(room)}/`;
    this.#fetch = how || ((...request) => fetch(...request));
    const page = globalThis.location;
    const own = page && !ticket && !pass && new URL(base, page.href).origin === page.origin;
    this.#store = storage || (own ? "cookie" : "memory");
    if (typeof this.#store === "object") {
      try {
        this.#tokens = JSON.parse(this.#store.getItem(this.#key)) || {};
      } catch {
        // Not ours, or not to be read: as if nothing were kept.
      }
    }
    if (ticket || pass) this.#keep({ ticket, pass });
    this.close = on(leaveOnHide ? ["pagehide"] : [], () => this.#hide(leaveOnHide));
  }

  get ticket() {
    return this.#tokens.ticket;
  }

  get pass() {
    return this.#tokens.pass;
  }

  get headers() {
    const { ticket, pass } = this.#tokens;
    return { ...(ticket && { "x-anteroom-ticket": ticket }), ...(pass && { "x-anteroom-pass": pass }) };
  }

  join({ signal } = {}) {
    return this.#insist("join", signal);
  }

  enter({ signal } = {}) {
    return this.#insist("enter", signal);
  }

  async position({ signal } = {}) {
    return this.#take(await this.#json(await this.#send("GET", "position", signal)));
  }

  async watch(onChange = () => {}, { signal } = {}) {
    const state = { id: "", retry: 3 };
    let [failures, refusals, streamAt] = [0, 0, 0];
    for (;;) {
      await this.#turn(signal);
      const streams = Date.now() >= streamAt;
      let [told, wait, asked] = [null, 1, 0];
      try {
        for await (told of streams ? this.#stream(state, signal) : [await this.position({ signal })]) {
          onChange(told);
          if (told.status !== "waiting") return told;
        }
        failures = 0;
        if (streams) refusals = 0;
        wait = streams ? state.retry : seconds(told.poll_after);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        // What the callback throws is the caller's.
        if (!(error instanceof AnteroomError)) throw error;
        asked = error.retryAfter;
        if (streams) {
          // No stream for this one: polls will do, and tell what is the matter. Later it is tried again.
          streamAt = Date.now() + spread(Math.min(300, 15 * 2 ** refusals++)) * 1000;
        } else if (PASSING.includes(error.status)) {
          wait = Math.min(60, (this.standing?.poll_after || 1) * 2 ** ++failures);
        } else throw error;
      }
      if (asked) await pause(spread(asked), signal);
      else await pause(spread(wait), signal, true);
    }
  }

  async leave({ signal } = {}) {
    const answer = await this.#send("POST", "leave", signal);
    this.#free = 0;
    // Without a token there was nothing to leave.
    if (!answer.ok && answer.status !== 401) await this.#json(answer);
    this.#keep({ ticket: undefined, pass: undefined });
    this.standing = null;
  }

  async fetch(url, init = {}) {
    const headers = new Headers(init.headers);
    for (const [name, value] of Object.entries(this.headers)) headers.set(name, value);
    const answer = await this.#fetch(url, { ...init, headers });
    const pass = answer.headers.get("x-anteroom-pass");
    if (pass) this.#keep({ pass });
    if (!answer.ok && isOf(answer, "application/json")) {
      const told = await answer.clone().json().catch(() => null);
      if (told?.room === this.room && STATUSES.includes(told.status)) {
        this.#keep({ pass: undefined });
        const problem = { title: "the line comes first", standing: this.#take(told) };
        throw new AnteroomError(answer.status, problem, retryAfter(answer), "waiting");
      }
    }
    return answer;
  }

  get #key() {
    return "anteroom-tokens:" + this.room;
  }

  #keep(change) {
    if (this.#store === "cookie") return;
    this.#tokens = { ...this.#tokens, ...change };
    if (typeof this.#store !== "object") return;
    try {
      this.#store.setItem(this.#key, JSON.stringify(this.#tokens));
    } catch {
      // Full or forbidden: they last as long as the page.
    }
  }

  #take({ ticket, pass, ...standing }) {
    if (standing.room !== this.room || !STATUSES.includes(standing.status)) {
      throw new AnteroomError(0, { title: "the answer is no standing of this room" });
    }
    if (ticket) this.#keep({ ticket });
    // A ticket has done its work once there is a pass.
    if (pass) this.#keep({ pass, ticket: undefined });
    if (standing.status === "gone") this.#keep({ ticket: undefined, pass: undefined });
    return (this.standing = standing);
  }

  // Waits for the second since the last request to be over.
  async #turn(signal) {
    const now = Date.now();
    const at = Math.max(now, this.#free);
    this.#free = at + 1000;
    await pause((at - now) / 1000, signal);
  }

  async #send(method, call, signal, headers = {}) {
    this.#free = Math.max(this.#free, Date.now() + 1000);
    const cookies = this.#store === "cookie" ? "same-origin" : "omit";
    const asked = { accept: "application/json", ...this.headers, ...headers };
    try {
      const how = { method, headers: asked, signal, cache: "no-store", credentials: cookies };
      return await this.#fetch(this.#rooms + call, how);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new AnteroomError(0, { title: "the waiting room cannot be reached", detail: error.message });
    }
  }

  // The answer's JSON; an answer that is none of the good ones is thrown as an error.
  async #json(answer) {
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) return body;
    if (answer.status === 410) this.#keep({ ticket: undefined });
    if (body.standing) this.standing = body.standing;
    throw new AnteroomError(answer.status, body, retryAfter(answer));
  }

  // Joining and entering may be repeated, so a server that is busy for a moment costs nobody their place.
  async #insist(call, signal) {
    for (let tries = 1; ; tries++) {
      try {
        const once = call === "enter" ? { "x-anteroom-nonce": nonce() } : {};
        return this.#take(await this.#json(await this.#send("POST", call, signal, once)));
      } catch (error) {
        // 409: the nonce was used before, by this very request if a proxy sent it twice. The next one is another.
        const passes = PASSING.includes(error.status) || error.status === 409;
        if (signal?.aborted || tries > 3 || !passes) throw error;
        await pause(spread(Math.max(error.retryAfter, 2 ** (tries - 1))), signal);
      }
    }
  }

  // The standings of one stream, until it ends. By fetch, as EventSource can send no headers.
  async *#stream(state, signal) {
    const cut = new AbortController();
    let [timer, at, heard] = [0, 0, false];
    const alive = () => {
      clearTimeout(timer);
      at = Date.now();
      timer = setTimeout(() => cut.abort(), SILENCE * 1000);
    };
    const stop = () => cut.abort();
    signal?.addEventListener("abort", stop);
    // A machine that slept may hold a connection that nobody answers any more.
    const off = onWake(() => Date.now() - at > 15000 && cut.abort());
    try {
      alive();
      const since = state.id ? { "last-event-id": state.id } : {};
      const answer = await this.#send("GET", "stream", cut.signal, { accept: "text/event-stream", ...since });
      if (!answer.ok) await this.#json(answer);
      // Proxies answer other things, and some fetches give no body to be read in parts.
      const reader = isOf(answer, "text/event-stream") && answer.body.getReader();
      const decoder = new TextDecoder();
      for (let text = ""; ; ) {
        const { done, value } = await reader.read();
        if (done || text.length > 65536) break;
        alive();
        const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const data = field(block, "data");
          state.id = field(block, "id") || state.id;
          state.retry = seconds(field(block, "retry") / 1000) || state.retry;
          if (!data) continue;
          heard = true;
          yield this.#take(JSON.parse(data));
        }
      }
      if (!heard) throw new AnteroomError(0, { title: "the stream said nothing" });
    } catch (error) {
      // One that merely broke off is taken up again.
      if (heard && !signal?.aborted) return;
      throw error instanceof AnteroomError ? error : new AnteroomError(0, { title: "the stream broke off" });
    } finally {
      clearTimeout(timer);
      off();
      signal?.removeEventListener("abort", stop);
      cut.abort();
    }
  }

  #hide(what) {
    const status = this.standing?.status;
    const waits = status === "waiting" || status === "called";
    if (!waits && !(what === "session" && status === "admitted")) return;
    // Text needs no preflight, which a page that goes away could not wait for.
    const body = new Blob([JSON.stringify(this.#tokens)], { type: "text/plain" });
    navigator.sendBeacon?.(this.#rooms + (waits ? "away" : "leave"), body);
  }
}
