// The demo's page: opens WebSockets through the gateway and shows what becomes of each.
//
// Whatever comes from a socket is shown with textContent only, never as markup.
"use strict";

// Browsers hold at most 255 WebSockets to one host, and each takes three sockets of the demo's process.
const MAX_CLIENTS = 200;
const MAX_LINES = 50;
const STORE = "longhaul-demo-clients";
const BACKOFF = { first: 250, longest: 8000 }; // milliseconds
const HANDSHAKES_AT_ONCE = 8;

const CODES = {
  1000: "normal end",
  1001: "going away: the gateway ends it (idle, too old, or leaving)",
  1005: "closed without a code",
  1006: "cut off without a Close frame, or the handshake was refused",
  1009: "message too big",
  1012: "service restarts",
  1014: "the backend was lost behind the gateway",
};

const byId = (id) => document.getElementById(id);
const clients = new Map();
let speaker = null;

/** One WebSocket under one id, opened again whenever it is lost. */
class Client {
  constructor(id) {
    this.id = id;
    this.state = "connecting";
    this.backend = null;
    this.home = null; // the backend seen before this one, when it changed
    this.count = null;
    this.code = null;
    this.tries = 0;
    this.restarts = 0; // restarts of backends that its open socket has outlived
    this.lines = [];
    this.card = clientCard(this);
    queue.add(this);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws?client=${encodeURIComponent(this.id)}`);
    this.socket = socket;
    this.restarts = 0;
    this.set("connecting");
    // Events of a socket that was replaced or closed by us change nothing.
    const mine = (handle) => (event) => this.socket === socket && handle(event);
    socket.onmessage = mine((event) => this.hear(event.data));
    socket.onclose = mine((event) => this.lost(event.code));
    return new Promise((settled) => {
      socket.addEventListener("open", settled);
      socket.addEventListener("close", settled);
    });
  }

  hear(data) {
    let told;
    try { told = JSON.parse(data); } catch { return; }
    if (told?.type === "hello") {
      if (this.backend && this.backend !== told.backend) this.home = this.backend;
      if (this.state === "open") this.restarts++;
      this.backend = String(told.backend);
      this.count = Number(told.count);
      this.lines = told.history.slice(-MAX_LINES);
      this.tries = 0;
      this.set("open");
      if (this === speaker) showChat();
    } else if (told?.type === "count") {
      this.count = Number(told.count);
      this.show();
    } else if (told?.type === "chat") {
      this.lines.push(told);
      if (this.lines.length > MAX_LINES) this.lines.shift();
      if (this === speaker) showChat();
    } else if (told?.type === "refused" && this === speaker) {
      notice(`Backend ${this.backend} refused: ${told.reason}`);
    }
  }

  /** Waits longer after each failure, and a random part of that, so that clients lost together return apart. */
  lost(code) {
    this.code = code;
    const ceiling = Math.min(BACKOFF.longest, BACKOFF.first * 2 ** this.tries++);
    const wait = ceiling * (0.5 + Math.random() / 2);
    this.wait = wait;
    this.set("reconnecting");
    this.timer = setTimeout(() => queue.add(this), wait);
  }

  send(message) {
    if (this.state === "open") this.socket.send(JSON.stringify(message));
  }

  /** Ends the socket without opening another. */
  end() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.timer);
    queue.remove(this);
    if (socket) socket.close(1000);
  }

  reconnect() {
    this.end();
    this.code = 1000;
    this.tries = 0;
    this.set("connecting");
    queue.add(this);
  }

  set(state) {
    this.state = state;
    this.show();
    summarise();
  }

  show() {
    const { root, badge, state, count, code } = this.card;
    root.dataset.state = this.state;
    root.dataset.backend = this.backend ?? "";
    badge.textContent = this.backend ?? "–";
    badge.title = this.backend ? `backend ${this.backend}` : "no backend yet";
    state.textContent = this.state === "open" ? `open on ${this.backend}`
      : this.state === "reconnecting" ? `reconnecting in ${(this.wait / 1000).toFixed(1)} s, try ${this.tries}` : "connecting";
    count.textContent = this.count ?? "–";
    count.parentElement.disabled = this.state !== "open";
    count.parentElement.setAttribute("aria-label", `Count on client ${this.id}, now at ${this.count ?? "unknown"}`);
    const last = this.code === null ? "" : `last close ${this.code}`;
    const outlived = this.restarts > 0 && `same socket over ${this.restarts} restart${this.restarts > 1 ? "s" : ""}`;
    root.dataset.restarts = this.restarts;
    code.textContent = [last, this.home && `was on ${this.home} before`, outlived].filter(Boolean).join(" · ");
    code.title = CODES[this.code] ?? "";
  }
}

/** Lets a few handshakes run at once, so that opening many does not look like an attack on the browser itself. */
const queue = {
  waiting: new Set(),
  running: 0,
  add(client) { this.waiting.add(client); this.next(); },
  remove(client) { this.waiting.delete(client); },
  next() {
    while (this.running < HANDSHAKES_AT_ONCE && this.waiting.size > 0) {
      const [client] = this.waiting;
      this.waiting.delete(client);
      this.running++;
      client.connect().finally(() => { this.running--; this.next(); });
    }
  },
};

function clientCard(client) {
  const root = byId("client-card").content.cloneNode(true).firstElementChild;
  const find = (name) => root.querySelector(name);
  find(".id").textContent = client.id;
  find(".count").addEventListener("click", () => client.send({ type: "count" }));
  root.dataset.client = client.id;
  byId("clients").append(root);
  return { root, badge: find(".badge"), state: find(".state"), count: find("output"), code: find(".code") };
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function open(ids) {
  for (const id of ids.slice(0, MAX_CLIENTS - clients.size)) {
    if (!clients.has(id)) clients.set(id, new Client(id));
  }
  listChanged();
}

function closeAll() {
  for (const client of clients.values()) {
    client.end();
    client.card.root.remove();
  }
  clients.clear();
  listChanged();
}

function listChanged() {
  remember([...clients.keys()]);
  const select = byId("speaker");
  if (!clients.has(speaker?.id)) speaker = clients.values().next().value ?? null;
  select.replaceChildren(...[...clients.keys()].map((id) => new Option(id, id, false, id === speaker?.id)));
  select.disabled = clients.size === 0;
  byId("none").hidden = clients.size > 0;
  byId("open-more").disabled = clients.size >= MAX_CLIENTS;
  for (const id of ["count-all", "reconnect-all", "close-all"]) byId(id).disabled = clients.size === 0;
  summarise();
  showChat();
}

function remember(ids) {
  try { sessionStorage.setItem(STORE, JSON.stringify(ids)); } catch { /* without storage a reload gives new ids */ }
}

function remembered() {
  try {
    const ids = JSON.parse(sessionStorage.getItem(STORE));
    return Array.isArray(ids) ? ids.filter((id) => /^[\w-]{1,64}$/.test(id)) : null;
  } catch { return null; }
}

let summaryDue = null;

/** Says how many are open; gathered a little, so that a screen reader hears one sentence and not twenty. */
function summarise() {
  summaryDue ??= setTimeout(() => {
    summaryDue = null;
    const open = [...clients.values()].filter((client) => client.state === "open").length;
    const rest = clients.size - open;
    byId("summary").textContent = `${open} of ${clients.size} open` + (rest ? `, ${rest} on the way` : "");
    byId("text").disabled = byId("say").querySelector("button").disabled = speaker?.state !== "open";
  }, 60);
}

function showChat() {
  const log = byId("chat");
  const lines = (speaker?.lines ?? []).map(({ from, text }) => {
    const line = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = from;
    line.append(name, document.createTextNode(text));
    return line;
  });
  if (lines.length === 0) {
    const line = document.createElement("li");
    line.className = "aside";
    line.textContent = speaker?.backend ? `Nobody has spoken on backend ${speaker.backend} yet.` : "No client is open.";
    lines.push(line);
  }
  log.dataset.backend = speaker?.backend ?? "";
  log.replaceChildren(...lines);
  log.scrollTop = log.scrollHeight;
}

function notice(text) {
  const line = byId("notice");
  line.textContent = text;
  line.hidden = !text;
}

const cards = new Map();

function showState(state) {
  for (const backend of state.backends) {
    if (!cards.has(backend.name)) cards.set(backend.name, backendCard(backend.name));
    const card = cards.get(backend.name);
    card.root.classList.toggle("down", !backend.up);
    card.find(".address").textContent = backend.address;
    card.find(".up").textContent = backend.up ? "up" : "down";
    card.find(".meter i").style.width = `${state.clients ? (100 * backend.open) / state.clients : 0}%`;
    card.find(".figures").textContent = backend.up
      ? `${backend.open} open · ${backend.messages} messages` : "has forgotten everything";
    card.action = backend.up ? "stop" : "start";
    const button = card.find(".turn");
    button.textContent = backend.up ? "Stop" : "Start";
    button.setAttribute("aria-label", `${button.textContent} backend ${backend.name}`);
    card.find(".restart").hidden = !backend.up;
    showMember(card, backend, state.members);
  }
}

/** Says whether the gateway has a backend as a member, where the page decides about that. */
function showMember(card, backend, members) {
  const button = card.find(".member");
  button.hidden = byId("discovered").hidden = !members;
  if (!members) return;
  const listed = members.includes(backend.name);
  card.root.classList.toggle("absent", !listed);
  card.memberAction = listed ? "remove" : "add";
  button.textContent = listed ? "Remove" : "Add";
  button.setAttribute("aria-label", `${button.textContent} backend ${backend.name} ${listed ? "from" : "to"} the members`);
  if (!listed) card.find(".up").textContent += ", no member";
}

function backendCard(name) {
  const root = byId("backend-card").content.cloneNode(true).firstElementChild;
  const find = (selector) => root.querySelector(selector);
  const card = { root, find, action: "stop" };
  root.dataset.backend = name;
  find(".badge").textContent = name;
  find(".name").textContent = `Backend ${name}`;
  find(".turn").addEventListener("click", () => push(name, card, card.action));
  find(".restart").addEventListener("click", () => push(name, card, "restart"));
  find(".restart").setAttribute("aria-label", `Restart backend ${name}`);
  find(".member").addEventListener("click", () => push(name, card, card.memberAction));
  byId("backends").append(root);
  return card;
}

async function push(name, card, action) {
  const buttons = card.root.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  notice("");
  try {
    const path = `/demo/backends/${encodeURIComponent(name)}/${action}`;
    const answer = await fetch(path, { method: "POST", headers: { "x-longhaul-demo": "1" } });
    if (!answer.ok) throw new Error(await answer.text());
    showState(await answer.json());
  } catch (error) {
    notice(`Backend ${name}: ${error.message}`);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

/** Follows the state; the browser opens the stream again by itself unless an answer refused it. */
function follow() {
  const events = new EventSource("/demo/events");
  events.onopen = () => notice("");
  events.onmessage = (event) => {
    showState(JSON.parse(event.data));
  };
  events.onerror = () => {
    notice("The gateway does not answer; trying again.");
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
}

byId("gateway").textContent = location.host;
byId("open-more").addEventListener("click", () => open(Array.from({ length: 20 }, newId)));
byId("count-all").addEventListener("click", () => clients.forEach((client) => client.send({ type: "count" })));
byId("reconnect-all").addEventListener("click", () => clients.forEach((client) => client.reconnect()));
byId("close-all").addEventListener("click", closeAll);
byId("speaker").addEventListener("change", (event) => {
  speaker = clients.get(event.target.value) ?? null;
  showChat();
  summarise();
});
byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || speaker?.state !== "open") return;
  speaker.send({ type: "chat", text });
  byId("text").value = "";
});
for (const [code, meaning] of Object.entries(CODES)) {
  const row = byId("codes").insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = code;
  row.append(head);
  row.insertCell().textContent = meaning;
}
open(remembered() ?? [newId()]);
follow();
