// A real gateway before WebSocket backends of this file, and clients that speak through it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const TOKEN = "0123456789abcdef0123456789abcdef";
/** Long enough for a busy machine; nothing is asserted about how long anything takes. */
export const PATIENCE = 60_000;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Address of this process's backends alone: a port of one that is away for a moment is given to nobody else. */
const HOST = `127.100.${(process.pid >> 8) & 255}.${process.pid & 255}`;

/** A frame of at most 125 bytes (RFC 6455 §5.2); a client masks what it sends. */
function frame(opcode, payload, mask) {
  const key = mask ? randomBytes(4) : Buffer.alloc(0);
  const body = Buffer.from(payload);
  if (mask)
    body.forEach((byte, place) => {
      body[place] = byte ^ key[place % 4];
    });
  return Buffer.concat([Buffer.from([0x80 | opcode, (mask ? 0x80 : 0) | body.length]), key, body]);
}

/** Calls `hear` with the opcode and the payload of each frame that comes. */
function read(socket, head, hear) {
  let bytes = head;
  const take = () => {
    while (bytes.length >= 2) {
      const isMasked = (bytes[1] & 0x80) !== 0;
      const length = bytes[1] & 0x7f;
      assert.ok(length <= 125, "short frames only");
      const from = isMasked ? 6 : 2;
      if (bytes.length < from + length) return;
      const payload = Buffer.from(bytes.subarray(from, from + length));
      if (isMasked)
        payload.forEach((byte, place) => {
          payload[place] = byte ^ bytes[2 + (place % 4)];
        });
      const opcode = bytes[0] & 0x0f;
      bytes = bytes.subarray(from + length);
      hear(opcode, payload);
    }
  };
  socket.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    take();
  });
  take();
}

/** A backend that sends every message back. */
export class Backend {
  async start(port = 0) {
    this.sockets = new Set();
    this.server = createServer((_, response) => response.end("hello\n"));
    this.server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.sockets.delete(socket));
    });
    this.server.on("upgrade", (request, socket, head) => {
      const accept = createHash("sha1")
        .update(request.headers["sec-websocket-key"] + GUID)
        .digest("base64");
      socket.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
          `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
      socket.on("end", () => socket.end());
      read(socket, head, (opcode, payload) => {
        if (opcode === 1) socket.write(frame(1, payload, false));
        if (opcode === 8) socket.end(frame(8, payload, false));
      });
    });
    await new Promise((started) => this.server.listen(port, HOST, started));
    this.port = this.server.address().port;
    return this;
  }

  get address() {
    return `${HOST}:${this.port}`;
  }

  async stop() {
    const stopped = new Promise((done) => this.server.close(done));
    for (const socket of this.sockets) socket.destroy();
    await stopped;
  }
}

/** A client whose tunnel is open. */
export class Client {
  static open(address, path) {
    const client = new Client();
    const [host, port] = address.split(":");
    const socket = (client.socket = connect(Number(port), host));
    client.code = null;
    client.closed = new Promise((done) => socket.on("close", done));
    socket.on("error", () => {});
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`,
    );
    client.opened = new Promise((opened, failed) => {
      let head = Buffer.alloc(0);
      const take = (chunk) => {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        socket.off("data", take);
        if (!head.toString().startsWith("HTTP/1.1 101 ")) return failed(new Error(head.toString().split("\r\n")[0]));
        read(socket, head.subarray(end + 4), (opcode, payload) => client.hear(opcode, payload));
        opened(client);
      };
      socket.on("data", take);
      socket.on("close", () => failed(new Error("closed")));
    });
    client.opened.catch(() => {});
    return client;
  }

  hear(opcode, payload) {
    if (opcode !== 8) return;
    this.code = payload.readUInt16BE(0);
    this.socket.end(frame(8, payload, true));
  }

  say(text) {
    this.socket.write(frame(1, text, true));
  }

  close(code) {
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    this.socket.write(frame(8, payload, true));
  }

  drop() {
    this.socket.destroy();
  }
}

/** A gateway of a file, in a folder of its own. */
export class Gateway {
  constructor(binary, yaml) {
    this.dir = mkdtempSync(join(tmpdir(), "longhaul-dashboard-"));
    this.binary = binary;
    this.yaml = yaml.replaceAll("{dir}", this.dir);
    this.file = join(this.dir, "longhaul.yaml");
    this.write(this.yaml);
    writeFileSync(join(this.dir, "token"), `${TOKEN}\n`, { mode: 0o600 });
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "3",
        "-subj",
        "/CN=chat.test",
        "-addext",
        "subjectAltName=DNS:chat.test",
        "-keyout",
        join(this.dir, "key.pem"),
        "-out",
        join(this.dir, "cert.pem"),
      ],
      { stdio: "ignore" },
    );
  }

  write(yaml) {
    writeFileSync(this.file, yaml);
  }

  read() {
    return readFileSync(this.file, "utf8");
  }

  async start() {
    this.child = spawn(this.binary, ["-c", this.file], {
      env: { ...process.env, RUNTIME_DIRECTORY: this.dir },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.log = [];
    const addresses = [];
    await new Promise((started, failed) => {
      createInterface({ input: this.child.stderr }).on("line", (line) => {
        this.log.push(line);
        const listening = / listening on ([0-9.:]+)$/.exec(line);
        if (listening) addresses.push(listening[1]);
        const admin = / admin API on ([0-9.:]+),/.exec(line);
        if (admin && !this.admin) {
          this.admin = admin[1];
          started();
        }
      });
      this.child.once("exit", () => failed(new Error(this.log.join("\n"))));
    });
    this.address = addresses[0];
    return this;
  }

  async ask(path, body) {
    const headers = { Authorization: `Bearer ${TOKEN}`, ...(body ? { "Content-Type": "application/json" } : {}) };
    const response = await fetch(`http://${this.admin}${path}`, {
      headers,
      ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
    });
    return response.headers.get("content-type")?.startsWith("application/json") ? response.json() : response.text();
  }

  async metric(name) {
    const line = (await this.ask("/metrics")).split("\n").find((one) => one.startsWith(`${name} `));
    return line ? Number(line.split(" ").at(-1)) : 0;
  }

  /** Ends the process that is the gateway now, a successor too, and removes its folder. */
  async stop() {
    const { pid: latest } = await this.ask("/api/v1/status").catch(() => ({}));
    for (const pid of new Set([this.child?.pid, latest])) {
      try {
        if (pid) process.kill(pid, "SIGKILL");
      } catch {
        /* it has ended */
      }
    }
    // A process that is being ended may still put a file there.
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Waits until `done` returns something that counts as true, and returns that. */
export async function until(what, done) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await done();
    if (value) return value;
    assert.ok(Date.now() < deadline, `it never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
