// Label: drop images, read scores, see where they come from and which training scenes are alike.
import { ask, attempt, h, percent, post, show, toast } from "./dom.js";
import { inline, refresh } from "./jobs.js";

const BATCH = 8;
const IMAGE = /\.(jpe?g|png|tiff?|bmp|gif|webp|jp2|vrt|img)$/i;
const results = []; // kept while other views are shown

async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const one of some) await walk(one);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

/** Bars of an image's labels; pointing at one, or the keyboard's focus, shows its class map in the picture. */
export function scoreList(state, { id, scores, named }, picture, side = 512) {
  const plain = `/page/images/${id}/picture?side=${side}`;
  const order = scores.map((_, column) => column).sort((a, b) => (named[b] - named[a]) || scores[b] - scores[a]);
  const short = 6;
  const rows = order.map((column, place) => {
    const threshold = state.thresholds?.[column];
    const turn = (source, name) => {
      picture.dataset.map = name;
      picture.classList.add("loading");
      picture.onload = () => picture.classList.remove("loading");
      picture.onerror = () => { picture.onerror = null; picture.src = plain; };
      picture.src = source;
    };
    const over = () => turn(`/page/images/${id}/map/${column}?side=${side}`, state.labels[column]);
    const out = () => turn(plain, "");
    return h("li", { class: place >= short && !named[column] ? "more" : "" },
      h("button", {
        class: named[column] ? "score named" : "score", onmouseenter: over, onfocus: over, onmouseleave: out, onblur: out,
        vars: { "--v": scores[column], "--t": threshold ?? 2, "--c": state.colours[column] },
        "aria-label": `${state.labels[column]}: ${percent(scores[column])} percent${named[column] ? ", named" : ""}${threshold === undefined ? "" : `, from ${percent(threshold, 0)} on`}; shows its class map`,
      }, h("span", { class: "name" }, state.labels[column]), h("span", { class: "bar", "aria-hidden": "true" }), h("span", { class: "number" }, percent(scores[column]))));
  });
  const list = h("ul", { class: "scores" }, rows);
  const hidden = rows.filter((item) => item.classList.contains("more")).length;
  if (!hidden) return list;
  const all = h("button", { class: "quiet", "aria-expanded": "false", onclick: () => {
    const open = list.classList.toggle("all");
    all.setAttribute("aria-expanded", String(open));
    all.textContent = open ? "Fewer" : `${hidden} more`;
  } }, `${hidden} more`);
  return h("div", {}, list, all);
}

/** The training scenes most alike, or the offer to index them. */
export function similar(id) {
  const place = h("div", { class: "similar" });
  const load = () => attempt(async () => {
    show(place, h("p", { class: "soft" }, "Searching…"));
    const found = await ask(`/page/images/${id}/similar`).catch((fault) => { show(place); throw fault; });
    if (found.state !== "ready") {
      const begin = h("button", { class: "main", onclick: () => attempt(async () => {
        const job = await post("/page/index");
        show(place, inline(job.id, load));
      }) }, `Index the ${found.images} training images`);
      show(place, h("p", {}, found.state === "old" ? "The index is of a model before this one." : "The training images are not indexed yet; it takes a moment, once."), begin);
      return;
    }
    show(place, h("ol", { class: "thumbs", "aria-label": "Most similar training scenes" }, found.found.map((one) => h("li", {},
      h("img", { src: `/page/images/${one.id}/picture?side=160`, alt: one.path, loading: "lazy" }),
      h("b", {}, one.similarity.toFixed(3)), h("span", {}, one.labels.join(", ") || "no label")))));
  });
  load();
  return place;
}

function card(state, one) {
  if (one.error) return h("article", { class: "card bad" }, h("h3", {}, one.name), h("p", { class: "fault" }, one.error));
  if (one.scene) {
    return h("article", { class: "card" }, h("h3", {}, one.name),
      h("p", {}, "A large raster: it is mapped, window by window, as a job that may be closed and found again."),
      h("button", { class: "main", onclick: () => attempt(async () => {
        await post(`/page/maps?id=${one.id}&name=${encodeURIComponent(one.name)}`);
        location.hash = "map";
        refresh();
      }) }, "Map it"));
  }
  const picture = h("img", { class: "picture", src: `/page/images/${one.id}/picture?side=512`, alt: one.name, loading: "lazy" });
  const names = state.labels.filter((_, column) => one.named[column]);
  const alike = h("details", { ontoggle: (event) => { if (event.target.open && event.target.children.length < 2) event.target.append(similar(one.id)); } },
    h("summary", {}, "Most similar training scenes"));
  return h("article", { class: "card image", "data-name": one.name },
    h("figure", {}, picture), h("div", {},
      h("h3", {}, one.name), h("p", { class: "names" }, names.length ? names.join(", ") : "No label passes its threshold."),
      scoreList(state, one, picture), alike));
}

export function labelView(main, state) {
  const list = h("div", { class: "results" });
  const work = h("div", { "aria-live": "polite" });
  const clear = h("button", { class: "quiet", onclick: () => { results.length = 0; draw(); } }, "Clear");
  const table = h("button", { class: "quiet", onclick: () => save(state) }, "Scores as CSV");
  const tools = h("div", { class: "row end" }, table, clear);
  const draw = () => {
    tools.hidden = !results.length;
    show(list, results.map((one) => one.card ??= card(state, one)));
  };

  const take = (given) => attempt(async () => {
    const files = given.filter((file) => IMAGE.test(file.name));
    if (!files.length) { toast(given.length ? "None of these files is an image." : "There is no file in it.", true); return; }
    if (files.length < given.length) toast(`${given.length - files.length} files are no images and were left out.`);
    const stop = new AbortController();
    const bar = h("progress", { max: String(files.length), value: "0", "aria-label": "Labelling" });
    const text = h("span", {}, `0 of ${files.length}`);
    show(work, h("div", { class: "job running" }, h("div", { class: "job-head" }, h("b", {}, "Labelling"), text), bar,
      h("button", { onclick: () => stop.abort() }, "Cancel")));
    try {
      for (let at = 0; at < files.length;) {
        let size = 0;
        const some = [];
        while (at < files.length && some.length < BATCH && (!some.length || size + files[at].size < 2 ** 26)) { size += files[at].size; some.push(files[at++]); }
        const body = new FormData();
        for (const file of some) body.append("files", file, file.webkitRelativePath || file.name);
        results.unshift(...await ask("/page/images", { method: "POST", body, signal: stop.signal }));
        bar.value = at;
        text.textContent = `${at} of ${files.length}`;
        draw();
      }
    } finally { show(work); }
  });

  const pick = h("input", { type: "file", multiple: true, accept: "image/*,.tif,.tiff,.jp2,.vrt", "aria-label": "Choose images", class: "hidden", onchange: () => { take([...pick.files]); pick.value = ""; } });
  const folder = h("input", { type: "file", multiple: true, webkitdirectory: true, "aria-label": "Choose a folder", class: "hidden", onchange: () => { take([...folder.files]); folder.value = ""; } });
  const drop = h("section", { class: "drop", "aria-label": "Drop images here" },
    h("h1", {}, "Drop images, a folder or a GeoTIFF"),
    h("p", { class: "soft" }, "They stay on this machine. Point at a label to see where its score comes from."),
    h("div", { class: "row centre" },
      h("button", { class: "main", onclick: () => pick.click() }, "Choose images"), h("button", { onclick: () => folder.click() }, "Choose a folder")), pick, folder);
  const over = (event) => { event.preventDefault(); drop.classList.add("over"); };
  const out = () => drop.classList.remove("over");
  const dropped = (event) => { event.preventDefault(); out(); attempt(async () => take(await filesOf(event.dataTransfer))); };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", out);
  document.addEventListener("drop", dropped);
  show(main, drop, work, tools, list);
  draw();
  return () => {
    document.removeEventListener("dragover", over);
    document.removeEventListener("dragleave", out);
    document.removeEventListener("drop", dropped);
  };
}

function save(state) {
  const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [["path", ...state.labels.map((name) => `score ${name}`), ...state.labels]];
  for (const one of results) if (one.scores) lines.push([one.name, ...one.scores.map((score) => score.toFixed(6)), ...one.named.map(Number)]);
  const url = URL.createObjectURL(new Blob([lines.map((line) => line.map((cell) => quote(String(cell))).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  h("a", { href: url, download: "predictions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
