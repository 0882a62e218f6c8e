// Numbers, times and lengths as people read them, and elements that hold text only.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const grouped = new Intl.NumberFormat("en");

/** A count: 12,345. */
export const count = (number) => grouped.format(Math.round(number));

/** A rate: with the places that it needs below ten. */
export const rate = (number) =>
  number === 0 ? "0" : number < 0.1 ? number.toFixed(2) : number < 10 ? number.toFixed(1) : count(number);

/** Bytes: 1.5 MiB. */
export function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < UNITS.length - 1) {
    number /= 1024;
    unit++;
  }
  return `${unit > 0 && number < 10 ? number.toFixed(1) : Math.round(number)} ${UNITS[unit]}`;
}

/** A length of time, in its two greatest units at most: 3 d 4 h. */
export function span(seconds) {
  const units = [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1],
  ];
  const whole = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, length]) => whole >= length);
  if (first < 0) return "0 s";
  const [name, length] = units[first];
  const big = Math.floor(whole / length);
  const next = units[first + 1];
  const small = next && big < 10 ? Math.floor((whole % length) / next[1]) : 0;
  return small > 0 ? `${big} ${name} ${small} ${next[0]}` : `${big} ${name}`;
}

/** A length of time in its greatest unit: 3 d. */
export const about = (seconds) => span(seconds).split(" ").slice(0, 2).join(" ");

/** A short time of a measurement: 250 µs, 4.2 ms, 1.3 s. */
export function latency(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Milliseconds of a text such as 30s or 5m; null where it is empty. */
export function milliseconds(text, field) {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const found = /^(\d+)\s*(ms|s|m|min|h|d)$/.exec(trimmed);
  if (!found) throw new Error(`${field}: expected a time such as 30s, 5m or 1h`);
  return Number(found[1]) * { ms: 1, s: 1e3, m: 6e4, min: 6e4, h: 3.6e6, d: 8.64e7 }[found[2]];
}

export const byId = (id) => document.getElementById(id);

/** An element with a class and text or children. Whatever the gateway says is text, never markup. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Sets a text where it differs, so that selections, focus and screen readers are left in peace. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/**
 * Makes the children of `parent` show `items` in their order. A child stays the same for the same key: `make` returns
 * it once, with a function `show` that is called for each update; whatever changes has to stand in the item.
 */
export function list(parent, items, keyOf, make) {
  const known = (parent.shown ??= new Map());
  const wanted = new Set();
  let place = null;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let child = known.get(key);
    if (!child) known.set(key, (child = make(item)));
    child.show(item);
    const next = place ? place.nextSibling : parent.firstChild;
    if (next !== child.root) parent.insertBefore(child.root, next);
    place = child.root;
  }
  for (const [key, child] of known) {
    if (!wanted.has(key)) {
      child.root.remove();
      known.delete(key);
    }
  }
  const none = parent.closest("section")?.querySelector(".none");
  if (none) hide(none, wanted.size > 0);
}

/** A child of a list from an element that is filled anew for each update. */
export const filled = (root, show) => ({ root, show: (item) => show(item, root) });

/** A cell of a table, with the name of its column for narrow screens. */
export function cell(className, label, ...children) {
  const made = element("td", className, ...children);
  made.dataset.label = label;
  return made;
}

export const nameOf = (backend) => backend.name || backend.address;
