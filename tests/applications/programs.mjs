// Programs that a test starts, gateways among them, and a folder for their files. All of it ends with the test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// Takes a free port without listening on it, says which, and keeps it: whoever asks for the port by its number gets it, and
// nobody is given it by chance while the program that listens there is away.
const RESERVE = `
import signal, socket
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
signal.pause()
`;

export class Programs {
  #children = new Map();

  /** `name` is for the folder. */
  constructor(name) {
    this.folder = mkdtempSync(join(tmpdir(), `longhaul-${name}-`));
  }

  /** Starts a program, and returns what the group of `pattern` holds in the first line of `stream` that matches. */
  start(command, args, stream, pattern) {
    const child = spawn(command, args, {
      // Where a gateway puts its sockets.
      stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUNTIME_DIRECTORY: this.folder },
    });
    child[stream === "stdout" ? "stderr" : "stdout"].resume();
    return new Promise((resolve, reject) => {
      const said = [];
      createInterface({ input: child[stream] }).on("line", (line) => {
        said.push(line);
        const found = pattern.exec(line);
        if (!found) return;
        this.#children.set(found[1], child);
        resolve(found[1]);
      });
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`${command} ended with ${code}: ${said.join("\n")}`)));
      this.#children.set(child, child);
    });
  }

  /** A port of 127.0.0.1 that stays free for a program that is restarted. */
  reserve() {
    return this.start("python3", ["-c", RESERVE], "stdout", /^(\d+)$/);
  }

  /** Starts the gateway LONGHAUL with these routes and upstreams; its address and its configuration file. */
  async startGateway(name, rest) {
    const file = join(this.folder, `${name}.yaml`);
    writeFileSync(file, `version: 1
listeners:
  - address: 127.0.0.1:0
control_sock: ${join(this.folder, `${name}.sock`)}
${rest}`);
    const address = await this.start(process.env.LONGHAUL, ["-c", file], "stderr", /listening on ([0-9.:]+)/);
    return { address, file };
  }

  /** Starts a gateway before these ports, with these hooks, whose tunnels outlive their backends. */
  startReattaching(name, ports, hooks) {
    return this.startGateway(name, `routes:
  - upstream: application
    reattach: { within: 2m }
    hooks: ${hooks}
upstreams:
  application:
    backends: [${ports.map((port) => `127.0.0.1:${port}`).join(", ")}]
    health: { check: tcp, interval: 100ms, timeout: 100ms, rise: 1 }
`);
  }

  /** Sends a signal to the program that said `word` at its start, and waits for its end. */
  async stop(word, signal) {
    const child = this.#children.get(word);
    child.removeAllListeners("exit");
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }

  /** Ends all of them, and removes the folder. */
  end() {
    for (const child of new Set(this.#children.values())) child.removeAllListeners("exit").kill("SIGKILL");
    // Whoever is being ended may still put a file there.
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 10 });
  }
}
