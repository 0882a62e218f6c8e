// Drives the dashboard of a real gateway in Chromium: each widget against real tunnels, and every change that it makes.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { contrast, nameless, tooWide } from "./eyes.mjs";
import { Backend, Client, Gateway, PATIENCE, TOKEN, until } from "./lab.mjs";

const { chromium } = createRequire(new URL("../demo/package.json", import.meta.url))("playwright-core");
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const SHARDS = ["shard-0", "shard-1", "shard-2"];
const HEALTH = "health: { check: tcp, interval: 1s, timeout: 1s, rise: 1, fall: 1 }";

let gateway, browser, page;
const [backends, clients, troubles] = [[], [], []];

/** The configuration of a gateway with something for every widget. */
function yaml() {
  const shards = SHARDS.map((name, place) => `{ name: ${name}, address: "${backends[place].address}" }`).join(", ");
  return `version: 1
threads: 2
listeners:
  - address: 127.0.0.1:0
  - { address: 127.0.0.1:0, tls: { certificates: [{ cert: "{dir}/cert.pem", key: "{dir}/key.pem" }] } }
admin: { address: 127.0.0.1:0, token_file: "{dir}/token" }
control_sock: "{dir}/control.sock"
upgrade_sock: "{dir}/upgrade.sock"
access_log: off
routes:
  - { path: /, upstream: chat }
  - { path: /slow, upstream: slow }
upstreams:
  chat:
    affinity: [query: key]
    backends: [${shards}]
    ${HEALTH}
  slow:
    backends: ["${backends[3].address}"]
    health: off
    admission: { handshakes: 1/m, burst: 1, wait: 1h }
  found:
    discover: { file: "{dir}/members.yaml", settle: 0s }
    health: off
`;
}

before(async () => {
  for (let number = 0; number < 4; number++) backends.push(await new Backend().start());
  gateway = new Gateway(process.env.LONGHAUL, yaml());
  writeFileSync(join(gateway.dir, "members.yaml"), `- { name: found-0, address: "${backends[3].address}" }\n`);
  await gateway.start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: FLAGS,
    chromiumSandbox: false,
  });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  page = await context.newPage();
  page.on("pageerror", (error) => troubles.push(String(error)));
  // A refused token and a broken stream are written there by the browser itself.
  page.on("console", (message) => {
    if (/Content Security|TrustedHTML|Refused to/i.test(message.text())) troubles.push(message.text());
  });
  page.on("request", (request) => {
    if (request.url().includes(TOKEN)) troubles.push(`the token is in ${request.url()}`);
  });
  await page.goto(`http://${gateway.admin}/`);
});

after(async () => {
  await browser?.close();
  for (const client of clients) client.drop();
  await gateway?.stop();
  for (const backend of backends) await backend.stop();
});

const open = async (number, path) => {
  const some = Array.from({ length: number }, (_, index) => Client.open(gateway.address, path(index)));
  clients.push(...some);
  return Promise.all(some.map((client) => client.opened));
};
const shows = (selector, pattern) =>
  page.waitForFunction(
    ([selector, source]) =>
      [...document.querySelectorAll(selector)].some((one) => new RegExp(source).test(one.textContent)),
    [selector, pattern.source ?? pattern],
  );
const row = (backend) => `tr.backend[data-backend="${backend}"]`;
const tile = (name) => page.locator(".tile", { hasText: name }).locator("b").textContent();
const nextUpdate = async () => {
  const seen = await page.evaluate(() => Number(document.documentElement.dataset.updates ?? 0));
  await page.waitForFunction((seen) => Number(document.documentElement.dataset.updates ?? 0) > seen, seen);
};
const numberOf = (selector) => page.locator(selector).first().textContent().then(Number);
const tunnelsOf = (backend) => numberOf(`${row(backend)} .meter b`);

test("a wrong token is refused, and the right one opens the page", async () => {
  await page.waitForSelector("#login:not([hidden])");
  assert.equal(await page.locator("#main").isVisible(), false);
  await page.fill("#token", `${TOKEN.slice(0, -1)}X`);
  await page.keyboard.press("Enter");
  await shows("#login-problem", /not one of the gateway's tokens/);
  assert.equal(await page.inputValue("#token"), "", "a token does not stay in the field");
  await page.fill("#token", TOKEN);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#main:not([hidden])");
  await shows("#connection", /^live$/);
  assert.equal(await page.locator("#login").isVisible(), false);
  await page.reload();
  await shows("#connection", /^live$/);
  assert.ok(!page.url().includes(TOKEN));
});

test("with little to tell it says that all is well, but for a certificate of three days", async () => {
  await shows("#problems li", /The certificate of chat\.test expires in 2 d/);
  await shows("#certificates li", /chat\.test.*in 2 d.*until 20/);
  await shows("#discovery li", /found.*1 member by file/);
  await shows("#keys + .none", /No open tunnel has a key/);
});

test("tunnels are shown by backend and generation, with their ages, keys and handshakes", async () => {
  await open(30, (index) => `/?key=user-${index}`);
  await page.waitForFunction(() => document.querySelector(".tile b").textContent === "30");
  const { upstreams } = await gateway.ask("/api/v1/status");
  for (const { name, tunnels } of upstreams.find((one) => one.name === "chat").backends) {
    await page.waitForFunction(
      ([selector, text]) => document.querySelector(selector).textContent === text,
      [`${row(name)} .meter b`, String(tunnels)],
    );
  }
  await shows("#generations", /all of generation 1/);
  await shows("#ages li", /under 1 min.*30/);
  await shows("#latency-legend", /p50 .*p90 .*p99 .*30 handshakes/);
  assert.match(await tile("Handshake p50"), /µs|ms|s/);
  await shows("#keys tbody tr", /query.*chat\/shard-\d/);
  assert.equal(await page.locator("#keys tbody tr").count(), 10, "the first ten");
});

test("opens and closes a second, with reasons and close codes", async () => {
  await page.waitForFunction(() => document.querySelector("#flow .line.opens"));
  clients.splice(0, 3).forEach((client) => client.close(1000));
  clients.splice(0, 2).forEach((client) => client.drop());
  clients.splice(0, 1).forEach((client) => client.close(4321));
  await page.waitForFunction(() => document.querySelector(".tile b").textContent === "24");
  await shows("#reasons li", /^client_close ?4 \/ 4$/);
  await shows("#reasons li", /^client_gone ?2 \/ 2$/);
  await shows("#codes li", /^1000client ?3$/);
  await shows("#codes li", /^1006client ?2$/);
  await shows("#codes li", /^4xxxclient ?1$/);
  assert.match(await page.getAttribute("#flow svg", "aria-label"), /Opens and closes a second.*opens .*closes /);
});

test("whoever sends most stands first, and can be closed from there", async () => {
  const [talker] = clients;
  const talking = setInterval(() => talker.say("x".repeat(120)), 5);
  try {
    await shows("#talkers tbody tr:first-child", /127\.0\.0\.1.*chat\/shard-\d.*key [0-9a-f]{8}.*B\/s/);
    const id = await page.locator("#talkers tbody tr .mono").first().textContent();
    await page.locator("#talkers tbody tr button").first().click();
    assert.equal(await page.inputValue("[data-filter=ids]"), id);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#close-dialog").isVisible(), false);
    await page.waitForFunction(() => /\d/.test(document.querySelectorAll(".tile b")[1].textContent));
  } finally {
    clearInterval(talking);
  }
});

test("a backend that dies is told with the reason, and when it is back", async () => {
  const { port } = backends[2];
  await backends[2].stop();
  await page.waitForSelector(`${row("shard-2")}[data-state=bad]`);
  await shows(`${row("shard-2")} .state`, /down.*ago: .*refused/);
  await shows("#problems li", /chat\/shard-2 is down, .* ago: check failed: /);
  assert.equal(await page.getAttribute("#verdict", "data-level"), "bad");
  await shows("#health li", /down ?chat\/shard-2 .*refused/);
  await backends[2].start(port);
  await page.waitForSelector(`${row("shard-2")}[data-state=good]`);
  await shows("#health li", /up ?chat\/shard-2 checks pass/);
});

test("a backend is drained from the keyboard, and the drain is undone", async () => {
  await page.focus(`${row("shard-1")} button`);
  await page.keyboard.press("Enter");
  await shows("#drain-title", /Drain chat\/shard-1/);
  await page.fill("#drain-over", "soon");
  await page.click("#drain-dialog [type=submit]");
  await shows("#drain-dialog .problem", /expected a time such as 30s/);
  await page.fill("#drain-over", "1h");
  await page.keyboard.press("Enter");
  await shows("#notice", /chat\/shard-1 is drained/);
  await shows(`${row("shard-1")} .state`, /drained/);
  await shows("#problems li", /chat\/shard-1 is drained: \d+ tunnels? left/);
  await shows("#timeline li", /drain ?backend chat\/shard-1 .*is drained/);
  assert.equal(
    await page.evaluate(() => document.activeElement.closest("tr")?.dataset.backend),
    "shard-1",
    "the focus is back",
  );
  await page.click(`${row("shard-1")} button`);
  await shows(`${row("shard-1")} .state`, /^up/);
  await shows("#timeline li", /is no longer drained/);
});

test("tunnels are closed by a filter, counted before", async () => {
  const there = await tunnelsOf("shard-0");
  assert.ok(there > 0);
  await page.click("#close-tunnels");
  assert.equal(await page.isDisabled("#close-now"), true, "nothing is closed that was not counted");
  await page.click("#close-dialog [type=submit]");
  await shows("#close-dialog .problem", /name an id or a filter/);
  await page.fill("[data-filter=backend]", "chat/shard-0");
  await page.fill("[data-close=code]", "4001");
  await page.click("#close-dialog [type=submit]");
  await shows("#close-count", new RegExp(`would close ${there} tunnels? with code 4001`));
  await shows("#close-now", new RegExp(`Close ${there} tunnel`));
  await page.fill("[data-filter=client]", "127.0.0.0/8");
  assert.equal(await page.isDisabled("#close-now"), true, "another filter is another question");
  assert.equal(await tunnelsOf("shard-0"), there);
  await page.click("#close-dialog [type=submit]");
  await page.click("#close-now:enabled");
  await shows("#notice", new RegExp(`closing ${there} tunnel`));
  await page.waitForFunction(
    (selector) => document.querySelector(selector).textContent === "0",
    `${row("shard-0")} .meter b`,
  );
  await until("the Close frames", () => clients.filter((client) => client.code === 4001).length === there);
  await shows("#codes li", /^4xxxgateway/);
});

test("a reload shows its plan before it takes force", async () => {
  gateway.write(gateway.read().replace("name: shard-2, ", "name: shard-2, weight: 3, "));
  await page.click("#reload");
  await shows("#plan", /shard-2.*weight|weight.*shard-2/);
  await nextUpdate();
  assert.match(await page.textContent("#identity"), /generation 1 /);
  await page.click("#reload-now:enabled");
  await shows("#notice", /Reloaded: generation 2/);
  await shows("#identity", /generation 2 /);
  await shows("#timeline li", /reload ?generation 2/);
  await page.click("#timeline details summary");
  assert.match(await page.textContent("#timeline details[open] pre"), /shard-2/);
  await open(4, (index) => `/?key=later-${index}`);
  await shows("#generations", /generations 2, 1: the newest/);
});

test("a file with an error is refused, and said so", async () => {
  const good = gateway.read();
  gateway.write(good.replace("weight: 3", "weight: many"));
  await page.click("#reload");
  await shows("#reload-dialog .problem", /weight/);
  assert.equal(await page.isDisabled("#reload-now"), true);
  gateway.write(good);
  await page.click("#reload-dialog [type=submit]");
  await page.waitForSelector("#reload-now:enabled");
  await page.keyboard.press("Escape");
});

test("clients that wait for their turn, and sources that fail, are shown", async () => {
  await open(1, () => "/slow");
  const waiting = Array.from({ length: 5 }, () => Client.open(gateway.address, "/slow"));
  clients.push(...waiting);
  await shows("#admission div", /waiting for a turn5/);
  await shows("#problems li", /5 clients wait for their turn/);
  await shows(`${row(backends[3].address)} [data-label=Waiting]`, /^5 at /);
  writeFileSync(join(gateway.dir, "members.yaml"), "- { address: nowhere }\n");
  await shows("#problems li", /found: members by file are not followed/);
  writeFileSync(join(gateway.dir, "members.yaml"), `- { name: found-1, address: "${backends[3].address}" }\n`);
  await page.waitForSelector(row("found-1"));
  await shows("#timeline li", /^.* ago ?member/);
  // An upgrade ends when all who wait have had their turn, which is once a minute here.
  for (const client of waiting) client.drop();
  const queue = `longhaul_backend_waiting{backend="${backends[3].address}",upstream="slow"}`;
  await until("nobody to wait", async () => (await gateway.metric(queue)) === 0);
});

test("an upgrade while the page is open: it goes on with the new process and says what moved", async () => {
  const before = await gateway.ask("/api/v1/status");
  const moved = before.upstreams.find((one) => one.name === "chat").backends.reduce((sum, one) => sum + one.tunnels, 0);
  assert.ok(moved > 0);
  // The answer comes when the old process has handed over; the page is not asked to do anything.
  const upgrade = gateway.ask("/api/v1/upgrade", {}).catch(() => null);
  await page.waitForFunction(
    (pid) => !document.querySelector("#identity").textContent.includes(`process ${pid} `),
    before.pid,
  );
  await shows("#connection", /^live$/);
  await shows("#timeline li", new RegExp(`upgrade ?took over \\d+ tunnels? from process ${before.pid}`));
  await shows("#timeline li", /reload ?generation 2/);
  await shows("#health li", /chat\/shard-2/);
  await shows("#generations", /before the upgrade/);
  await page.waitForFunction(() =>
    [...document.querySelectorAll("#flow .mark-text")].some((one) => one.textContent === "upgrade"),
  );
  await upgrade;
  const [speaker] = clients.filter((client) => !client.socket.destroyed && client.code === null);
  const heard = new Promise((resolve) => {
    speaker.hear = (opcode, payload) => resolve(payload.toString());
  });
  speaker.say("still here");
  assert.equal(await heard, "still here");
});

test("a page that nobody looks at costs the gateway nothing", async () => {
  const look = (state) =>
    page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const viewers = () => gateway.metric("longhaul_live_viewers");
  await until("one viewer", async () => (await viewers()) === 1);
  await look("hidden");
  await shows("#connection", /paused/);
  await until("no viewer", async () => (await viewers()) === 0);
  await look("visible");
  await shows("#connection", /^live$/);
  await page.click("#pause");
  await until("no viewer", async () => (await viewers()) === 0);
  await page.click("#pause");
  await until("one viewer again", async () => (await viewers()) === 1);
  await nextUpdate();
});

test("controls and tables have names, and everything fits 360 pixels", async () => {
  assert.deepEqual(await nameless(page), []);
  for (const width of [360, 600, 900, 1440]) {
    await page.setViewportSize({ width, height: 900 });
    await nextUpdate();
    assert.deepEqual(await tooWide(page), [], `${width} pixels`);
    const name = await page.locator(`${row("shard-0")} th`).boundingBox();
    assert.ok(name.width > 100 && name.height < 100, `a name is not broken into letters: ${JSON.stringify(name)}`);
    await page.click("#close-tunnels");
    const isWide = await page.evaluate(() => document.querySelector("#close-dialog").scrollWidth > innerWidth);
    assert.equal(isWide, false, `the dialog in ${width} pixels`);
    await page.keyboard.press("Escape");
  }
  for (const theme of ["light", "dark"]) assert.ok((await contrast(page, theme)) >= 4.5, `${theme} text can be read`);
});

test("pictures of it at work, in light and dark, wide and narrow", async () => {
  const talking = setInterval(() => {
    const open = clients.filter((client) => !client.socket.destroyed && client.code === null);
    open.forEach((client, place) => {
      if (Math.random() < 4 / (place + 4)) client.say("x".repeat(1 + Math.floor(Math.random() * 120)));
    });
  }, 40);
  const coming = setInterval(() => {
    clients.push(Client.open(gateway.address, `/?key=user-${Math.floor(Math.random() * 400)}`));
    const leaves = clients[Math.floor(Math.random() * clients.length)];
    if (Math.random() < 0.6 && !leaves.socket.destroyed) leaves.close(Math.random() < 0.8 ? 1000 : 4000);
  }, 90);
  await open(160, (index) => `/?key=member-${index}`);
  await gateway.ask("/api/v1/backends/drain", { upstream: "chat", address: "shard-1", over_ms: 600_000 });
  const { port } = backends[2];
  for (let seconds = 0; seconds < 20; seconds++) await nextUpdate();
  await backends[2].stop();
  await page.waitForSelector(`${row("shard-2")}[data-state=bad]`);
  await shows("#reasons li", /^backend_gone/);
  for (let seconds = 0; seconds < 5; seconds++) await nextUpdate();
  for (const theme of ["light", "dark"]) {
    await contrast(page, theme);
    for (const width of [1440, 360]) {
      await page.setViewportSize({ width, height: 900 });
      await nextUpdate();
      if (process.env.PICTURES)
        await page.screenshot({ path: join(process.env.PICTURES, `dashboard-${theme}-${width}.png`), fullPage: true });
    }
  }
  clearInterval(talking);
  clearInterval(coming);
  await backends[2].start(port);
});

test("a token that is forgotten is asked for again", async () => {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.click("#forget");
  await page.waitForSelector("#login:not([hidden])");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("the page ran without an error", () => assert.deepEqual(troubles, []));
