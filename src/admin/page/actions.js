// Changes that a person asks for: drains and their undoing, tunnels closed by a filter, reloads. Each is shown first.

import { byId, hide, milliseconds, plural, say } from "./words.js";

/** The dialogs, over the connection `feed`. */
export class Actions {
  constructor(feed) {
    this.feed = feed;
    this.drains = dialog("drain-dialog", () => this.drainNow());
    this.closes = dialog("close-dialog", () => this.countTunnels());
    this.reloads = dialog("reload-dialog", () => this.plan());
    byId("close-tunnels").onclick = () => this.close({});
    byId("reload").onclick = () => this.reload();
    byId("close-now").onclick = () => this.closes.run(() => this.closeNow());
    byId("reload-now").onclick = () => this.reloads.run(() => this.reloadNow());
    // A count is of the fields as they were: another filter is counted anew before it closes anything.
    this.closes.form.addEventListener("input", () => this.forgetCount());
  }

  drain(upstream, backend) {
    this.backend = { upstream, address: backend.name || backend.address };
    say(byId("drain-title"), `Drain ${upstream}/${this.backend.address}`);
    say(
      byId("drain-text"),
      `Nothing new goes to it, and its ${plural(backend.tunnels, "tunnel")} are closed with code 1012 over a time. ` +
        "Clients that come back go to other backends. It can be undone.",
    );
    this.drains.open();
  }

  async drainNow() {
    const over_ms = milliseconds(byId("drain-over").value, "Close its tunnels over");
    await this.feed.ask("/api/v1/backends/drain", { ...this.backend, ...(over_ms === null ? {} : { over_ms }) });
    this.drains.box.close();
    notice(`${this.backend.upstream}/${this.backend.address} is drained`);
  }

  async undo(upstream, backend) {
    try {
      const answer = await this.feed.ask("/api/v1/backends/drain", {
        upstream,
        address: backend.name || backend.address,
        undo: true,
      });
      notice(answer.message);
    } catch (error) {
      notice(error.message, true);
    }
  }

  close(filter) {
    for (const field of this.closes.form.querySelectorAll("input")) {
      if (field.type === "checkbox") field.checked = false;
      else field.value = filter[field.dataset.filter] ?? "";
    }
    this.forgetCount();
    this.closes.open();
  }

  forgetCount() {
    this.counted = null;
    byId("close-now").disabled = true;
    say(byId("close-now"), "Close them");
    hide(byId("close-count"), true);
  }

  /** What the fields ask for. */
  asked() {
    const [filter, asked] = [{}, {}];
    for (const field of this.closes.form.querySelectorAll("[data-filter]")) {
      const [name, value] = [field.dataset.filter, field.value.trim()];
      if (name === "all") asked.all = field.checked;
      else if (value === "") continue;
      else if (name === "ids") filter.ids = value.split(/[\s,]+/);
      else filter[name] = name.endsWith("_ms") ? milliseconds(value, field.parentElement.textContent.trim()) : value;
    }
    if (!asked.all) asked.filter = filter;
    else if (Object.keys(filter).length > 0)
      throw new Error("Every open tunnel, or some by the fields: give one of them");
    for (const field of this.closes.form.querySelectorAll("[data-close]")) {
      const [name, value] = [field.dataset.close, field.value.trim()];
      if (value === "") continue;
      if (name === "code" && !/^\d+$/.test(value)) throw new Error("Close code: expected a number");
      asked[name] = name === "reason" ? value : name === "code" ? Number(value) : milliseconds(value, "Spread over");
    }
    return asked;
  }

  async countTunnels() {
    this.forgetCount();
    const asked = this.asked();
    const text = JSON.stringify(asked);
    const answer = await this.feed.ask("/api/v1/tunnels/close", { ...asked, dry_run: true });
    // Fields that changed meanwhile are another question.
    if (JSON.stringify(this.asked()) !== text) return;
    this.counted = asked;
    say(byId("close-count"), answer.message);
    hide(byId("close-count"), false);
    say(byId("close-now"), `Close ${plural(answer.details.matched, "tunnel")}`);
    byId("close-now").disabled = false;
  }

  async closeNow() {
    if (!this.counted) return;
    const answer = await this.feed.ask("/api/v1/tunnels/close", this.counted);
    this.closes.box.close();
    notice(answer.message.split("\n")[0]);
  }

  reload() {
    this.reloads.open();
    void this.reloads.run(() => this.plan());
  }

  async plan() {
    byId("reload-now").disabled = true;
    say(byId("plan"), "reading the file …");
    try {
      const answer = await this.feed.ask("/api/v1/reload", { dry_run: true });
      say(byId("plan"), answer.message);
      byId("reload-now").disabled = false;
    } catch (error) {
      say(byId("plan"), "");
      throw error;
    }
  }

  async reloadNow() {
    byId("reload-now").disabled = true;
    const answer = await this.feed.ask("/api/v1/reload", {});
    this.reloads.box.close();
    notice(`Reloaded: ${answer.message.split("\n")[0]}`);
  }
}

/** A dialog whose form is submitted to `submit`; what goes wrong is said in it. */
function dialog(id, submit) {
  const box = byId(id);
  const form = box.querySelector("form");
  const problem = form.querySelector(".problem");
  const run = async (action) => {
    say(problem, "");
    try {
      await action();
    } catch (error) {
      say(problem, error.message);
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void run(submit);
  });
  form.querySelector(".cancel").onclick = () => box.close();
  const open = () => {
    say(problem, "");
    if (!box.open) box.showModal();
  };
  return { box, form, run, open };
}

let timer;

/** Says what came of a change, for a while. */
export function notice(text, isProblem = false) {
  const box = byId("notice");
  box.dataset.level = isProblem ? "bad" : "good";
  say(box, text);
  hide(box, false);
  clearTimeout(timer);
  timer = setTimeout(() => hide(box, true), 8_000);
}
