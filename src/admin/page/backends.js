// The table of backends: state, open tunnels by generation, load, and the button that drains.

import { sum } from "./rates.js";
import { turnsOf } from "./verdict.js";
import { about, byId, cell, count, element, filled, hide, list, nameOf, plural, rate, say } from "./words.js";

/** Shows the backends of an update. */
export function backends({ update: { status, overview, generations }, history }, now, act) {
  const turns = turnsOf(history);
  const all = [...new Set(generations.map((one) => one.generation))].sort((a, b) => (b ?? 0) - (a ?? 0));
  const most = Math.max(1, ...status.upstreams.flatMap(({ backends }) => backends.map((one) => one.tunnels)));
  const rows = status.upstreams.map((upstream) => {
    const of = generations.filter((one) => one.upstream === upstream.name);
    const known = new Set(upstream.backends.map(nameOf));
    const gone = [...new Set(of.map((one) => one.backend))].filter(
      (name) => !known.has(name) && overview.left_out === 0,
    );
    const shown = [
      ...upstream.backends,
      ...gone.map((name) => ({
        name,
        address: "",
        isGone: true,
        up: true,
        tunnels: sum(of.filter((one) => one.backend === name).map((one) => one.tunnels)),
      })),
    ];
    return {
      upstream,
      backends: shown.map((one) => ({
        one,
        upstream: upstream.name,
        most,
        all,
        turn: turns.get(`${upstream.name}/${nameOf(one)}`),
        now,
        parts: of.filter((part) => part.backend === nameOf(one)),
      })),
    };
  });
  list(
    byId("backends"),
    rows,
    (row) => row.upstream.name,
    () => {
      const [title, more] = [element("span"), element("small", "soft")];
      const head = element("th", "", title, more);
      head.colSpan = 7;
      head.scope = "rowgroup";
      const body = element("tbody", "", element("tr", "group", head));
      const inner = { root: body };
      return filled(body, ({ upstream, backends }) => {
        say(title, upstream.name);
        say(more, `${plural(sum(upstream.backends.map((one) => one.tunnels)), "tunnel")}`);
        inner.rows ??= rowsBehind(body);
        list(
          inner.rows,
          backends,
          ({ one }) => nameOf(one),
          (item) => backendRow(item, act),
        );
      });
    },
  );
  say(
    byId("generations"),
    all.length > 1
      ? `generations ${all.map((one) => one ?? "before the upgrade").join(", ")}: the newest is the darkest`
      : all.length === 1
        ? all[0] === null
          ? "all opened before the upgrade"
          : `all of generation ${all[0]}`
        : "",
  );
  hide(byId("left-out"), overview.left_out === 0);
  say(
    byId("left-out"),
    `${plural(overview.left_out, "backend")} without trouble and with fewer tunnels are not shown: see longhaul status`,
  );
}

/** A list that begins behind the head of a table's body. */
function rowsBehind(body) {
  return {
    get firstChild() {
      return body.firstChild.nextSibling;
    },
    insertBefore: (child, next) => body.insertBefore(child, next),
    closest: () => null,
  };
}

function backendRow({ upstream }, act) {
  const [name, address, dot, state, why] = [
    element("span", "strong"),
    element("small", "soft"),
    element("i", "dot"),
    element("span"),
    element("small", "soft"),
  ];
  const [figure, parts, well] = [element("b"), element("small", "soft"), element("div", "well")];
  const [load, waiting, weight] = [cell("number", "Load"), cell("number", "Waiting"), cell("number", "Weight")];
  const drain = element("button", "small", "Drain…");
  drain.type = "button";
  const head = element("th", "", name, address);
  head.scope = "row";
  const root = element(
    "tr",
    "backend",
    head,
    cell("state", "State", element("span", "", dot, state), why),
    cell("spread", "Tunnels", element("div", "meter", figure, well), parts),
    load,
    waiting,
    weight,
    cell("actions", "", drain),
  );
  let latest;
  drain.onclick = () => (latest.draining ? act.undo(upstream, latest) : act.drain(upstream, latest));
  return filled(root, (item) => {
    const { one, most, all, turn, now } = item;
    latest = one;
    root.dataset.backend = nameOf(one);
    say(name, nameOf(one));
    say(address, one.name && one.name !== one.address ? one.address : "");
    const [kind, text] = stateOf(one);
    root.dataset.state = kind;
    say(state, text);
    say(
      why,
      turn && ((turn.to !== "up" && turn.to !== "returned") || now - turn.at < 3_600)
        ? `${about(now - turn.at)} ago: ${turn.reason}`
        : "",
    );
    say(figure, count(one.tunnels));
    bar(well, item.parts, most, all);
    say(
      parts,
      item.parts.length > 1 || all.length > 1
        ? item.parts
            .map((part) => `${part.generation === null ? "before" : `g${part.generation}`}: ${count(part.tunnels)}`)
            .join(" · ")
        : "",
    );
    say(load, one.isGone ? "" : count(one.load));
    say(
      waiting,
      one.isGone ? "" : one.rate == null ? count(one.waiting) : `${count(one.waiting)} at ${rate(one.rate)}/s`,
    );
    say(weight, one.isGone ? "" : String(one.weight));
    hide(drain, Boolean(one.isGone));
    say(drain, one.draining ? "Undo drain" : "Drain…");
    drain.setAttribute("aria-label", `${one.draining ? "Undo the drain of" : "Drain"} ${upstream}/${nameOf(one)}`);
  });
}

function stateOf(one) {
  if (one.isGone) return ["gone", "left the configuration"];
  if (!one.up) return ["bad", one.draining ? "down, drained" : "down"];
  if (one.draining) return ["note", "drained"];
  if (one.leaving) return ["note", "leaving"];
  if (one.ejected) return ["warn", "ejected"];
  return ["good", one.checked ? "up" : "not checked"];
}

/** A bar of parts by generation. */
function bar(well, parts, most, all) {
  const shown = parts.map((part) => ({ ...part, share: part.tunnels / most, place: all.indexOf(part.generation) }));
  list(
    well,
    shown,
    (part) => String(part.generation),
    () =>
      filled(element("i"), (part, root) => {
        root.style.width = `${100 * part.share}%`;
        root.style.opacity = String(Math.max(0.3, 1 - 0.3 * part.place));
        const origin = part.generation === null ? "opened before the upgrade" : `generation ${part.generation}`;
        root.title = `${origin}: ${plural(part.tunnels, "tunnel")}`;
      }),
  );
}
