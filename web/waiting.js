// The behaviour of the waiting page: shows every standing it is told, keeps exactly one connection or timer,
// and enters by loading the visitor's own address again, after checking in where the room wants a nonce for that.
(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const text = read("anteroom-strings");
  const start = read("anteroom-state");
  const lang = document.documentElement.lang;
  const base = "/anteroom/v1/rooms/" + encodeURIComponent(start.room) + "/";

  const STATUSES = ["waiting", "called", "admitted", "gone"];
  // Silence on a stream that should speak every 10 s, in seconds: something between holds it back.
  const SILENCE = 45;
  const fill = (pattern, values) =>
    Object.keys(values).reduce((out, key) => out.split("{" + key + "}").join(values[key]), pattern);
  const group = (n) => n.toLocaleString("en-US");
  const spread = (seconds) => seconds * (0.8 + 0.4 * Math.random());
  const clamp = (n, low, high) => Math.min(high, Math.max(low, Number(n) || 0));

  // What this tab remembers over its own reloads: first position of a number, automatic reloads and when.
  const key = "anteroom:" + start.room;
  let memory = {};
  let remembers = true;
  try {
    memory = JSON.parse(sessionStorage.getItem(key)) || {};
  } catch {
    remembers = false;
  }
  const remember = (change) => {
    Object.assign(memory, change);
    try {
      sessionStorage.setItem(key, JSON.stringify(memory));
    } catch {
      remembers = false;
    }
  };

  // ---- What the page says. The server says the same in src/page/wording.rs; a test compares the two.

  const people = (n) => (n === 1 ? text.people_one : fill(text.people_many, { n: group(n) }));

  function estimate(eta) {
    if (!eta) return text.eta_none;
    if (eta.seconds >= 172800) return text.eta_days;
    const top = Math.min(Math.max(eta.high, eta.seconds), 99 * 3600);
    const [unit, size, step] =
      top <= 90 ? ["second", 1, 5] : top <= 5400 ? ["minute", 60, 60] : ["hour", 3600, 1800];
    const amount = (seconds) => (Math.max(1, Math.round(seconds / step)) * step) / size;
    const [n, low, high] = [amount(eta.seconds), amount(eta.low), amount(top)];
    const range = low === high ? "" : fill(text["range_" + unit + "s"], { low, high });
    return fill(text["eta_" + unit + (n === 1 ? "" : "s")], { n, range });
  }

  const each = (name, act) => document.querySelectorAll('[data-anteroom="' + name + '"]').forEach(act);
  const set = (name, value) =>
    each(name, (element) => {
      if (element.textContent !== value) element.textContent = value;
      if (name === "position") element.dataset.length = value.length;
    });

  let said = "";
  let saidAt = -Infinity;
  // A screen reader is told at most every 10 s, unless what happened matters more than the number.
  function announce(sentence, matters) {
    if (sentence === said || (!matters && performance.now() - saidAt < 10000)) return;
    said = sentence;
    saidAt = performance.now();
    set("spoken", sentence);
  }

  function showProgress(standing) {
    // Honest progress: the visitor's own way so far, nothing that moves by itself.
    if (memory.number !== standing.number || standing.position > memory.first) {
      remember({ number: standing.number, first: standing.position });
    }
    const moved = standing.status === "waiting" ? memory.first - standing.position : 0;
    each("progress", (bar) => {
      bar.hidden = moved < 1;
      bar.max = Math.max(1, memory.first);
      bar.value = moved;
    });
    set("moved", moved < 1 ? "" : fill(text.progress, { first: group(memory.first), moved: group(moved) }));
  }

  let shown = "";
  function show(standing) {
    const { status, room } = standing;
    const kind = status === "admitted" ? "called" : status;
    const waits = status === "waiting";
    const position = waits ? group(standing.position) : "";
    const headline = waits && standing.position === 1 ? text.headline_next : text["headline_" + kind];
    document.title = fill(text["title_" + kind], { position, room });
    document.body.dataset.anteroomStatus = kind;
    set("headline", headline);
    set("lead", text["lead_" + kind]);
    set("position", waits ? position : kind === "called" ? text.position_called : "–");
    if (waits) {
      const eta = estimate(standing.eta);
      set("ahead", standing.position > 1 ? people(standing.position - 1) : text.ahead_none);
      set("waiting", people(standing.waiting));
      set("number", fill(text.number, { n: group(standing.number) }));
      set("eta", eta);
      set("eta_note", !standing.eta ? text.note_none : standing.eta.confidence < 0.5 ? text.note_rough : "");
      // The first standing is on the page already, where a screen reader finds it.
      if (shown) announce(fill(text.announce, { headline, position, eta }), shown !== headline);
    } else {
      announce(headline + ". " + text["lead_" + kind], true);
    }
    showProgress(standing);
    shown = headline;
  }

  const connection = (word) => {
    const time = new Date().toLocaleTimeString(lang);
    set("connection", navigator.cookieEnabled ? fill(text[word], { time, seconds: pollAfter }) : text.no_cookies);
  };

  // ---- One timer, one connection.

  let timer = 0;
  let source = null;
  let asking = false;
  let over = false;
  let heard = Date.now();
  let failures = 0;
  let refusals = 0;
  let listenAgain = 0;
  let pollAfter = clamp(start.poll_after, 1, 300);

  const after = (seconds, act) => {
    clearTimeout(timer);
    timer = setTimeout(act, seconds * 1000);
  };
  // Every request goes through here: jittered, and never less than a second away.
  const soon = (seconds, act) => after(Math.max(1, spread(seconds)), act);
  const hangUp = () => {
    if (source) source.close();
    source = null;
  };

  // Loads the page again: Envoy's Check lets the visitor in, or gives a place. A reload that did not help is
  // followed by ever longer pauses, so that a disagreement can never become a storm.
  function reload(seconds) {
    over = true;
    hangUp();
    const recent = Math.abs(Date.now() - (memory.at || 0)) < 180000;
    const reloads = recent ? memory.reloads || 0 : 0;
    const pause = remembers ? (reloads ? spread(Math.min(60, 2 ** reloads)) : 0) : spread(5);
    after(Math.max(seconds, pause, 1 - performance.now() / 1000), function go() {
      // Offline, a reload would only swap this page for the browser's own error.
      if (navigator.onLine === false) return after(2, go);
      remember({ reloads: reloads + 1, at: Date.now() });
      load();
    });
  }
  // Always a GET, also where the page answered a POST; with a fragment, replace() would only scroll.
  function load() {
    if (location.hash) location.reload();
    else location.replace(location.href);
  }

  // Served to somebody called, this page is the answer of a room that wants a nonce to come in (`checkin: nonce`): to
  // load it again would bring it again. So: in by the API, then on to where the visitor was going.
  async function enter() {
    over = true;
    let pause = 0;
    try {
      // Nothing secret: it only has to be another one each time. (randomUUID is for secure pages only.)
      const nonce = String(crypto.getRandomValues(new Uint32Array(5))).replaceAll(",", "-").padEnd(16, "-");
      const answer = await fetch(base + "enter", {
        method: "POST",
        cache: "no-store",
        headers: { accept: "application/json", "x-anteroom-nonce": nonce },
        signal: AbortSignal.timeout?.(1e4),
      });
      if (answer.ok) {
        const last = memory.entered || 0;
        remember({ entered: Date.now() });
        // Where that did not help just now, as without cookies, it must not become a storm.
        if (!remembers || Math.abs(Date.now() - last) < 180000) return reload(1);
        return load();
      }
      if (![409, 429, 502, 503, 504].includes(answer.status)) return reload(1 + 4 * Math.random());
      pause = clamp(answer.headers.get("retry-after"), 0, 300);
    } catch {
      // No answer: the same session is given again.
    }
    failures++;
    connection("lost");
    soon(Math.max(pause, Math.min(60, 2 ** failures)), enter);
  }

  // Takes in a standing; true while the visitor goes on waiting.
  function take(standing) {
    if (!standing || standing.room !== start.room || !STATUSES.includes(standing.status)) {
      throw new Error("not a standing of this room");
    }
    heard = Date.now();
    failures = 0;
    pollAfter = clamp(standing.poll_after, 1, 300);
    show(standing);
    if (standing.status === "waiting") return true;
    over = true;
    hangUp();
    clearTimeout(timer);
    set("connection", "");
    if (standing.status !== "gone") reload(Math.random() * 0.3);
    return false;
  }

  function listen() {
    if (!window.EventSource) return soon(pollAfter, poll);
    hangUp();
    const mine = (source = new EventSource(base + "stream"));
    let errors = 0;
    const giveUp = () => {
      hangUp();
      listenAgain = Date.now() + spread(Math.min(300, 15 * 2 ** refusals++)) * 1000;
      connection("lost");
      soon(1, poll);
    };
    after(SILENCE, giveUp);
    const hear = (event) => {
      if (source !== mine) return;
      try {
        if (!take(JSON.parse(event.data))) return;
      } catch {
        // Whatever that was, polling will tell.
        return giveUp();
      }
      errors = refusals = 0;
      connection("streaming");
      after(SILENCE, giveUp);
    };
    for (const name of ["position", "admitted", "gone"]) mine.addEventListener(name, hear);
    mine.onerror = () => {
      if (source !== mine) return;
      connection("lost");
      // A stream that merely broke off is taken up again by the browser, after the pause the server asked for.
      if (mine.readyState !== EventSource.CONNECTING || ++errors > 2) giveUp();
    };
  }

  async function poll() {
    const abort = new AbortController();
    asking = true;
    after(10, () => abort.abort());
    let pause = 0;
    try {
      const answer = await fetch(base + "position", {
        cache: "no-store",
        headers: { accept: "application/json" },
        signal: abort.signal,
      });
      // The place is not known any more: the Check gives a new one.
      if ([401, 404, 410].includes(answer.status)) return reload(1 + 4 * Math.random());
      if (answer.ok) {
        if (!take(await answer.json())) return;
        connection("polling");
      } else {
        pause = clamp(answer.headers.get("retry-after"), 0, 300);
        failures++;
      }
    } catch {
      failures++;
    } finally {
      asking = false;
    }
    if (over || source) return;
    if (failures) {
      connection("lost");
      soon(Math.max(pause, Math.min(60, pollAfter * 2 ** failures)), poll);
    } else if (Date.now() >= listenAgain) soon(1, listen);
    else soon(pollAfter, poll);
  }

  // A tab that slept, or a network that came back: look once, if what is shown has grown old.
  function wake() {
    if (over || source || asking || document.hidden || Date.now() - heard < pollAfter * 1000) return;
    soon(1, poll);
  }
  addEventListener("online", wake);
  addEventListener("visibilitychange", wake);
  addEventListener("pageshow", (event) => {
    if (event.persisted && !over) soon(1, listen);
  });
  // A tab closed while its visitor waits. Whoever is heard of again soon (this page loaded again, another tab) keeps
  // the place; a page that loads itself to enter is over and says nothing.
  addEventListener("pagehide", () => over || navigator.sendBeacon?.(base + "away"));

  if (start.status === "hold") {
    over = true;
    // Jittered upwards only: the server said when to come again.
    after(pollAfter * (1 + Math.random() / 2), function again() {
      if (navigator.onLine === false) return after(2, again);
      load();
    });
  } else if (start.status === "called") {
    show(start);
    after(Math.random() * 0.3, enter);
  } else if (take(start)) {
    connection("connecting");
    soon(1, listen);
  }
})();
