// Real applications that are restarted behind the gateway LONGHAUL while their clients stay connected: a GraphQL server
// (graphql-ws) and an MQTT broker (aedes), with the ready rules of the hook `replay`.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { createClient } from "graphql-ws";
import mqtt from "mqtt";
import WebSocket from "ws";
import { Programs } from "./programs.mjs";

const programs = new Programs("reattach");
const run = promisify(execFile);
const path = (name) => new URL(name, import.meta.url).pathname;

after(() => programs.end());

const startGraphql = (port) => programs.start(process.execPath, [path("./graphql.mjs"), port], "stdout", /^(\d+)$/);
const startBroker = (port) => programs.start(process.execPath, [path("./broker.mjs"), port], "stdout", /^(\d+)$/);

/** Starts a gateway before these ports with the ready rules for `protocol`. */
const startGateway = (name, protocol, ports) =>
  programs.startReattaching(name, ports, `[{ hook: replay, with: { protocol: ${protocol} } }]`);

/** Calls a function with each thing that comes until it returns true; a failure of the source is one of the wait. */
class Watch {
  #waits = new Set();
  fail(error) {
    this.error ??= error;
    for (const { reject } of this.#waits) reject(this.error);
  }
  see(value) {
    for (const wait of [...this.#waits]) if (wait.found(value)) { this.#waits.delete(wait); wait.resolve(value); }
  }
  until(found) {
    if (this.error) return Promise.reject(this.error);
    return new Promise((resolve, reject) => { this.#waits.add({ found, resolve, reject }); });
  }
}

/** A client with two subscriptions, which may connect once and is never to be cut off. */
function subscribe(address) {
  const watch = new Watch();
  const last = {};
  let acknowledged = 0;
  const client = createClient({
    url: `ws://${address}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0, lazy: false,
    onNonLazyError: (error) => watch.fail(error),
    on: {
      closed: ({ code, reason }) => watch.fail(new Error(`cut off: ${code} ${reason}`)),
      connected: () => { acknowledged += 1; },
      message: ({ type }) => { if (type === "connection_ack") acknowledged += 1; },
    },
  });
  for (const of of ["one", "two"]) {
    client.subscribe({ query: `subscription { count(of: "${of}") { of number process } }` }, {
      next: ({ data: { count } }) => {
        if (count.number <= (last[of] ?? 0)) watch.fail(new Error(`${of} said ${count.number} after ${last[of]}`));
        last[of] = count.number;
        watch.see(count);
      },
      error: (error) => watch.fail(error),
      complete: () => watch.fail(new Error(`${of} is complete`)),
    });
  }
  return { client, watch, acknowledged: () => acknowledged };
}

/** Both subscriptions come from the process that `is` right; its id. */
async function both(watch, is) {
  const counts = await Promise.all(["one", "two"].map((of) =>
    watch.until((count) => count.of === of && is(count.process))));
  return counts[0].process;
}

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`graphql-ws: subscriptions go on over a restart of the server by ${signal}`, { timeout: 180_000 }, async () => {
    const port = await programs.reserve();
    await startGraphql(port);
    const { address } = await startGateway(`graphql-${signal}`, "graphql-ws", [port]);
    const { client, watch, acknowledged } = subscribe(address);
    let known = await both(watch, () => true);
    for (let restart = 1; restart <= 3; restart++) {
      await programs.stop(port, signal);
      await startGraphql(port);
      known = await both(watch, (process) => process !== known);
    }
    assert.equal(acknowledged(), 2, "connected once, acknowledged once");
    watch.fail(null);
    await client.dispose();
  });
}

test("graphql-ws: subscriptions go on where a drain leads them", { timeout: 180_000 }, async () => {
  const ports = await Promise.all([1, 2].map(() => startGraphql("0")));
  const { address, file } = await startGateway("graphql-drain", "graphql-ws", ports);
  const { client, watch, acknowledged } = subscribe(address);
  let known = await both(watch, () => true);
  const drain = (port, ...more) => run(process.env.LONGHAUL, ["drain", "-c", file, "backend", `application/127.0.0.1:${port}`, ...more]);
  for (let round = 1; round <= 2; round++) {
    for (const port of ports) {
      await drain(port, "--over", "0s");
      await drain(port, "--undo");
    }
    known = await both(watch, () => true);
  }
  assert.equal(acknowledged(), 2, "connected once, acknowledged once");
  assert.ok(known > 0);
  watch.fail(null);
  await client.dispose();
});

/** An MQTT client that may connect once and is never to be cut off. */
async function joinMqtt(address, watch) {
  const client = mqtt.connect(`ws://${address}/mqtt`, { reconnectPeriod: 0 });
  client.on("error", (error) => watch.fail(error));
  client.on("close", () => watch.fail(new Error("cut off")));
  let connected = 0;
  await new Promise((resolve) => client.on("connect", () => { connected += 1; resolve(); }));
  return { client, connected: () => connected };
}

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`aedes: MQTT goes on over a restart of the broker by ${signal}`, { timeout: 180_000 }, async () => {
    const port = await programs.reserve();
    await startBroker(port);
    const { address } = await startGateway(`mqtt-${signal}`, "mqtt", [port]);
    const watch = new Watch();
    const subscriber = await joinMqtt(address, watch);
    const publisher = await joinMqtt(address, watch);
    subscriber.client.on("message", (topic, payload) => watch.see({ topic, text: payload.toString() }));
    for (const topic of ["kept", "left"]) await subscriber.client.subscribeAsync(topic, { qos: 1 });
    await subscriber.client.unsubscribeAsync("left");
    let left = 0;
    watch.until(({ topic }) => { left += topic === "left"; return false; }).catch(() => {});
    const published = [];
    const publish = (text) => {
      for (const topic of ["left", "kept"]) published.push(publisher.client.publishAsync(topic, text, { qos: 1 }));
    };
    for (let restart = 1; restart <= 3; restart++) {
      publish(`before ${restart}`);
      await watch.until(({ text }) => text === `before ${restart}`);
      await programs.stop(port, signal);
      publish(`meanwhile ${restart}`);
      await startBroker(port);
      // Another client's subscription may come after what was published meanwhile: the broker keeps nothing.
      const again = setInterval(() => publish(`after ${restart}`), 50);
      try {
        await watch.until(({ text }) => text === `after ${restart}`);
      } finally {
        clearInterval(again);
      }
    }
    await Promise.race([Promise.all(published), watch.until(() => false)]);
    assert.deepEqual([subscriber.connected(), publisher.connected(), left], [1, 1, 0]);
    for (const { client } of [subscriber, publisher]) {
      client.removeAllListeners("close");
      await client.endAsync();
    }
  });
}
