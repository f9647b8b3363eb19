// Tells the pages of an app whether a user is signed in, by {mount}/me. Part of rocket_openidconnect.

/** The path of the routes: the folder of this file. */
const MOUNT = new URL(".", import.meta.url);
if (MOUNT.origin !== location.origin) throw new Error("this script works at the origin of its app alone");

const ME = new URL("me", MOUNT).href;
const CHANNEL = `oidc ${MOUNT.pathname}`;
/** In `sessionStorage`: which user this tab last knew of, and that it has sent its user to sign-in. */
const KNOWN = `${CHANNEL} known`;
const SENT = `${CHANNEL} sent`;
/** All in milliseconds. */
const TIMEOUT = 10_000;
const MIN_RETRY = 5_000;
const MAX_RETRY = 300_000;
const MAX_TIMER = 2 ** 31 - 1;
/** `Date` has whole seconds, and the answer took a while. */
const MARGIN = 1_500;

const nativeFetch = globalThis.fetch.bind(globalThis);

/** `sessionStorage`, which a browser may refuse. */
const storage = {
  get(name) {
    try {
      return sessionStorage.getItem(name);
    } catch {
      return undefined;
    }
  },
  /** Whether it is kept. */
  set(name, value) {
    try {
      if (value === null) sessionStorage.removeItem(name);
      else sessionStorage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  },
};

/**
 * The session of this browser, as a page sees it. Its events:
 *
 * - `change`: `state` is another, also for the first time;
 * - `signin`: a user has signed in, here or in another tab;
 * - `signout`: the session has ended, or is another user's. The page is loaded again, unless `preventDefault()` is called;
 * - `ending`: it ends within `warnBefore` seconds, with `detail = { seconds, isExtendable }`;
 * - `unauthorized`: a request got 401, and the page is about to go to sign-in, unless `preventDefault()` is called.
 */
class Session extends EventTarget {
  #state = null;
  #body = null;
  #etag = null;
  #asking = null;
  #queued = null;
  #abort = null;
  #timer;
  #retry = MIN_RETRY;
  #warnBefore = 120_000;
  #hasWarned = false;
  #isTold = false;
  #isLeaving = false;
  #isRestored = false;
  #channel = null;
  #resolveReady;

  /** Resolves to the first state, once the app has answered. */
  ready = new Promise((resolve) => (this.#resolveReady = resolve));

  /**
   * `{ loggedIn, user, endsAt, isExtendable }`; `null` until the app has answered. `user` has the claims of the setting
   * `me_claims`, `endsAt` is when the session ends if it is not used again, by `Date.now()`, and `isExtendable` says
   * whether using it moves that.
   */
  get state() {
    return this.#state;
  }

  /** How many seconds before the end `ending` is dispatched. */
  get warnBefore() {
    return this.#warnBefore / 1000;
  }

  set warnBefore(seconds) {
    this.#warnBefore = seconds * 1000;
    if (this.#state) this.check();
  }

  /** How many seconds the session lasts, at least 0; `null` while no user is signed in, and if it does not end. */
  get secondsLeft() {
    const endsAt = this.#state?.endsAt ?? null;
    return endsAt === null ? null : Math.max(0, Math.ceil((endsAt - Date.now()) / 1000));
  }

  /** Asks the app, which counts as no use of the session. Resolves to whether it has answered. */
  check() {
    if (!this.#asking) {
      this.#asking = this.#ask().finally(() => (this.#asking = null));
      return this.#asking;
    }
    // An answer that is under way may be from before what the caller knows of.
    this.#queued ??= this.#asking.then(() => {
      this.#queued = null;
      return this.check();
    });
    return this.#queued;
  }

  async #ask() {
    clearTimeout(this.#timer);
    const abort = new AbortController();
    this.#abort = abort;
    const timeout = setTimeout(() => abort.abort(), TIMEOUT);
    let body, offset;
    try {
      const headers = { Accept: "application/json" };
      if (this.#etag) headers["If-None-Match"] = this.#etag;
      const options = { headers, cache: "no-store", credentials: "same-origin", redirect: "error", signal: abort.signal };
      const response = await nativeFetch(ME, options);
      if (response.status === 304 && this.#body) body = this.#body;
      else if (response.status === 200) body = await response.json();
      else throw new Error(`status ${response.status}`);
      if (typeof body.logged_in !== "boolean") throw new Error("another answer");
      offset = Date.now() - Date.parse(response.headers.get("Date"));
      this.#etag = response.headers.get("ETag");
    } catch {
      // Offline, or the app is down: what was known stays.
      this.#timer = setTimeout(() => this.check(), this.#retry);
      this.#retry = Math.min(this.#retry * 2, MAX_RETRY);
      return false;
    } finally {
      clearTimeout(timeout);
    }
    this.#retry = MIN_RETRY;
    this.#apply(body, Number.isNaN(offset) ? 0 : offset);
    return true;
  }

  #apply(body, offset) {
    const [before, hadBody] = [this.#state, this.#body];
    const ends = [body.ends_at, body.idle_ends_at].filter(Number.isFinite);
    const state = Object.freeze({
      loggedIn: body.logged_in,
      user: body.user ?? null,
      endsAt: ends.length > 0 ? Math.min(...ends) * 1000 + offset : null,
      isExtendable: body.idle_ends_at < body.ends_at,
    });
    this.#state = state;
    this.#body = body;
    const key = body.logged_in ? String(body.user_key) : "";
    const keyBefore = before && (before.loggedIn ? String(hadBody.user_key) : "");
    const isLonger = before && state.endsAt > before.endsAt + MARGIN;
    if (isLonger || state.endsAt - Date.now() > this.#warnBefore) this.#hasWarned = false;
    if (state.loggedIn) storage.set(SENT, null);
    this.#tellOthers(key);
    this.#schedule();

    this.#resolveReady(state);
    if (before === null || body !== hadBody) this.dispatchEvent(new Event("change"));
    if (before && key !== keyBefore) {
      this.#hasWarned = false;
      if (before.loggedIn) this.#signedOut();
      if (state.loggedIn) this.dispatchEvent(new Event("signin"));
    }
    this.#warn();
  }

  #signedOut() {
    const mayStay = !this.dispatchEvent(new Event("signout", { cancelable: true }));
    // A page that comes back from memory is another user's to look at.
    if (this.#isRestored || !(mayStay || this.#isLeaving)) location.reload();
  }

  /** Other tabs get no data: each asks the app itself. */
  #tellOthers(key) {
    const isNews = storage.get(KNOWN) !== key;
    storage.set(KNOWN, key);
    if (isNews && !this.#isTold) this.#channel?.postMessage(null);
    this.#isTold = false;
  }

  /** Asks again when a warning is due, and when the session has ended: another tab may have used it. */
  #schedule() {
    clearTimeout(this.#timer);
    const endsAt = this.#state?.endsAt ?? null;
    if (endsAt === null) return;
    const left = endsAt - Date.now();
    const wait = left > this.#warnBefore && !this.#hasWarned ? left - this.#warnBefore : left + MARGIN;
    this.#timer = setTimeout(() => this.check(), Math.min(Math.max(wait, MARGIN), MAX_TIMER));
  }

  #warn() {
    const seconds = this.secondsLeft;
    if (seconds === null || seconds * 1000 > this.#warnBefore || this.#hasWarned) return;
    this.#hasWarned = true;
    const detail = { seconds, isExtendable: this.#state.isExtendable };
    this.dispatchEvent(new CustomEvent("ending", { detail }));
    this.#schedule();
  }

  /** After a request that used the session: it may last longer now. */
  used() {
    if (this.#hasWarned) this.check();
  }

  /** After a 401: goes to sign-in if the session has ended, once until a user has signed in. */
  async unauthorized() {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    const hasAnswered = await this.check();
    const leaves =
      hasAnswered &&
      !this.#state.loggedIn &&
      storage.get(SENT) === null &&
      this.dispatchEvent(new Event("unauthorized", { cancelable: true })) &&
      // Where nothing is kept, not even cookies may be: the page would go to sign-in again and again.
      storage.set(SENT, "1");
    if (leaves) location.assign(signInUrl());
    else this.#isLeaving = false;
  }

  /** Follows the browser: other tabs, sleep, the network, and pages that come back from memory. */
  watch() {
    if ("BroadcastChannel" in globalThis) {
      this.#channel = new BroadcastChannel(CHANNEL);
      this.#channel.onmessage = () => {
        this.#isTold = true;
        this.check();
      };
    }
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.check();
    });
    document.addEventListener("resume", () => this.check());
    addEventListener("online", () => this.check());
    addEventListener("pagehide", (event) => {
      if (event.persisted && this.#state?.loggedIn !== false) show(false);
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.#restored();
    });
    this.check();
  }

  /** A page that comes back from memory shows nothing until it is known that its user is still signed in. */
  async #restored() {
    this.#isLeaving = false;
    this.#isRestored = true;
    // From before it was stored, and may never end.
    this.#abort?.abort();
    const key = this.#body?.logged_in ? String(this.#body.user_key) : "";
    const hasAnswered = await this.check();
    const isSame = (this.#body?.logged_in ? String(this.#body.user_key) : "") === key;
    // Offline, what this tab knows of the session counts.
    if (hasAnswered ? isSame : storage.get(KNOWN) === key) show(true);
    else location.reload();
    this.#isRestored = false;
  }
}

function show(isShown) {
  const { style } = document.documentElement;
  if (isShown) style.removeProperty("opacity");
  else style.setProperty("opacity", "0", "important");
}

/** The session of this browser. */
export const session = new Session();

/** The address of sign-in, which comes back to this page, or to another path of the app. */
export function signInUrl(next = location.pathname + location.search) {
  const url = new URL("login", MOUNT);
  url.searchParams.set("next", next);
  return url.href;
}

/** Signs the user out, here and at the provider, by a page load that ends at a path of the app. */
export function signOut(next) {
  const url = new URL("logout", MOUNT);
  if (next !== undefined) url.searchParams.set("next", next);
  const form = document.createElement("form");
  form.method = "post";
  form.action = url.href;
  document.body.append(form);
  form.submit();
}

/**
 * `fetch`, which goes to sign-in after a 401 of the app's own origin if no user is signed in any more. The response is
 * returned in any case.
 */
async function fetchAndFollow(input, init) {
  const response = await nativeFetch(input, init);
  // `basic`: of this origin, also after redirects.
  if (response.type === "basic" && new URL(response.url, location.href).origin === location.origin) {
    if (response.status === 401) await session.unauthorized();
    else if (response.ok) session.used();
  }
  return response;
}

export { fetchAndFollow as fetch };

session.watch();
