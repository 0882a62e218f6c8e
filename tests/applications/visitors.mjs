// Visitors with the clients that applications ship. Each has cookies of its own, as a browser has.

import { AsyncLocalStorage } from "node:async_hooks";
import http from "node:http";
import { createRequire } from "node:module";
import { io } from "socket.io-client";

const require = createRequire(import.meta.url);
const jars = new AsyncLocalStorage();

/** The cookies of one visitor: names and values, which is all that these applications' cookies differ in. */
export class Jar {
  #cookies = new Map();
  take(lines = []) {
    for (const line of lines) {
      const [, name, value] = /^([^=;]+)=([^;]*)/.exec(line);
      if (/;\s*max-age=0/i.test(line) || value === "") this.#cookies.delete(name);
      else this.#cookies.set(name, value);
    }
  }
  get(name) { return this.#cookies.get(name); }
  toString() { return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; "); }
}

// sockjs-client has no cookies outside of a browser: the visitor's go with each of its requests.
const request = http.request;
http.request = function (options, ...rest) {
  const jar = jars.getStore();
  if (!jar) return request.call(this, options, ...rest);
  const cookie = String(jar);
  const made = request.call(this, { ...options, headers: { ...options.headers, ...(cookie && { cookie }) } }, ...rest);
  return made.prependListener("response", (response) => jar.take(response.headers["set-cookie"]));
};
const SockJS = require("sockjs-client");

/** The promise of an event, refused after a while so that no visit hangs. */
function within(what, patience, begin) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited ${patience} ms for ${what}`)), patience).unref();
    const done = (settle) => (value) => { clearTimeout(timer); settle(value); };
    begin(done(resolve), done(reject));
  });
}

/**
 * Visits a socket.io application: connects by polling, asks, goes on over `transports`, and asks again. Returns the
 * process that answered; throws where the session was lost on the way.
 */
export async function visitSocketIo(url, path, jar, { transports, patience }) {
  const cookie = String(jar);
  const socket = io(url, {
    path, transports, withCredentials: true, reconnection: false, forceNew: true,
    ...(cookie && { extraHeaders: { cookie } }),
  });
  try {
    const lost = new Promise((_, reject) => {
      socket.on("connect_error", (error) => reject(new Error(`lost: ${error.message} ${error.description ?? ""}`)));
      socket.on("disconnect", (reason) => reject(new Error(`lost: ${reason}`)));
    });
    lost.catch(() => {});
    const or = (promise) => Promise.race([promise, lost]);
    const upgraded = transports.length === 1 ? null
      : within("the WebSocket", patience, (resolve) => socket.io.engine.once("upgrade", resolve));
    upgraded?.catch(() => {});
    await or(within("the connection", patience, (resolve) => socket.once("connect", resolve)));
    const ask = () => within("an answer", patience, (resolve) => socket.emit("ask", resolve));
    const answers = [await or(ask())];
    if (upgraded) await or(upgraded);
    for (let number = 2; number <= 4; number++) answers.push(await or(ask()));
    for (const [name, { value }] of socket.io.engine._cookieJar.cookies) jar.take([`${name}=${value}`]);
    return theOne(answers);
  } finally {
    socket.off("disconnect");
    socket.disconnect();
  }
}

/** Visits a SockJS application by one transport, and asks; as {@link visitSocketIo}. */
export function visitSockJs(url, jar, { transport, patience }) {
  return jars.run(jar, async () => {
    const headers = {};
    const cookie = String(jar);
    if (cookie) headers.cookie = cookie;
    // Left to itself it gives a transport a few round trips to connect, by the time that one took at first.
    const socket = new SockJS(url, null, {
      transports: transport, timeout: patience, transportOptions: { websocket: { headers } },
    });
    try {
      const lost = new Promise((_, reject) => {
        socket.onclose = ({ code, reason }) => reject(new Error(`lost: ${code} ${reason}`));
      });
      lost.catch(() => {});
      const or = (promise) => Promise.race([promise, lost]);
      await or(within("the connection", patience, (resolve) => { socket.onopen = resolve; }));
      const answers = [];
      for (let number = 1; number <= 4; number++) {
        const answer = within("an answer", patience, (resolve) => { socket.onmessage = resolve; });
        socket.send("ask");
        answers.push(JSON.parse((await or(answer)).data));
      }
      return theOne(answers);
    } finally {
      socket.onclose = null;
      socket.close();
    }
  });
}

/** The process that gave every answer, each to the same session. */
function theOne(answers) {
  const expected = answers.map((_, index) => ({ process: answers[0].process, seen: index + 1 }));
  if (JSON.stringify(answers) !== JSON.stringify(expected)) throw new Error(`lost: ${JSON.stringify(answers)}`);
  return answers[0].process;
}
