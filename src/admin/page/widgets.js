// The widgets: each shows its part of an update.

import { backends } from "./backends.js";
import { bars, columns, lines, spark } from "./charts.js";
import { ended, sum } from "./rates.js";
import { SOON, problems, verdict } from "./verdict.js";
import { about, byId, bytes, cell, count, element, filled, latency, list, plural, rate, say, span } from "./words.js";

const TURNS = { up: "up", down: "down", confirmed: "down by checks too", ejected: "ejected", returned: "back" };

/** What the page knows: the latest update and history, and the rates. `act` opens the dialogs. */
export function show(page, act) {
  const { update, history, rates } = page;
  const { status, totals } = update;
  const now = update.at_ms / 1000;
  identity(status);
  verdict(problems(page, now));
  tiles(page);
  backends(page, now, act);
  flow(rates, now);
  handshakes(rates);
  reasons(rates, totals);
  ages(status);
  talkers(update, act);
  keys(update);
  admission(page);
  discovery(status);
  certificates(status, now);
  if (history) events(history, now);
}

function identity(status) {
  say(
    byId("identity"),
    `${status.listeners.join(", ")} · version ${status.version} · process ${status.pid} · ` +
      `generation ${status.generation} · up ${span(status.uptime_seconds)}`,
  );
}

function tiles({ update: { status, overview, totals }, rates }) {
  const { now } = rates;
  const {
    percentiles: [median, , worst],
    isRecent,
  } = rates.handshakes();
  const figures = [
    [
      "Open tunnels",
      count(status.tunnels),
      status.tls.record + status.tls.rustls > 0
        ? `${count(status.tls.record + status.tls.rustls)} with TLS`
        : "none with TLS",
    ],
    [
      "Messages / s",
      now ? rate(now.messages) : "–",
      now ? `${bytes(now.bytes)}/s` : "",
      rates.points.map((one) => one.messages),
    ],
    [
      "Opens / s",
      now ? rate(now.opens) : "–",
      `${count(totals.opened)} since the start`,
      rates.points.map((one) => one.opens),
    ],
    [
      "Closes / s",
      now ? rate(now.closes) : "–",
      `${count(ended(totals))} since the start`,
      rates.points.map((one) => one.closes),
    ],
    [
      "Handshake p50",
      median === null ? "–" : latency(median),
      worst === null ? "" : `p99 ${latency(worst)}${isRecent ? "" : " since the start"}`,
    ],
    [
      "Backends up",
      `${count(overview.backends - overview.down)} of ${count(overview.backends)}`,
      `${count(overview.draining)} draining`,
    ],
  ];
  list(
    byId("tiles"),
    figures,
    ([name]) => name,
    ([name]) => {
      const [figure, more, line] = [element("b"), element("small", "soft"), element("div", "spark")];
      return filled(
        element("div", "tile", element("dt", "", name), element("dd", "", figure, more, line)),
        ([, value, note, values]) => {
          say(figure, value);
          say(more, note);
          if (values) spark(line, values);
        },
      );
    },
  );
}

function flow(rates, now) {
  const until = now * 1000;
  const series = ["opens", "closes"].map((name) => ({ name, values: rates.points.map((one) => [one.at, one[name]]) }));
  const marks = rates.points.filter((one) => one.mark).map((one) => [one.at, one.mark]);
  const text = rates.now ? `opens ${rate(rates.now.opens)}, closes ${rate(rates.now.closes)}` : "";
  lines(byId("flow"), {
    series,
    marks,
    until,
    length: rates.length,
    label: `Opens and closes a second in the last two minutes; now ${text}`,
  });
  list(
    byId("flow-legend"),
    series,
    (one) => one.name,
    (one) => {
      const figure = element("b");
      return filled(element("span", `key ${one.name}`, `${one.name} `, figure), ({ name }) =>
        say(figure, rates.now ? rate(rates.now[name]) : "–"),
      );
    },
  );
}

function handshakes(rates) {
  const {
    bounds,
    counts,
    isRecent,
    number,
    percentiles: [median, most, worst],
  } = rates.handshakes();
  const figures = () =>
    [
      `p50 ${latency(median)}`,
      `p90 ${latency(most)}`,
      `p99 ${latency(worst)}`,
      `${plural(number, "handshake")} ${isRecent ? "in the last minute" : "since the start"}`,
    ].join(" · ");
  say(byId("latency-legend"), number === 0 ? "none yet" : figures());
  columns(
    byId("latency"),
    counts.map((value, bucket) => {
      const name = bucket < bounds.length ? `≤${latency(bounds[bucket]).replace(" ", "")}` : "more";
      return { name, value, title: `${name}: ${plural(value, "handshake")}` };
    }),
  );
}

/** Reasons for which tunnels ended here, or in a process before this one while the page was open. */
const reasonsSeen = (rates) => [...new Set(rates.samples.flatMap((sample) => Object.keys(sample.totals.ended)))];

function reasons(rates, totals) {
  const recent = (value) => rates.grown(value);
  const byReason = reasonsSeen(rates).map((name) => ({
    name,
    value: totals.ended[name] ?? 0,
    recent: recent((of) => of.ended[name] ?? 0),
  }));
  byReason.sort((a, b) => b.recent - a.recent || b.value - a.value);
  bars(
    byId("reasons"),
    byReason
      .slice(0, 10)
      .map(({ name, value, recent }) => ({ name, value: recent, text: `${count(recent)} / ${count(value)}` })),
  );
  const codes = totals.close_codes.map(({ by, code, tunnels }) => ({
    key: `${by} ${code}`,
    name: code,
    tag: by,
    value: tunnels,
  }));
  bars(byId("codes"), codes.sort((a, b) => b.value - a.value).slice(0, 10));
  const refused = { ...totals.refused };
  for (const [name, value] of Object.entries(totals.not_admitted)) refused[`backend: ${name}`] = value;
  bars(
    byId("refusals"),
    Object.entries(refused)
      .map(([name, value]) => ({ name, tag: "refused", value }))
      .sort((a, b) => b.value - a.value)
      .slice(0, 8),
  );
}

function ages(status) {
  let from = 0;
  bars(
    byId("ages"),
    status.ages.map(({ under_seconds: under, tunnels }) => {
      const name = under === null ? `${span(from)} or more` : `under ${span(under)}`;
      from = under ?? from;
      return { name, value: tunnels };
    }),
  );
  say(byId("away"), status.away_from_home ? `${count(status.away_from_home)} away from home` : "");
}

function talkers({ talkers }, act) {
  list(
    byId("talkers").tBodies[0],
    talkers,
    (one) => one.id,
    () => {
      const [client, id, backend, key] = [
        element("span", "strong"),
        element("small", "soft mono"),
        element("span"),
        element("small", "soft mono"),
      ];
      const [up, down, age] = [cell("number", "From client"), cell("number", "From backend"), cell("number", "Age")];
      const close = element("button", "small", "Close…");
      close.type = "button";
      const head = element("th", "", client, id);
      head.scope = "row";
      return filled(
        element("tr", "", head, cell("", "Backend", backend, key), up, down, age, cell("actions", "", close)),
        (one) => {
          say(client, one.client);
          say(id, one.id);
          say(backend, `${one.upstream}/${one.backend_name ?? one.backend}`);
          say(key, one.key ? `key ${one.key}` : "");
          say(up, `${bytes(one.rates?.from_client ?? 0)}/s`);
          say(down, `${bytes(one.rates?.from_backend ?? 0)}/s`);
          say(age, span(one.age_ms / 1000));
          close.setAttribute("aria-label", `Close the tunnel ${one.id} of ${one.client}`);
          close.onclick = () => act.close({ ids: one.id });
        },
      );
    },
  );
}

function keys({ keys }) {
  list(
    byId("keys").tBodies[0],
    keys,
    (one) => `${one.upstream} ${one.key}`,
    () => {
      const [key, source, backend] = [element("span", "strong mono"), element("small", "soft"), element("span")];
      const [tunnels, carried] = [cell("number", "Tunnels"), cell("number", "Bytes")];
      const head = element("th", "", key, source);
      head.scope = "row";
      return filled(element("tr", "", head, cell("", "Backend", backend), tunnels, carried), (one) => {
        say(key, one.key);
        say(source, one.key_source);
        say(backend, `${one.upstream}/${one.backend}`);
        say(tunnels, count(one.tunnels));
        say(carried, `${bytes(one.bytes_a_second)}/s`);
      });
    },
  );
}

function admission({ update: { status, overview, totals }, rates }) {
  const waits = totals.waits.counts.length > 0 ? totals.waits.sum_seconds / Math.max(1, sum(totals.waits.counts)) : 0;
  const turns = rates.grown((of) => of.admitted);
  const facts = [
    ["waiting for a turn", count(overview.waiting)],
    ["turns in the last minute", `${count(turns)}, ${latency(waits)} on average`],
    ["handshakes in progress", count(totals.handshakes_in_progress)],
    ["connections that are no tunnel", count(totals.connections)],
    ["plain requests under way", count(status.requests)],
  ];
  list(
    byId("admission"),
    facts,
    ([name]) => name,
    ([name]) => {
      const value = element("dd");
      return filled(element("div", "", element("dt", "soft", name), value), ([, text]) => say(value, text));
    },
  );
}

function discovery(status) {
  const found = status.upstreams.filter((one) => one.discovery);
  list(
    byId("discovery"),
    found,
    (one) => one.name,
    () =>
      line(({ name, discovery: { source, age_seconds: age, members, problem } }) => ({
        level: problem || age === null ? "warn" : "good",
        text: name,
        value: age === null ? "no answer yet" : `${span(age)} ago`,
        more: `${plural(members, "member")} by ${source}${problem ? `: ${problem}` : ""}`,
      })),
  );
}

function certificates(status, now) {
  const soonest = status.certificates.toSorted((a, b) => a.expires_at - b.expires_at);
  const dated = soonest.map((one) => ({ ...one, now }));
  list(
    byId("certificates"),
    dated,
    (one) => `${one.name} ${one.expires_at}`,
    () =>
      line(({ name, expires_at: end, now }) => ({
        level: end - now < SOON / 4 ? "bad" : end - now < SOON ? "warn" : "good",
        text: name,
        value: end > now ? `in ${span(end - now)}` : "expired",
        more: `until ${new Date(end * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`,
      })),
  );
}

function line(of) {
  const [dot, text, value, more] = [
    element("i", "dot"),
    element("span", "strong"),
    element("b"),
    element("small", "soft"),
  ];
  return filled(element("li", "", dot, text, value, more), (item, root) => {
    const shown = of(item);
    root.dataset.level = shown.level;
    say(text, shown.text);
    say(value, shown.value);
    say(more, shown.more);
  });
}

function events(history, now) {
  const health = history.health.slice(0, 30).map((event) => ({
    at: event.at,
    ok: event.to === "up" || event.to === "returned",
    kind: TURNS[event.to] ?? event.to,
    subject: `${event.upstream}/${event.backend}`,
    message: event.reason,
  }));
  timeline(byId("health"), health, now);
  const all = ["reloads", "upgrades", "drains", "members"].flatMap((book) =>
    history[book].map((event) => ({ ...event, kind: book.replace(/s$/, ""), subject: "" })),
  );
  timeline(byId("timeline"), all.sort((a, b) => b.at - a.at).slice(0, 30), now);
}

function timeline(box, all, now) {
  const numbers = new Map();
  const keyed = all
    .toReversed()
    .map((event) => {
      // The same event may happen twice in a second.
      const key = `${event.at} ${event.kind} ${event.subject} ${event.message}`;
      numbers.set(key, (numbers.get(key) ?? 0) + 1);
      return { ...event, now, key: `${key} ${numbers.get(key)}` };
    })
    .toReversed();
  list(
    box,
    keyed,
    (event) => event.key,
    (event) => {
      const time = element("time");
      time.dateTime = new Date(event.at * 1000).toISOString();
      time.title = time.dateTime;
      const kind = element("span", "kind", event.kind);
      const text = element(
        "p",
        "",
        ...(event.subject ? [element("span", "strong", event.subject), " "] : []),
        event.message,
      );
      const root = element("li", "", time, kind, text);
      root.dataset.level = event.ok ? "good" : "bad";
      if (event.details)
        text.append(element("details", "", element("summary", "", "its plan"), element("pre", "", event.details)));
      return filled(root, ({ at, now }) => say(time, `${about(now - at)} ago`));
    },
  );
}
