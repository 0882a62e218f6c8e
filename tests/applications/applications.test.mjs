// Real applications over three processes, behind the gateway LONGHAUL with each affinity that docs/configuration.md
// names for them: no visitor loses a session.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Programs } from "./programs.mjs";
import { Jar, visitSockJs, visitSocketIo } from "./visitors.mjs";

const VISITORS = 12;
// Long enough for a busy machine; nothing is asserted about how long anything takes.
const patience = 60_000;

// The recipes of docs/configuration.md, "Which cookie", each on a route of its own.
const RECIPES = {
  "/plain": "[issue_cookie]",
  "/cookie": "[{ cookie: { name: io, born_on: backend } }]",
  // No recipe: the value is made after the backend was picked.
  "/naive": "[{ cookie: io }]",
  "/dummy": "[{ cookie: { name: JSESSIONID, born_on: backend } }]",
  "/issued": "[issue_cookie]",
};

const programs = new Programs("applications");
// The gateway before the application, and another one before that, with the same recipes and the same cookies.
const gateways = {};

before(async () => {
  const server = new URL("./server.mjs", import.meta.url).pathname;
  const ports = await Promise.all([1, 2, 3].map(() => programs.start(process.execPath, [server], "stdout", /^(\d+)$/)));
  const inner = await startGateway("inner", ports.map((port) => `127.0.0.1:${port}`));
  gateways.one = `http://${inner}`;
  gateways.two = `http://${await startGateway("outer", [inner])}`;
});

/** Starts a gateway with every recipe before these backends; its address. */
async function startGateway(name, backends) {
  const routes = Object.entries(RECIPES)
    .map(([path, affinity]) => `  - { path: ${path}, upstream: application, affinity: ${affinity} }\n`);
  const upstream = `upstreams:\n  application: { backends: [${backends.join(", ")}] }\n`;
  const { address } = await programs.startGateway(name, `routes:\n${routes.join("")}${upstream}`);
  return address;
}

after(() => programs.end());

/** Visits as often as there are visitors, side by side; the processes that answered, or the losses. */
async function crowd(visit) {
  const visits = await Promise.allSettled(Array.from({ length: VISITORS }, () => visit(new Jar())));
  const lost = visits.filter(({ status }) => status === "rejected").map(({ reason }) => reason.message);
  return { lost, homes: new Set(visits.map(({ value }) => value)) };
}

/** No visitor is lost, all come home when they come again, and together they use more than one process. */
async function noneIsLost(visit) {
  const { lost, homes } = await crowd(async (jar) => {
    const home = await visit(jar);
    for (let again = 1; again <= 2; again++) {
      const found = await visit(jar);
      if (found !== home) throw new Error(`lost: came to ${found}, is at home in ${home} (${jar})`);
    }
    return home;
  });
  assert.deepEqual(lost, []);
  assert.ok(homes.size > 1, "all in one process");
}

for (const count of ["one", "two"]) {
  const behind = `behind ${count} gateway${count === "two" ? "s" : ""}`;
  for (const [path, recipe] of [["/plain/", "issue_cookie"], ["/cookie/", "io born on the backend"]]) {
    for (const transports of [["polling", "websocket"], ["polling"]]) {
      test(`socket.io by ${transports.join(", then ")} ${behind} with ${recipe} loses no session`, () =>
        noneIsLost((jar) => visitSocketIo(gateways[count], path, jar, { transports, patience })));
    }
  }
  for (const [path, recipe] of [["/dummy", "JSESSIONID born on the backend"], ["/issued", "issue_cookie"]]) {
    for (const transport of ["xhr-polling", "xhr-streaming"]) {
      test(`SockJS by ${transport} ${behind} with ${recipe} loses no session`, () =>
        noneIsLost((jar) => visitSockJs(`${gateways[count]}${path}`, jar, { transport, patience })));
    }
  }
}

test("SockJS by WebSocket keeps its session on one connection", async () => {
  for (const path of ["/dummy", "/issued"]) {
    const { lost } = await crowd((jar) => visitSockJs(`${gateways.two}${path}`, jar, { transport: "websocket", patience }));
    assert.deepEqual(lost, []);
  }
});

test("the value of a cookie that the backend makes is no key: sessions are lost", async () => {
  const { lost } = await crowd((jar) => visitSocketIo(gateways.one, "/naive/", jar, { transports: ["polling"], patience }));
  assert.ok(lost.length > 0, "this test could not tell a lost session");
  for (const reason of lost) assert.match(reason, /^lost: /);
});
