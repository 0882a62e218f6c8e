// The patterns of docs/reattach.md, each in its language: programs that are restarted while a client talks on.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import WebSocket from "ws";
import { Programs } from "./programs.mjs";

const programs = new Programs("patterns");
const patterns = process.env.PATTERNS;

after(() => programs.end());

/** A client whose connection is never to end. What it is told is kept until it is asked for. */
class Client {
  #told = [];
  #wait;
  constructor(address) {
    this.socket = new WebSocket(`ws://${address}/`);
    this.socket.on("message", (data) => { this.#told.push(String(data)); this.#wait?.resolve(); });
    const lost = (why) => { this.lost = new Error(`cut off: ${why}`); this.#wait?.reject(this.lost); };
    this.socket.on("close", (code, reason) => lost(`${code} ${reason}`));
    this.socket.on("error", lost);
    this.open = new Promise((resolve) => this.socket.once("open", resolve));
  }
  say(text) { this.socket.send(text); }
  async hear() {
    while (this.#told.length === 0) {
      if (this.lost) throw this.lost;
      await new Promise((resolve, reject) => { this.#wait = { resolve, reject }; });
    }
    return this.#told.shift();
  }
}

/** Starts a program, talks, restarts the program by a signal, and talks on; three times. */
function pattern(name, command, args, hooks, talk) {
  for (const signal of ["SIGTERM", "SIGKILL"]) {
    test(`${name} goes on over a restart by ${signal}`, { timeout: 180_000 }, async () => {
      const file = join(programs.folder, `${signal}-${name}.state`);
      const start = (port) => programs.start(command, args(port, file), "stdout", /^(\d+)$/);
      const port = await programs.reserve();
      await start(port);
      const { address } = await programs.startReattaching(`${signal}-${name}`, [port], hooks);
      const client = new Client(address);
      await client.open;
      await talk.first(client);
      for (let round = 1; round <= 3; round++) {
        await programs.stop(port, signal);
        await start(port);
        await talk.round(client, round);
      }
      await talk.last?.(file);
      assert.equal(client.lost, undefined);
      client.socket.terminate();
    });
  }
}

pattern("store.py", "python3", (port, file) => [join(patterns, "store.py"), port, file], "[]", {
  first: async (client) => {
    assert.equal(await client.hear(), "welcome");
    client.say("bread");
    assert.equal(await client.hear(), "bread");
  },
  round: async (client, round) => {
    client.say(`milk ${round}`);
    const list = ["bread", ...Array.from({ length: round }, (_, before) => `milk ${before + 1}`)];
    assert.equal(await client.hear(), list.join(", "));
  },
});

pattern("greeting.mjs", process.execPath, (port) => [new URL("./greeting.mjs", import.meta.url).pathname, port],
  "[{ hook: replay, with: { first: 1, first_answers: 1 } }]", {
    first: async (client) => {
      client.say("ada");
      assert.equal(await client.hear(), "hello ada");
    },
    round: async (client, round) => {
      client.say(`news ${round}`);
      assert.equal(await client.hear(), `ada: news ${round}`);
    },
  });

pattern("acknowledged.rs", process.env.ACKNOWLEDGED, (port, file) => [port, file], "[]", {
  first: async (client) => {
    client.say("1 hello");
    assert.equal(await client.hear(), "stored 1");
  },
  round: async (client, round) => {
    // As if the answer had been lost: the message comes twice.
    for (const number of [round, round + 1]) {
      client.say(`${number} hello`);
      assert.equal(await client.hear(), `stored ${number}`);
    }
  },
  last: async (file) => {
    const numbers = readFileSync(file, "utf8").trim().split("\n").map((line) => line.split(" ")[1]);
    assert.deepEqual(numbers, ["1", "2", "3", "4"]);
  },
});

test("the page shows the programs as they are", () => {
  const page = readFileSync(process.env.PAGE, "utf8");
  for (const name of ["store.py", "greeting.mjs", "acknowledged.rs"]) {
    assert.ok(page.includes(readFileSync(join(patterns, name), "utf8")), name);
  }
});
