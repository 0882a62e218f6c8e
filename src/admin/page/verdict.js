// The first line: what needs somebody, the worst first.

import { sum } from "./rates.js";
import { about, byId, element, filled, list, nameOf, plural, say, span } from "./words.js";

const PHASES = {
  grace: "draining: not ready any more, still accepting",
  closing: "draining: closed to everything new",
};
/** A certificate is to be renewed within this time, in seconds. */
export const SOON = 14 * 86_400;
const MOST_PROBLEMS = 6;

/** The latest turn of each backend's health, by `upstream/backend`. */
export const turnsOf = (history) =>
  new Map((history?.health ?? []).toReversed().map((event) => [`${event.upstream}/${event.backend}`, event]));

/** What needs somebody: [level, text], the worst first. */
export function problems({ update: { status, overview }, history, rates }, now) {
  const found = [];
  if (status.phase !== "serving") found.push(["bad", `The gateway is ${PHASES[status.phase] ?? status.phase}`]);
  const turned = turnsOf(history);
  for (const { name, backends, discovery } of status.upstreams) {
    if (backends.length > 0 && backends.every((one) => !one.up)) found.push(["bad", `${name}: no backend is up`]);
    for (const one of backends) {
      const full = `${name}/${nameOf(one)}`;
      const turn = turned.get(full);
      const why = turn ? `, ${about(now - turn.at)} ago: ${turn.reason}` : "";
      if (!one.up) found.push(["bad", `${full} is down${why}`]);
      else if (one.ejected) found.push(["warn", `${full} is ejected${why}`]);
      if (one.draining) found.push(["note", `${full} is drained: ${plural(one.tunnels, "tunnel")} left`]);
      else if (one.leaving) found.push(["note", `${full} leaves: ${plural(one.tunnels, "tunnel")} left`]);
    }
    if (discovery?.problem)
      found.push(["warn", `${name}: members by ${discovery.source} are not followed: ${discovery.problem}`]);
    else if (discovery && discovery.age_seconds === null)
      found.push(["warn", `${name}: its source of members has not answered yet`]);
  }
  if (status.last_reload && !status.last_reload.ok) {
    found.push([
      "bad",
      `The last reload was refused, ${span(now - status.last_reload.at)} ago: ${status.last_reload.message}`,
    ]);
  }
  if (status.last_upgrade && !status.last_upgrade.ok) {
    found.push([
      "bad",
      `The last upgrade failed, ${span(now - status.last_upgrade.at)} ago: ${status.last_upgrade.message}`,
    ]);
  }
  for (const { name, expires_at: end } of status.certificates) {
    if (end - now < SOON) {
      found.push([
        end - now < SOON / 4 ? "bad" : "warn",
        end > now
          ? `The certificate of ${name} expires in ${span(end - now)}`
          : `The certificate of ${name} has expired`,
      ]);
    }
  }
  if (overview.waiting > 0)
    found.push(["note", `${plural(overview.waiting, "client")} wait for their turn at a backend`]);
  const refused = rates.grown((totals) => sum(Object.values(totals.refused)) + sum(Object.values(totals.not_admitted)));
  if (refused > 0) found.push(["warn", `${plural(refused, "client")} refused in the last minute`]);
  const order = ["bad", "warn", "note"];
  return found.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
}

/** Shows what was found. */
export function verdict(found) {
  const level = found[0]?.[0] ?? "good";
  byId("verdict").dataset.level = level;
  const urgent = found.filter(([kind]) => kind !== "note").length;
  say(
    byId("verdict-line"),
    urgent > 0
      ? `${plural(urgent, "thing")} to look at`
      : found.length > 0
        ? "All is well; something is under way"
        : "All is well",
  );
  const shown = found.slice(0, MOST_PROBLEMS);
  if (found.length > shown.length) shown.push(["note", `and ${found.length - shown.length} more`]);
  list(
    byId("problems"),
    shown.map(([kind, text], place) => ({ kind, text, place })),
    (item) => item.place,
    () =>
      filled(element("li"), (item, root) => {
        root.dataset.level = item.kind;
        say(root, item.text.split("\n")[0]);
      }),
  );
}
