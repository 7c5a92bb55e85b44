// A line chart of a training that grows while it is looked at.
const NS = "http://www.w3.org/2000/svg";

function s(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function ticks(low, high) {
  const span = high - low || 1;
  const step = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(span / 4))).find((one) => span / one <= 5) ?? span;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}

/** series: [{name, values}], values may be null; epochs: how many there will be. */
export function lineChart(title, series, epochs) {
  const width = 360, height = 200, left = 46, right = 12, top = 10, bottom = 26;
  const all = series.flatMap((one) => one.values).filter((value) => value !== null && value !== undefined);
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.append(Object.assign(document.createElement("b"), { textContent: title }));
  for (const [number, one] of series.entries()) {
    const last = one.values.findLast((value) => value !== null && value !== undefined);
    caption.append(Object.assign(document.createElement("span"), { className: `key k${number}`, textContent: `${one.name} ${last === undefined ? "–" : Number(last.toPrecision(3))}` }));
  }
  figure.append(caption);
  if (!all.length) return figure;
  let low = Math.min(...all), high = Math.max(...all);
  if (low === high) { low -= Math.abs(low) * 0.1 || 0.5; high += Math.abs(high) * 0.1 || 0.5; }
  const x = (epoch) => left + (epoch - 1) / Math.max(1, epochs - 1) * (width - left - right);
  const y = (value) => height - bottom - (value - low) / (high - low) * (height - top - bottom);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${series.map((one) => `${one.name} over ${one.values.length} epochs`).join(", ")}` });
  for (const value of ticks(low, high)) {
    svg.append(s("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  const every = Math.max(1, Math.ceil(epochs / 6));
  for (let epoch = 1; epoch <= epochs; epoch += every) svg.append(s("text", { x: x(epoch), y: height - 8, "text-anchor": "middle" }, String(epoch)));
  for (const [number, one] of series.entries()) {
    let path = "";
    one.values.forEach((value, place) => {
      if (value === null || value === undefined) return;
      path += `${path ? "L" : "M"}${x(place + 1).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    svg.append(s("path", { d: path, class: `line l${number}` }));
    one.values.forEach((value, place) => {
      if (value === null || value === undefined || one.values.length > 40) return;
      svg.append(s("circle", { cx: x(place + 1), cy: y(value), r: 2.6, class: `dot l${number}` }));
    });
  }
  figure.append(svg);
  return figure;
}
