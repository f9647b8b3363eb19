// The script of the app's pages, in tabs that are made up: their clock, network, storage and events are set by the tests.
//
//     node --experimental-vm-modules --test tests/interop/scripts/

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import vm from "node:vm";

const SCRIPT = await readFile(new URL("../../../src/relying_party/script.js", import.meta.url), "utf8");
const ORIGIN = "https://app.example";
const NOW = 1_700_000_000;

/** Lets all promises run that can. */
const settle = async () => {
  for (let i = 0; i < 50; i++) await Promise.resolve();
};

const signedOut = () => ({ logged_in: false, login_url: "/oidc/login" });
const signedIn = (key = "alice", more = {}) => ({
  logged_in: true,
  user: { name: key },
  user_key: key,
  ends_at: NOW + 43_200,
  idle_ends_at: NOW + 3_600,
  ...more,
});

/** One browser, its app, and the time of both. */
class Browser {
  now = NOW * 1000;
  /** How far the browser's clock is ahead of the app's, in milliseconds. */
  skew = 0;
  isOnline = true;
  me = signedOut();
  /** The responses to other requests, by address. */
  others = {};
  requests = [];
  messages = [];
  tabs = [];
  timers = [];

  async open({ url = `${ORIGIN}/notes?page=2`, storage, mount = "/oidc", script = `${ORIGIN}${mount}/session-x.js` } = {}) {
    const tab = new Tab(this, url, storage);
    this.tabs.push(tab);
    const context = vm.createContext(tab.globals());
    tab.context = context;
    const module = new vm.SourceTextModule(SCRIPT, {
      context,
      initializeImportMeta: (meta) => (meta.url = script),
    });
    await module.link(() => assert.fail("it imports nothing"));
    await module.evaluate();
    Object.assign(tab, { session: module.namespace.session, exports: module.namespace });
    for (const name of ["change", "signin", "signout", "ending", "unauthorized"]) {
      tab.session.addEventListener(name, (event) => tab.events.push(event.detail ? [name, event.detail.seconds] : name));
    }
    await settle();
    return tab;
  }

  async pass(seconds) {
    const until = this.now + seconds * 1000;
    for (;;) {
      this.timers.sort((a, b) => a.at - b.at);
      if (!(this.timers[0]?.at <= until)) break;
      const timer = this.timers.shift();
      this.now = Math.max(this.now, timer.at);
      timer.run();
      await settle();
    }
    this.now = until;
    await settle();
  }

  async fetch(address, init = {}) {
    const url = new URL(address, ORIGIN).href;
    this.requests.push({ url, init });
    if (!this.isOnline) throw new TypeError("Failed to fetch");
    if (!url.endsWith("/me")) return this.others[url] ?? assert.fail(`no response for ${url}`);
    const body = JSON.stringify(this.me);
    const etag = `"${body.length}-${body}"`;
    const headers = new Headers({ Date: new Date(this.now).toUTCString(), ETag: encodeURIComponent(etag) });
    if (this.me.status) return new Response("", { status: this.me.status, headers });
    if (new Headers(init.headers).get("If-None-Match") === encodeURIComponent(etag)) {
      return new Response(null, { status: 304, headers });
    }
    return new Response(this.me.html ?? body, { headers });
  }

  count() {
    return this.requests.filter(({ url }) => url.endsWith("/me")).length;
  }
}

class Tab {
  events = [];
  assigned = [];
  reloads = 0;
  style = {};
  visibilityState = "visible";

  constructor(browser, url, storage = {}) {
    Object.assign(this, { browser, storage, window: new EventTarget(), document: new EventTarget() });
    const { href, origin, pathname, search } = new URL(url);
    this.location = {
      href,
      origin,
      pathname,
      search,
      assign: (to) => this.assigned.push(to),
      reload: () => this.reloads++,
    };
  }

  globals() {
    const { browser } = this;
    const tab = this;
    const document = Object.assign(this.document, {
      documentElement: {
        style: {
          setProperty: (name, value) => (tab.style[name] = value),
          removeProperty: (name) => delete tab.style[name],
        },
      },
    });
    Object.defineProperty(document, "visibilityState", { get: () => tab.visibilityState });
    class Channel {
      constructor(name) {
        this.name = name;
        tab.channel = this;
      }
      postMessage(data) {
        browser.messages.push([this.name, data]);
        for (const other of browser.tabs) {
          if (other !== tab && other.channel?.name === this.name) other.channel.onmessage({ data });
        }
      }
    }
    const now = () => browser.now + browser.skew;
    return {
      location: this.location,
      document,
      addEventListener: (...args) => this.window.addEventListener(...args),
      get sessionStorage() {
        if (tab.storage === null) throw new Error("SecurityError");
        return {
          getItem: (name) => tab.storage[name] ?? null,
          setItem: (name, value) => (tab.storage[name] = value),
          removeItem: (name) => delete tab.storage[name],
        };
      },
      fetch: (...args) => browser.fetch(...args),
      setTimeout: (run, wait) => {
        const timer = { run, at: browser.now + wait };
        browser.timers.push(timer);
        return timer;
      },
      clearTimeout: (timer) => (browser.timers = browser.timers.filter((other) => other !== timer)),
      BroadcastChannel: Channel,
      Date: Object.assign(function () {}, { now, parse: Date.parse }),
      AbortController,
      EventTarget,
      Event,
      CustomEvent,
      URL,
    };
  }

  async fire(target, name, fields = {}) {
    target.dispatchEvent(Object.assign(new Event(name), fields));
    await settle();
  }
}

test("the state of the first answer, by the clock of the app", async () => {
  const browser = new Browser();
  browser.skew = -86_400_000;
  browser.me = signedIn();
  const { session, events } = await browser.open();
  const { user, loggedIn, isExtendable } = await session.ready;
  assert.deepEqual({ ...user }, { name: "alice" });
  assert.deepEqual([loggedIn, isExtendable, session.secondsLeft, events], [true, true, 3600, ["change"]]);
  const [{ url, init }] = browser.requests;
  assert.equal(url, `${ORIGIN}/oidc/me`);
  assert.deepEqual([init.cache, init.credentials, init.redirect], ["no-store", "same-origin", "error"]);
});

test("it does not run at another origin", async () => {
  const browser = new Browser();
  await assert.rejects(browser.open({ script: "https://cdn.example/oidc/session-x.js" }), /the origin of its app/);
  assert.equal(browser.count(), 0);
});

test("an answer that has not changed is 304, and no event", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const { session, events } = await browser.open();
  await session.check();
  assert.ok(new Headers(browser.requests[1].init.headers).get("If-None-Match"));
  assert.deepEqual([session.state.loggedIn, events], [true, ["change"]]);
});

test("other tabs follow a sign-out and a sign-in, and no message has data", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const first = await browser.open();
  const second = await browser.open();
  browser.messages.length = 0;
  // A page load of the second tab, after the sign-out.
  browser.me = signedOut();
  const after = await browser.open({ storage: second.storage });
  assert.deepEqual(first.events.slice(1), ["change", "signout"]);
  assert.equal(first.reloads, 1);
  assert.equal(after.reloads, 0);
  browser.me = signedIn("bob");
  await browser.open({ storage: after.storage });
  assert.deepEqual(first.events.slice(3), ["change", "signin"]);
  assert.equal(first.reloads, 1);
  assert.deepEqual(new Set(browser.messages.map(String)), new Set(["oidc /oidc/,"]));
  assert.ok(browser.messages.every(([, data]) => data === null));
});

test("another page of the same session tells no other tab", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const first = await browser.open();
  await browser.open({ storage: first.storage });
  assert.equal(browser.messages.length, 1);
  const count = browser.count();
  await settle();
  assert.equal(browser.count(), count);
});

test("another user is a sign-out and a sign-in", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  browser.me = signedIn("bob");
  await tab.session.check();
  assert.deepEqual(tab.events.slice(1), ["change", "signout", "signin"]);
  assert.equal(tab.reloads, 1);
});

test("a page may stay as it is at a sign-out", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  tab.session.addEventListener("signout", (event) => event.preventDefault());
  browser.me = signedOut();
  await tab.session.check();
  assert.deepEqual([tab.events.at(-1), tab.reloads], ["signout", 0]);
});

test("a warning comes before the end, and the end is the app's word", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  await browser.pass(3479);
  assert.deepEqual([tab.events, browser.count()], [["change"], 1]);
  await browser.pass(1);
  assert.deepEqual(tab.events, ["change", ["ending", 120]]);
  await browser.pass(119);
  assert.deepEqual([tab.events.length, tab.session.secondsLeft], [2, 1]);
  browser.me = signedOut();
  await browser.pass(3);
  assert.deepEqual(tab.events.slice(2), ["change", "signout"]);
  assert.equal(tab.session.secondsLeft, null);
});

test("a session that another tab has used is not warned of, and one that is used again is warned of again", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  await browser.pass(3000);
  browser.me = signedIn("alice", { idle_ends_at: NOW + 6600 });
  await browser.pass(481);
  assert.deepEqual([tab.events, tab.session.secondsLeft], [["change", "change"], 3119]);
  await browser.pass(3000);
  assert.deepEqual(tab.events.at(-1), ["ending", 120]);
  browser.others[`${ORIGIN}/api/stay`] = basic(200, "/api/stay");
  browser.me = signedIn("alice", { idle_ends_at: NOW + 10_080 });
  await tab.exports.fetch("/api/stay");
  await settle();
  assert.equal(tab.session.secondsLeft, 3599);
  await browser.pass(3480);
  assert.deepEqual(tab.events.at(-1), ["ending", 120]);
});

test("the time of the warning may be set at any time", async () => {
  const browser = new Browser();
  browser.me = signedIn("alice", { idle_ends_at: NOW + 60 });
  const tab = await browser.open();
  assert.deepEqual([tab.events, tab.session.warnBefore], [["change", ["ending", 60]], 120]);
  tab.session.warnBefore = 20;
  await settle();
  await browser.pass(39);
  assert.equal(tab.events.length, 2);
  await browser.pass(1);
  assert.deepEqual(tab.events.at(-1), ["ending", 20]);
  tab.session.warnBefore = 30;
  await settle();
  await browser.pass(5);
  assert.equal(tab.events.length, 3);
});

test("after sleep the app is asked at once", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  tab.visibilityState = "hidden";
  await tab.fire(tab.document, "visibilitychange");
  assert.equal(browser.count(), 1);
  // Timers stand still.
  browser.now += 8 * 3600_000;
  browser.me = signedOut();
  tab.visibilityState = "visible";
  await tab.fire(tab.document, "visibilitychange");
  assert.deepEqual([browser.count(), tab.events.at(-1)], [2, "signout"]);
  await tab.fire(tab.document, "resume");
  assert.equal(browser.count(), 3);
});

test("offline nothing is known anew, and the app is asked when the network is back", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  browser.isOnline = false;
  assert.equal(await tab.session.check(), false);
  assert.deepEqual([tab.session.state.loggedIn, tab.events, tab.reloads], [true, ["change"], 0]);
  browser.isOnline = true;
  browser.me = signedOut();
  await tab.fire(tab.window, "online");
  assert.equal(tab.events.at(-1), "signout");
});

test("an app that is down is asked again, ever less often", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  for (const other of [{ status: 503 }, { status: 403 }, { html: "<title>Hotel</title>" }, { html: "{}" }]) {
    browser.me = other;
    assert.equal(await tab.session.check(), false, JSON.stringify(other));
    assert.equal(tab.session.state.loggedIn, true);
  }
  const count = browser.count();
  await browser.pass(3600);
  assert.ok(browser.count() - count < 20, `${browser.count() - count} requests`);
  browser.me = signedIn("alice", { idle_ends_at: NOW + 20_000 });
  await browser.pass(300);
  assert.ok(tab.session.secondsLeft > 10_000);
});

/** A response as a browser has it for a request of its own origin. */
function basic(status, path, origin = ORIGIN, type = "basic") {
  return { status, ok: status === 200, type, url: `${origin}${path}` };
}

test("a 401 of the app leads to sign-in once, with an address that the page has made", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  browser.me = signedOut();
  browser.others[`${ORIGIN}/api/todos`] = basic(401, "/api/todos");
  const responses = await Promise.all([1, 2, 3].map(() => tab.exports.fetch("/api/todos")));
  assert.deepEqual(responses.map(({ status }) => status), [401, 401, 401]);
  assert.deepEqual(tab.assigned, [`${ORIGIN}/oidc/login?next=%2Fnotes%3Fpage%3D2`]);
  assert.equal(tab.reloads, 0);
  // The user comes back without having signed in, or the browser keeps no cookies.
  const back = await browser.open({ storage: tab.storage });
  await back.exports.fetch("/api/todos");
  assert.deepEqual(back.assigned, []);
  // After a sign-in it does so again.
  browser.me = signedIn();
  const later = await browser.open({ storage: tab.storage });
  browser.me = signedOut();
  await later.exports.fetch("/api/todos");
  assert.equal(later.assigned.length, 1);
});

test("no other response leads to sign-in", async () => {
  const browser = new Browser();
  const tab = await browser.open();
  const url = `${ORIGIN}/api/todos`;
  for (const response of [
    basic(403, "/api/todos"),
    basic(503, "/api/todos"),
    // Of another origin, or of one that the request was redirected to.
    basic(401, "/api/todos", "https://api.example", "cors"),
    basic(401, "/api/todos", "https://api.example", "basic"),
    basic(401, "/api/todos", ORIGIN, "cors"),
    basic(0, "/api/todos", ORIGIN, "opaqueredirect"),
  ]) {
    browser.others[url] = response;
    await tab.exports.fetch("/api/todos");
    assert.deepEqual(tab.assigned, [], JSON.stringify(response));
  }
  browser.others[url] = basic(401, "/api/todos");
  // Such as that of a route that demands a second factor.
  browser.me = signedIn();
  await tab.exports.fetch("/api/todos");
  assert.deepEqual(tab.assigned, []);
  browser.me = { status: 503 };
  await tab.exports.fetch("/api/todos");
  assert.deepEqual(tab.assigned, []);
  browser.me = signedOut();
  tab.session.addEventListener("unauthorized", (event) => event.preventDefault(), { once: true });
  await tab.exports.fetch("/api/todos");
  assert.deepEqual(tab.assigned, []);
  await tab.exports.fetch("/api/todos");
  assert.equal(tab.assigned.length, 1);
});

test("a browser that keeps nothing is not sent around in circles", async () => {
  const browser = new Browser();
  const tab = await browser.open({ storage: null });
  browser.others[`${ORIGIN}/api/todos`] = basic(401, "/api/todos");
  await tab.exports.fetch("/api/todos");
  assert.deepEqual(tab.assigned, []);
});

test("the address of sign-in is below the path of the script", async () => {
  const browser = new Browser();
  for (const [mount, expected] of [
    ["/team/oidc", "/team/oidc/login?next="],
    ["", "/login?next="],
  ]) {
    const url = `${ORIGIN}/a%20b?next=https%3A%2F%2Fevil.example%2F&x=1#//evil.example`;
    const { exports } = await browser.open({ mount, url });
    const page = encodeURIComponent("/a%20b?next=https%3A%2F%2Fevil.example%2F&x=1");
    assert.equal(exports.signInUrl(), `${ORIGIN}${expected}${page}`);
    assert.equal(exports.signInUrl("/x"), `${ORIGIN}${expected}%2Fx`);
  }
});

test("a page comes back from memory only for the user that it was of", async () => {
  for (const [me, isOnline, known, isShown] of [
    [signedIn(), true, "alice", true],
    [signedOut(), true, "alice", false],
    [signedIn("bob"), true, "alice", false],
    [signedIn(), false, "alice", true],
    // Another page of this tab knows of the sign-out.
    [signedIn(), false, "", false],
  ]) {
    const browser = new Browser();
    browser.me = signedIn();
    const tab = await browser.open();
    // A page that does nothing at a sign-out comes back no more than others.
    tab.session.addEventListener("signout", (event) => event.preventDefault());
    await tab.fire(tab.window, "pagehide", { persisted: true });
    assert.deepEqual(tab.style, { opacity: "0" });
    Object.assign(browser, { me, isOnline });
    tab.storage["oidc /oidc/ known"] = known;
    await tab.fire(tab.window, "pageshow", { persisted: true });
    assert.deepEqual([tab.reloads > 0, tab.style.opacity], isShown ? [false, undefined] : [true, "0"]);
  }
});

test("a page that is left for good, or had no user, is not hidden", async () => {
  const browser = new Browser();
  browser.me = signedIn();
  const tab = await browser.open();
  await tab.fire(tab.window, "pagehide", { persisted: false });
  assert.deepEqual(tab.style, {});
  browser.me = signedOut();
  const stranger = await browser.open();
  await stranger.fire(stranger.window, "pagehide", { persisted: true });
  assert.deepEqual(stranger.style, {});
});

test("a session without an end is asked about when the page is looked at", async () => {
  const browser = new Browser();
  browser.me = signedIn("tess", { ends_at: undefined, idle_ends_at: undefined });
  const tab = await browser.open();
  await browser.pass(86_400);
  assert.deepEqual([browser.count(), tab.session.secondsLeft, tab.events], [1, null, ["change"]]);
});
