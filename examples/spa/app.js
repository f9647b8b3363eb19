// The page. Its requests carry the session's cookie, which no script can read; there is no token here to lose.

const element = (id) => document.getElementById(id);
const DRAFT = "draft";

class NoSession extends Error {}

// Every request of this page. A redirect would lead a fetch away to the provider, which does not answer scripts of
// other origins: so the app answers a fetch with 401, and going to sign-in is a page load, for a person to begin.
async function api(method, path, body) {
  const response = await fetch(`/api${path}`, {
    method,
    headers: {
      // No other site's page can send this: see `FromOwnPage`.
      "X-Requested-With": "fetch",
      ...(body && { "Content-Type": "application/json" }),
    },
    body: body && JSON.stringify(body),
  });
  if (response.status === 401) throw new NoSession();
  if (response.status === 503) throw new Error("The app is busy. Try again in a moment.");
  if (!response.ok) throw new Error(`That did not work (${response.status}).`);
  return response.status === 204 ? null : response.json();
}

function show(section) {
  for (const id of ["signed-in", "signed-out"]) element(id).hidden = id !== section;
}

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = !text;
}

// A session may end between two requests. What was typed is kept for when the person comes back.
async function attempt(task) {
  try {
    await task();
    notice("");
  } catch (error) {
    if (error instanceof NoSession) {
      sessionStorage.setItem(DRAFT, element("text").value);
      show("signed-out");
      notice("You were signed out. Sign in again to go on; what you typed is kept.");
    } else {
      notice(error.message);
    }
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

try {
  const [me, todos] = await Promise.all([api("GET", "/me"), api("GET", "/todos")]);
  element("name").textContent = me.name;
  // Signing out is a page load too: it leads by the provider.
  element("sign-out").action = me.logout_url;
  element("todos").replaceChildren(...todos.map(item));
  element("text").value = sessionStorage.getItem(DRAFT) ?? "";
  sessionStorage.removeItem(DRAFT);
  show("signed-in");
} catch (error) {
  show("signed-out");
  if (!(error instanceof NoSession)) notice(error.message);
}
