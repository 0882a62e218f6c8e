// The connection to the gateway: a stream of server-sent events while the page is looked at, and requests that change
// something. The token goes along as a header, which `EventSource` cannot send, and never stands in a URL.

const STORE = "longhaul-admin-token";
const FIRST_WAIT = 250;
const LONGEST_WAIT = 5_000;
/** The longest silence of a stream. With very many tunnels updates come less often than once a second. */
const SILENCE = 30_000;

export class Feed {
  /** `on` has functions for `update`, `history`, `state` (text, and kind) and `unauthorized` (was a token sent?). */
  constructor(on) {
    this.on = on;
    this.token = sessionStorage.getItem(STORE) ?? "";
    this.isWanted = false;
    this.run = null;
    // Whoever does not look costs the gateway nothing.
    document.addEventListener("visibilitychange", () => this.settle());
  }

  set wanted(isWanted) {
    this.isWanted = isWanted;
    this.settle();
  }

  /** Takes another token, which is kept until the tab is closed. */
  use(token) {
    this.token = token;
    if (token) sessionStorage.setItem(STORE, token);
    else sessionStorage.removeItem(STORE);
    this.run?.abort();
    this.run = null;
    this.settle();
  }

  settle() {
    const isWanted = this.isWanted && document.visibilityState === "visible";
    if (isWanted && !this.run) {
      this.run = new AbortController();
      void this.follow(this.run);
    } else if (!isWanted && this.run) {
      this.run.abort();
      this.run = null;
      this.on.state("paused", "paused");
    }
  }

  headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /** Follows the stream until it is given up, and begins again whenever it ends. */
  async follow(run) {
    let wait = FIRST_WAIT;
    while (!run.signal.aborted) {
      try {
        const response = await fetch("/api/v1/live", {
          headers: this.headers(),
          cache: "no-store",
          signal: run.signal,
        });
        if (response.status === 401) {
          run.abort();
          if (this.run === run) this.run = null;
          this.isWanted = false;
          this.on.unauthorized(this.token !== "");
          return;
        }
        if (!response.ok) throw new Error((await failure(response)).message);
        await this.read(response.body, run);
        wait = FIRST_WAIT;
      } catch (error) {
        if (run.signal.aborted) return;
        this.on.state(`no connection (${error.message}); trying again`, "lost");
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(LONGEST_WAIT, wait * 2);
      }
    }
  }

  async read(body, run) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await within(reader, SILENCE);
      if (done || run.signal.aborted) break;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? [];
        if (name === "end") {
          await reader.cancel();
          return;
        }
        if (name === "update") this.on.state("live", "live");
        if (name) this.hear(name, data);
      }
    }
    if (!run.signal.aborted) throw new Error("the stream broke off");
  }

  /** Hands an event over. A mistake of the page's own is no fault of the connection. */
  hear(name, data) {
    try {
      this.on[name](JSON.parse(data));
    } catch (error) {
      reportError(error);
    }
  }

  /** Asks for a change; returns the answer, or throws what people may read. */
  async ask(path, body) {
    const headers = { ...this.headers(), "Content-Type": "application/json", "X-Longhaul-Admin": "1" };
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store" });
    if (!response.ok) throw Object.assign(new Error(), await failure(response));
    return response.json();
  }
}

async function failure(response) {
  const text = await response.text();
  try {
    return { status: response.status, message: String(JSON.parse(text).message) };
  } catch {
    return { status: response.status, message: `${response.status} ${text.slice(0, 200)}` };
  }
}

/** Reads once; a stream that is silent for too long is given up. */
async function within(reader, milliseconds) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => {
      void reader.cancel();
      reject(new Error("the gateway is silent"));
    }, milliseconds);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } finally {
    clearTimeout(timer);
  }
}
