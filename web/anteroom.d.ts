// The types of anteroom.js, and what everything in it means.

/** What a place has come to. `called`: enter before the call runs out. `gone`: left, silent for too long, or run out. */
export type Status = "waiting" | "called" | "admitted" | "gone";

/** Where a visitor stands. */
export interface Standing {
  status: Status;
  room: string;
  /** Given once, in order of arrival. */
  number: number;
  /** 1 for the next to be called; 0 unless waiting. */
  position: number;
  /** How many wait in the room. */
  waiting: number;
  /** In seconds; null while nobody is being let in. */
  eta: { seconds: number; low: number; high: number; confidence: number } | null;
  /** When to ask again, in seconds. */
  poll_after: number;
}

/** An RFC 9457 problem document. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  standing?: Standing;
}

/**
 * - `network`: no answer
 * - `busy`: 429, 502, 503, 504; try again after `retryAfter` seconds
 * - `no_token`: 401, join first
 * - `not_called`: 403, keep waiting
 * - `no_room`: 404
 * - `gone`: 410, join again
 * - `waiting`: a request of one's own has to wait (only from {@link Anteroom.fetch})
 * - `error`: anything else
 */
export type ErrorKind = "network" | "busy" | "no_token" | "not_called" | "no_room" | "gone" | "waiting" | "error";

export class AnteroomError extends Error {
  readonly kind: ErrorKind;
  /** The HTTP status; 0 without an answer. */
  readonly status: number;
  readonly problem: Problem;
  /** In seconds, at most 300; 0 where the server said nothing. */
  readonly retryAfter: number;
  readonly standing: Standing | null;
}

export interface Options {
  room: string;
  /** Where the API is; default `/anteroom/v1`. A whole URL for another origin, and outside of browsers. */
  base?: string;
  /**
   * Where ticket and pass are kept:
   * - `"cookie"`: in HttpOnly cookies that the service sets. The default on the page's own origin
   * - `"memory"`: in this object, sent as headers. The default for another origin, outside of browsers, and where a
   *   ticket or pass is given here
   * - a `Storage`, such as `sessionStorage`: as `"memory"`, and found again after a reload
   */
  storage?: "cookie" | "memory" | Pick<Storage, "getItem" | "setItem">;
  /** Tokens from elsewhere. */
  ticket?: string;
  pass?: string;
  /**
   * What the service is told when the page is closed or left:
   * - `"line"` (default): a place in line, waiting or called, is given up, unless it is heard of again within the room's grace (a reload, a
   *   second tab)
   * - `"session"`: that, and a session ends at once. Only where the page is left for good: `pagehide` comes with every
   *   navigation too
   * - `false`: nothing
   */
  leaveOnHide?: "line" | "session" | false;
  /** Instead of the global `fetch`. */
  fetch?: typeof fetch;
}

export interface Abortable {
  signal?: AbortSignal;
}

export class Anteroom {
  constructor(options: Options);
  readonly room: string;
  /** What was told last. */
  readonly standing: Standing | null;
  /** Undefined with cookies, which scripts cannot read. */
  readonly ticket: string | undefined;
  readonly pass: string | undefined;
  /** For requests to the protected site: the tokens held, none with cookies. */
  readonly headers: Record<string, string>;

  /** Takes a place, keeps the one held, or enters at once. Tries again up to three times while the service is busy. */
  join(options?: Abortable): Promise<Standing>;

  /** Where one stands, asked once. */
  position(options?: Abortable): Promise<Standing>;

  /**
   * Tells every standing until it is `called`, `admitted` or `gone`, which it resolves with. By server-sent events, else
   * by polling; never more than one request a second; through outages of any length. Rejects when aborted, with what
   * `onChange` throws, and with an {@link AnteroomError} that waiting cannot mend (`no_token`, `no_room`).
   */
  watch(onChange?: (standing: Standing) => void, options?: Abortable): Promise<Standing>;

  /**
   * Turns a call into a session. Twice gives the same one. With a new nonce each time, for rooms that want one
   * (`checkin: nonce`). Tries again as `join` does.
   */
  enter(options?: Abortable): Promise<Standing>;

  /** Gives up place and session at once; also when there is nothing to give up. */
  leave(options?: Abortable): Promise<void>;

  /**
   * `fetch` with the tokens, for requests to the protected site; takes in a renewed pass. Throws an
   * {@link AnteroomError} of kind `waiting` where the request has to wait: then watch and enter.
   */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>;

  /** No longer says anything when the page is left. */
  close(): void;
}
