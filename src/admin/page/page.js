// The dashboard: follows the gateway live, shows it, and asks it for changes.
//
// Whatever the gateway says is shown as text, never as markup.

import { Actions } from "./actions.js";
import { Feed } from "./feed.js";
import { Rates } from "./rates.js";
import { show } from "./widgets.js";
import { byId, hide, say } from "./words.js";

const THEMES = ["system", "light", "dark"];
const THEME = "longhaul-theme";

const page = { update: null, history: null, rates: new Rates() };

const feed = new Feed({
  update(update) {
    page.update = update;
    page.rates.take(update);
    open(true);
    draw();
  },
  history(history) {
    page.history = history;
  },
  end() {},
  state(text, kind) {
    const box = byId("connection");
    box.dataset.state = kind;
    say(box, text);
  },
  unauthorized(wasSent) {
    say(byId("connection"), "no token");
    byId("connection").dataset.state = "lost";
    feed.use("");
    open(false);
    hide(byId("forget"), true);
    say(byId("login-problem"), wasSent ? "This is not one of the gateway's tokens." : "");
    byId("token").focus();
  },
});
const actions = new Actions(feed);

/** Shows the gateway, or asks for a token in its place. */
function open(isOpen) {
  hide(byId("login"), isOpen);
  for (const id of ["main", "pause", "close-tunnels", "reload"]) hide(byId(id), !isOpen);
}

function draw() {
  const { update } = page;
  show(page, actions);
  hide(byId("forget"), feed.token === "");
  document.title = `${update.status.tunnels} tunnels · Longhaul`;
  // Tests wait for updates by it.
  document.documentElement.dataset.updates = String(Number(document.documentElement.dataset.updates ?? 0) + 1);
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  say(byId("login-problem"), "");
  feed.use(token);
  feed.wanted = true;
});

byId("forget").onclick = () => {
  feed.use("");
  location.reload();
};

byId("pause").onclick = () => {
  const isPaused = byId("pause").getAttribute("aria-pressed") !== "true";
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  say(byId("pause"), isPaused ? "Go on" : "Pause");
  feed.wanted = !isPaused;
};

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  say(byId("theme"), `Theme: ${theme}`);
}

byId("theme").onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  localStorage.setItem(THEME, next);
  setTheme(next);
};

const stored = localStorage.getItem(THEME);
setTheme(THEMES.includes(stored) ? stored : "system");
feed.wanted = true;
