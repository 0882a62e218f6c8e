// Charts: lines over the last two minutes, sparks, columns and bars. Each has its figures as text beside it.

import { count, element, filled, list, say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

/** The least of 1, 2 and 5 times a power of ten that is no less than `value`. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((times) => times * power).find((limit) => limit >= value);
}

/** Lines over time. `series`: [{ name, values: [[at, value]] }], `marks`: [[at, text]]. */
export function lines(box, { series, marks, until, length, label }) {
  const top = roundUp(Math.max(...series.flatMap((one) => one.values.map(([, value]) => value)), 1));
  const [width, height] = [400, 120];
  const x = (at) => width * (1 - (until - at) / length);
  const y = (value) => height * (1 - value / top);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  for (const share of [0.5, 1]) {
    drawing.append(svg("line", { class: "rule", x1: 0, x2: width, y1: y(top * share), y2: y(top * share) }));
  }
  for (const [at] of marks) drawing.append(svg("line", { class: "mark", x1: x(at), x2: x(at), y1: 0, y2: height }));
  for (const { name, values } of series) {
    if (values.length === 0) continue;
    const points = values.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const area = [`${x(values[0][0]).toFixed(1)},${height}`, ...points, `${x(values.at(-1)[0]).toFixed(1)},${height}`];
    drawing.append(svg("polygon", { class: `area ${name}`, points: area.join(" ") }));
    drawing.append(svg("polyline", { class: `line ${name}`, points: points.join(" ") }));
  }
  const scale = [top, top / 2, 0].map((value) => element("span", "", value % 1 ? value.toFixed(1) : count(value)));
  const texts = marks.map(([at, text]) => {
    const made = element("span", "mark-text", text);
    made.style.left = `${(100 * x(at)) / width}%`;
    return made;
  });
  const times = element("div", "times", element("span", "", "2 min ago"), element("span", "", "now"));
  box.replaceChildren(element("div", "scale", ...scale), element("div", "plot", drawing, ...texts), times);
}

/** A small line without figures. */
export function spark(box, values) {
  const top = Math.max(...values, 1e-9);
  const points = values.map(
    (value, index) =>
      `${((100 * index) / Math.max(values.length - 1, 1)).toFixed(1)},${(22 - (20 * value) / top).toFixed(1)}`,
  );
  const drawing = svg("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (points.length > 1) drawing.append(svg("polyline", { class: "line", points: points.join(" ") }));
  box.replaceChildren(drawing);
}

/** Columns of a distribution: [{ name, value, title }]. */
export function columns(box, items) {
  const top = Math.max(...items.map((item) => item.value), 1);
  list(
    box,
    items.map((item) => ({ ...item, top })),
    (item) => item.name,
    () => {
      const [fill, name, figure] = [element("i"), element("small"), element("b")];
      const well = element("div", "well", fill);
      return filled(element("div", "column", figure, well, name), (item) => {
        fill.style.height = `${(100 * item.value) / item.top}%`;
        say(name, item.name);
        say(figure, item.value > 0 ? count(item.value) : "");
        well.parentElement.title = item.title;
      });
    },
  );
}

/** Bars with their figures: [{ key, name, tag, value, text }]. */
export function bars(box, items) {
  const top = Math.max(...items.map((item) => item.value), 1);
  list(
    box,
    items.map((item) => ({ ...item, top })),
    (item) => item.key ?? item.name,
    () => {
      const [name, tag, figure, fill] = [element("span"), element("small", "soft"), element("b"), element("i")];
      const root = element("li", "", element("span", "name", name, tag), figure, element("div", "well", fill));
      return filled(root, (item) => {
        say(name, item.name);
        say(tag, item.tag ?? "");
        say(figure, item.text ?? count(item.value));
        fill.style.width = `${(100 * item.value) / item.top}%`;
      });
    },
  );
}
