// Map: rasters on their way to a map, finished ones, and one of them to be looked at.
import { ask, attempt, empty, h, percent, post, show } from "./dom.js";
import { follow, openOf, refresh, row as jobRow } from "./jobs.js";
import { scoreList, similar } from "./label.js";
import { Viewer, cells } from "./viewer.js";

export async function mapView(main, state, [id]) {
  if (!state.maps) {
    show(main, empty("Maps need rasterio", h("p", {}, "Install it with pip install 'rsml[raster]' and start the page again.")));
    return undefined;
  }
  return id ? oneMap(main, id) : list(main);
}

/** Sends a large file with progress; `fetch` shows none while it sends. */
function send(file, bar, stop) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const body = new FormData();
    body.append("files", file, file.name);
    request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
    request.onload = () => {
      const found = JSON.parse(request.responseText || "{}");
      if (request.status === 200) resolve(found[0]); else reject(new Error(found.error ?? request.statusText));
    };
    request.onerror = () => reject(new Error("The file could not be sent; the server does not answer."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    stop.addEventListener("abort", () => request.abort());
    request.open("POST", "/page/images?scene=true");
    request.send(body);
  });
}

async function list(main) {
  const number = (label) => h("input", { type: "number", min: "1", placeholder: "as trained", "aria-label": label, size: "8" });
  const window_ = number("Window in pixels"), step = number("Step in pixels");
  const work = h("div", { "aria-live": "polite" }), jobs = h("div"), maps = h("div");
  const begin = (file) => attempt(async () => {
    const stop = new AbortController();
    const bar = h("progress", { max: "1", value: "0", "aria-label": "Sending the raster" });
    show(work, h("div", { class: "job" }, h("b", {}, file.name), bar, h("button", { onclick: () => stop.abort() }, "Cancel")));
    try {
      const kept = await send(file, bar, stop.signal);
      await post(`/page/maps?id=${kept.id}&name=${encodeURIComponent(file.name)}&window=${window_.value || 0}&step=${step.value || 0}`);
      await refresh();
    } finally { show(work); }
  });
  const pick = h("input", { type: "file", class: "hidden", "aria-label": "Choose a raster", accept: ".tif,.tiff,.jp2,.vrt,.img,image/*", onchange: () => { if (pick.files[0]) begin(pick.files[0]); pick.value = ""; } });
  show(main, h("section", { class: "drop" }, h("h1", {}, "Map a raster"),
    h("p", { class: "soft" }, "A window slides over it; every cell gets the scores of all labels. With or without coordinates."),
    h("div", { class: "row centre" }, h("button", { class: "main", onclick: () => pick.click() }, "Choose a raster"), pick,
      h("label", {}, "Window ", window_), h("label", {}, "Step ", step))), work, jobs, maps);
  const load = async () => {
    const found = await ask("/page/maps");
    show(maps, found.length ? [h("h2", {}, "Maps"), h("div", { class: "results" }, found.map((one) => h("a", { class: "card", href: `#map/${one.id}`, "data-map": one.id },
      h("h3", {}, one.name), h("img", { class: "wide", src: `/page/maps/${one.id}/files/quicklook.png`, alt: `Picture of the map ${one.name}`, loading: "lazy" }))))]
      : empty("No maps yet", h("p", {}, "Choose a GeoTIFF or any large picture above, or drop one on Label. The map is made as a job: this page may be closed meanwhile.")));
  };
  let done = "";
  const stop = follow((all) => {
    const own = all.filter((job) => job.kind === "map" && job.state !== "done");
    show(jobs, own.map((job) => jobRow(job, openOf(job))));
    const now = String(all.filter((job) => job.kind === "map" && job.state === "done").map((job) => job.id));
    if (now !== done) { done = now; attempt(load); }
  });
  await load();
  return stop;
}

function slider(title, value, change) {
  const output = h("output", {}, percent(value, 0));
  const input = h("input", { type: "range", min: "0", max: "1", step: "0.01", value: String(value), "aria-label": title, oninput: () => { output.textContent = percent(Number(input.value), 0); change(Number(input.value)); } });
  return h("label", { class: "slider" }, h("span", {}, title.split(" of ")[0]), input, output);
}

async function oneMap(main, id) {
  const about = await ask(`/page/maps/${id}`);
  const canvas = h("canvas", { tabIndex: 0, role: "application", "aria-label": `Map of ${about.name}: arrows move from cell to cell, Enter shows a cell, plus and minus zoom, 0 shows all` });
  const tip = h("div", { class: "tip", hidden: true }), said = h("p", { class: "hidden", "aria-live": "polite" });
  const picked = h("section", { class: "card" }, h("h2", {}, "A cell"), h("p", { class: "soft" }, "Click one, or move with the arrows and press Enter: its tile, class maps and similar scenes."));
  const scoresOf = cells(id);
  const total = Math.max(1, Object.values(about.cells).reduce((product, side) => product * side, 1));
  const named = (scores) => scores.map((score, column) => (about.task === "multi-label" ? score > about.thresholds[column] : score === Math.max(...scores)));
  let asked = 0;

  const onCell = async (row, column, event) => {
    const own = ++asked;
    if (row === null) { tip.hidden = true; return; }
    if (event) {
      tip.style.left = `${Math.min(event.offsetX + 14, canvas.clientWidth - 210)}px`;
      tip.style.top = `${Math.min(event.offsetY + 14, canvas.clientHeight - 150)}px`;
    } else Object.assign(tip.style, { left: "4rem", top: ".6rem" });
    const found = await scoresOf(row, column).catch(() => null);
    if (own !== asked || !found) return;
    const order = (found.scores ?? []).map((score, at) => [score, about.labels[at]]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    show(tip, h("b", {}, `Row ${row}, column ${column}`), order.length ? order.map(([score, name]) => h("span", {}, h("i", {}, name), percent(score))) : "not labelled");
    tip.hidden = false;
    if (!event) said.textContent = `Row ${row}, column ${column}: ${order.slice(0, 3).map(([score, name]) => `${name} ${percent(score, 0)}`).join(", ") || "not labelled"}`;
  };

  const onPick = (row, column) => attempt(async () => {
    const [found, tile] = await Promise.all([scoresOf(row, column), post(`/page/maps/${id}/cells/${row}/${column}/tile`)]);
    const picture = h("img", { class: "picture", src: `/page/images/${tile.id}/picture?side=384`, alt: `Window around row ${row}, column ${column}` });
    const alike = h("details", { ontoggle: (event) => { if (event.target.open && event.target.children.length < 2) event.target.append(similar(tile.id)); } }, h("summary", {}, "Most similar training scenes"));
    const place = about.crs ? `${found.x.toFixed(1)}, ${found.y.toFixed(1)} (${about.crs})` : `pixel ${tile.left}, ${tile.top}`;
    show(picked, h("h2", {}, `Row ${row}, column ${column}`), h("p", { class: "soft" }, place), picture,
      found.scores ? scoreList(about, { id: tile.id, scores: found.scores, named: named(found.scores) }, picture, 384) : h("p", {}, "Not labelled: too much of its window is missing."), alike);
  });

  const viewer = new Viewer(canvas, about, { onCell, onPick });
  const order = about.labels.map((_, column) => column).sort((a, b) => (about.cells_with[about.labels[b]] ?? 0) - (about.cells_with[about.labels[a]] ?? 0));
  let first = order[0];
  const shade = h("a", { class: "button", download: true }, "Style of the raster (.qml)");
  const restyle = () => { shade.href = `/page/maps/${id}/files/probabilities.qml?column=${first}`; shade.title = `Shows ${about.labels[first]}`; };
  const layers = h("ul", { class: "layers" }, order.map((column, place) => {
    const own = { opacity: 0.55, threshold: about.thresholds[column] };
    const set = (change) => { Object.assign(own, change); attempt(() => viewer.layer(column, own)); };
    const sliders = h("div", { hidden: true }, slider(`Opacity of ${about.labels[column]}`, own.opacity, (opacity) => set({ opacity })), slider(`Threshold of ${about.labels[column]}`, own.threshold, (threshold) => set({ threshold })));
    const box = h("input", { type: "checkbox", checked: place < 3 && about.cells_with[about.labels[column]] > 0, onchange: () => turn() });
    const turn = () => { sliders.hidden = !box.checked; if (box.checked) { first = column; restyle(); set({}); } else viewer.hide(column); };
    if (box.checked) turn();
    return h("li", { "data-layer": about.labels[column] }, h("label", {}, box, h("span", { class: "swatch", vars: { "--c": about.colours[column] } }), about.labels[column],
      h("small", {}, `${percent((about.cells_with[about.labels[column]] ?? 0) / total, 0)} %`)), sliders);
  }));
  first = order[0];
  restyle();
  const file = (name, title) => h("a", { class: "button", href: `/page/maps/${id}/files/${name}`, download: true }, title);
  show(main, h("p", {}, h("a", { href: "#map" }, "← All maps")), h("div", { class: "row spread" }, h("h1", {}, about.name),
    h("p", { class: "soft" }, `${about.size[1]} × ${about.size[0]} pixels, ${about.cells[1]} × ${about.cells[0]} cells, ${about.crs ?? "no coordinates"}`)),
  h("div", { class: "viewer" }, h("div", {}, h("div", { class: "stage" }, canvas, tip, h("div", { class: "zoom" },
    h("button", { "aria-label": "Zoom in", onclick: () => viewer.zoom(1.4) }, "+"), h("button", { "aria-label": "Zoom out", onclick: () => viewer.zoom(1 / 1.4) }, "−"), h("button", { "aria-label": "Show all", onclick: () => viewer.fit() }, "⤢"))), said,
  h("div", { class: "row" }, file("tiles.gpkg", "GeoPackage"), file("tiles.qml", "Its QGIS style (.qml)"), file("probabilities.tif", "GeoTIFF"), shade)),
  h("div", {}, h("section", { class: "card" }, h("h2", {}, "Labels"), layers), picked)));
  return () => viewer.close();
}
