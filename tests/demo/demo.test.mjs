// Drives the demo's page in Chromium, through the gateway at BASE_URL: what its text promises, it does.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const BASE_URL = process.env.BASE_URL;
const SCREENSHOT = process.env.SCREENSHOT;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
// SHA-256 of the one key that is trusted though no authority vouches for it.
if (process.env.TRUSTED_KEY) FLAGS.push(`--ignore-certificate-errors-spki-list=${process.env.TRUSTED_KEY}`);
// Long enough for a busy machine; nothing is asserted about how long anything takes.
const PATIENCE = 60_000;

let profile, context, page;
const troubles = [];

before(async () => {
  profile = mkdtempSync(join(tmpdir(), "longhaul-demo-"));
  context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM, args: FLAGS, chromiumSandbox: false, viewport: { width: 1200, height: 1300 },
  });
  context.setDefaultTimeout(PATIENCE);
  page = context.pages()[0] ?? (await context.newPage());
  page.on("pageerror", (error) => troubles.push(String(error)));
  page.on("dialog", (dialog) => { troubles.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
  await page.goto(BASE_URL);
});

after(async () => {
  await context?.close();
  if (profile) rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
});

test("a page opens one client, and a button opens 20 more", async () => {
  await allOpen(1);
  await page.click("#open-more");
  await allOpen(21);
  const { backends } = await state();
  assert.equal(backends.reduce((sum, backend) => sum + backend.open, 0), 21);
  assert.ok(backends.filter((backend) => backend.open > 0).length > 1, "21 ids do not all belong to one backend");
  for (const backend of backends) {
    await page.waitForFunction(([name, open]) => document.querySelector(`[data-backend=${name}].backend .figures`)
      ?.textContent.startsWith(`${open} open`), [backend.name, backend.open]);
  }
});

test("counters go up, for one client and for all", async () => {
  await page.click("#count-all");
  await counters((counts) => counts.every((count) => count === 1));
  await page.locator(".client .count").first().click();
  await counters((counts) => counts[0] === 2 && counts.slice(1).every((count) => count === 1));
});

test("a reload keeps ids, backends and counters", async () => {
  const before = await clients();
  await page.reload();
  await allOpen(21);
  assert.deepEqual(await clients(), before);
});

test("chat reaches the clients of the speaker's backend, as text and never as markup", async () => {
  const hostile = `<img src=x onerror="alert(1)"><script>alert(2)</script> & "hi"`;
  await page.fill("#text", hostile);
  await page.press("#text", "Enter");
  await page.waitForFunction((text) => document.querySelector("#chat li:last-child")?.textContent.includes(text), hostile);
  assert.equal(await page.locator("#chat img, #chat script").count(), 0);

  const all = await clients();
  const speaker = await page.inputValue("#speaker");
  const backend = all.find((client) => client.id === speaker).backend;
  const near = all.find((client) => client.id !== speaker && client.backend === backend);
  const far = all.find((client) => client.backend !== backend);
  if (near) {
    await page.selectOption("#speaker", near.id);
    // The same backend, the same chat: each client hears of it by its own socket.
    await page.waitForFunction((text) => document.querySelector("#chat").textContent.includes(text), hostile);
  }
  await page.selectOption("#speaker", far.id);
  assert.ok(!(await page.textContent("#chat")).includes(hostile), "another backend, another chat");
});

test("clients of a stopped backend come back on others, the rest stay, and all come home after its start", async () => {
  const before = await clients();
  const lost = before[0].backend;
  await page.click(`.backend[data-backend=${lost}] .turn`);
  await page.waitForSelector(`.backend.down[data-backend=${lost}]`);
  await page.waitForFunction((name) => !document.querySelector(`.client[data-backend=${name}]`), lost);
  await allOpen(21);
  const during = await clients();
  for (const [index, client] of before.entries()) {
    if (client.backend === lost) {
      assert.notEqual(during[index].backend, lost);
      assert.equal(during[index].count, 0, "another backend does not know the counter");
      const code = await page.textContent(`[data-client="${client.id}"] .code`);
      assert.match(code, /last close (1006|1014)/);
    } else {
      assert.deepEqual(during[index], client, "a client of another backend notices nothing");
    }
  }
  if (SCREENSHOT) await page.screenshot({ path: SCREENSHOT, fullPage: true });

  await page.click(`.backend[data-backend=${lost}] .turn`);
  await page.waitForSelector(`.backend:not(.down)[data-backend=${lost}]`);
  await homeAgain(before);
  for (const [index, client] of (await clients()).entries()) {
    assert.equal(client.count, before[index].backend === lost ? 0 : before[index].count, client.id);
  }
});

test("clients of a restarted backend keep their sockets, and their counters go on", async () => {
  await page.click("#count-all");
  await counters((counts) => counts.every((count) => count > 0));
  const before = await clients();
  const restarted = before[0].backend;
  await page.click(`.backend[data-backend=${restarted}] .restart`);
  await until(async () => (await clients()).every((client) => client.backend !== restarted));
  for (const [index, client] of (await clients()).entries()) {
    assert.equal(client.count, before[index].count, client.id);
    const restarts = await page.getAttribute(`[data-client="${client.id}"]`, "data-restarts");
    assert.equal(restarts, before[index].backend === restarted ? "1" : "0", "its socket stayed open");
  }
  await page.click("#count-all");
  await counters((counts) => counts.every((count, index) => count === before[index].count + 1));
});

test("closing all leaves none, also after a reload", async () => {
  await page.click("#close-all");
  await page.waitForFunction(() => document.querySelectorAll(".client").length === 0);
  await until(async () => (await state()).clients === 0);
  await page.reload();
  await page.waitForSelector("#none:not([hidden])");
  assert.equal(await page.locator(".client").count(), 0);
});

test("the page ran without an error", () => assert.deepEqual(troubles, []));

async function allOpen(number) {
  await page.waitForFunction(
    (number) => document.querySelectorAll(".client").length === number
      && document.querySelectorAll(".client[data-state=open]").length === number, number);
}

async function counters(wanted) {
  await until(async () => wanted((await clients()).map((client) => client.count)));
}

/** Reconnects until every client is where it was: the gateway takes a moment to see that a backend is back. */
async function homeAgain(before) {
  await until(async () => {
    await page.click("#reconnect-all");
    await allOpen(before.length);
    return (await clients()).every((client, index) => client.backend === before[index].backend);
  });
}

async function clients() {
  return page.$$eval(".client", (cards) => cards.map((card) => ({
    id: card.dataset.client, backend: card.dataset.backend, count: Number(card.querySelector("output").textContent),
  })));
}

async function state() {
  return page.evaluate(async () => (await fetch("/demo/state")).json());
}

async function until(done) {
  const deadline = Date.now() + PATIENCE;
  while (!(await done())) {
    assert.ok(Date.now() < deadline, "it never came about");
    await page.waitForTimeout(200);
  }
}
