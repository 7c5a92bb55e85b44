"use strict";
document.documentElement.classList.add("js");
const data = JSON.parse(document.getElementById("data").textContent);
const percent = value => (100 * value).toFixed(1);

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    if (cell.dataset.fixed !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = cell.getAttribute("aria-sort");
      const rising = before ? before === "descending" : column === 0;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => column ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b));
      body.append(...[...body.rows].sort((a, b) => rising ? order(a, b) : order(b, a)));
    });
  });
}

for (const row of document.querySelectorAll("#per-label tbody tr")) {
  const slider = row.querySelector("input[type=range]");
  if (!slider) continue;
  const label = data.labels[row.dataset.label], [output, reset] = [row.querySelector("output"), row.querySelector(".reset")];
  const show = (place, threshold, moved) => {
    const hits = label.hits[place], named = label.named[place], true_ = label.support;
    const measures = {precision: named ? hits / named : null, recall: true_ ? hits / true_ : null,
                      f1: named + true_ ? 2 * hits / (named + true_) : null};
    for (const [key, value] of Object.entries(measures)) {
      const cell = row.querySelector(".m-" + key);
      cell.dataset.value = value ?? -1;
      cell.querySelector("b").textContent = value === null ? "–" : percent(value);
      cell.querySelector(".bar").style.setProperty("--v", value ?? 0);
    }
    output.textContent = threshold.toFixed(moved ? 2 : 3);
    row.classList.toggle("moved", moved);
    reset.disabled = !moved;
  };
  slider.addEventListener("input", () => show(Number(slider.value), slider.value / data.steps, true));
  reset.addEventListener("click", () => {
    slider.value = Math.round(label.threshold * data.steps);
    show(data.steps + 1, label.threshold, false);
    slider.focus();
  });
}

const gallery = document.getElementById("cell");
for (const button of document.querySelectorAll("[data-cell]")) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") === "true";
    document.querySelectorAll("[data-cell][aria-pressed=true]").forEach(other => other.setAttribute("aria-pressed", "false"));
    gallery.replaceChildren();
    if (open) return;
    button.setAttribute("aria-pressed", "true");
    const title = document.createElement("h3");
    title.textContent = button.getAttribute("aria-label");
    gallery.append(title);
    for (const row of data.cells[button.dataset.cell]) {
      const file = data.files[row], item = document.createElement("div");
      if (file.src) {
        const image = new Image();
        image.src = file.src;
        image.alt = "";
        item.append(image);
      }
      item.append(file.name);
      for (const [kind, labels] of [["missed", file.missed], ["wrong", file.wrong]]) {
        if (!labels.length) continue;
        const line = document.createElement("span");
        line.className = kind;
        line.textContent = labels.join(", ");
        item.append(document.createElement("br"), line);
      }
      gallery.append(item);
    }
    gallery.scrollIntoView({block: "nearest"});
  });
}

const ring = document.querySelector(".ring");
for (const node of ring ? ring.querySelectorAll(".node") : []) {
  const pick = on => {
    ring.classList.toggle("picked", on);
    const seen = new Set([node.dataset.node]);
    for (const arc of ring.querySelectorAll(".arcs path")) {
      const ends = arc.dataset.ends.split(" "), own = on && ends.includes(node.dataset.node);
      arc.classList.toggle("on", own);
      if (own) ends.forEach(end => seen.add(end));
    }
    for (const other of ring.querySelectorAll(".node")) other.classList.toggle("on", on && seen.has(other.dataset.node));
  };
  for (const name of ["mouseenter", "focus"]) node.addEventListener(name, () => pick(true));
  for (const name of ["mouseleave", "blur"]) node.addEventListener(name, () => pick(false));
}
