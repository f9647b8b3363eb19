// The page. Its requests carry the session's cookie, which no script can read; there is no token here to lose.

import { fetch, session, signInUrl, signOut } from "/oidc/session.js";

const element = (id) => document.getElementById(id);
const DRAFT = "draft";

// Every request of this page. After a 401, this `fetch` goes to sign-in, and comes back to this page.
async function api(method, path, body) {
  const response = await fetch(`/api${path}`, {
    method,
    headers: body && { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (response.status === 401) throw new Error("You were signed out. Sign in again to go on; what you typed is kept.");
  if (response.status === 503) throw new Error("The app is busy. Try again in a moment.");
  if (!response.ok) throw new Error(`That did not work (${response.status}).`);
  return response.status === 204 ? null : response.json();
}

function show(section) {
  for (const id of ["signed-in", "signed-out"]) element(id).hidden = id !== section;
}

function notice(text, offersToStay = false) {
  element("notice").hidden = !text;
  element("notice-text").textContent = text;
  element("stay").hidden = !offersToStay;
}

async function attempt(task) {
  try {
    await task();
    notice("");
  } catch (error) {
    notice(error.message);
  }
}

function item(todo) {
  const line = document.createElement("li");
  const text = document.createElement("span");
  text.textContent = todo.text;
  const done = document.createElement("button");
  done.textContent = "Done";
  done.className = "button plain";
  done.onclick = () =>
    attempt(async () => {
      await api("DELETE", `/todos/${todo.id}`);
      line.remove();
    });
  line.append(text, done);
  return line;
}

element("add").onsubmit = (event) => {
  event.preventDefault();
  attempt(async () => {
    const todo = await api("POST", "/todos", { text: element("text").value });
    element("todos").append(item(todo));
    element("text").value = "";
  });
};

// A request that is answered by another API, to which the app has the user's token.
element("motto").onclick = () => attempt(async () => (element("motto").textContent = await api("GET", "/motto")));
element("sign-out").onclick = () => signOut("/");
// Any request to a guarded route counts as use.
element("stay").onclick = () => attempt(() => api("GET", "/todos"));

async function signedIn() {
  const { user } = session.state;
  element("name").textContent = user.name ?? user.email ?? "Nameless";
  element("text").value = sessionStorage.getItem(DRAFT) ?? "";
  sessionStorage.removeItem(DRAFT);
  show("signed-in");
  await attempt(async () => element("todos").replaceChildren(...(await api("GET", "/todos")).map(item)));
}

// A session may end between two requests, or in another tab. What was typed is kept for when the person comes back.
session.addEventListener("signout", (event) => {
  event.preventDefault();
  sessionStorage.setItem(DRAFT, element("text").value);
  element("todos").replaceChildren();
  element("sign-in").href = signInUrl();
  show("signed-out");
  notice("You were signed out. Sign in again to go on; what you typed is kept.");
});
session.addEventListener("signin", () => signedIn());
session.addEventListener("ending", ({ detail }) => {
  notice(`You will be signed out in ${detail.seconds} seconds.`, detail.isExtendable);
});

const { loggedIn } = await session.ready;
if (loggedIn) {
  await signedIn();
} else {
  element("sign-in").href = signInUrl();
  show("signed-out");
}
