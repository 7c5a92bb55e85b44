// Runs: all of them, filtered, compared with intervals; one of them live, with its curves, report and a clean stop.
import { ago, ask, attempt, code, empty, h, percent, post, show, toast } from "./dom.js";
import { lineChart } from "./chart.js";
import { refresh } from "./jobs.js";

const chosen = new Set();
let filter = "";
const STATES = { starting: "starting", training: "training", done: "finished", stopped: "not finished" };

export async function runsView(main, state, [name]) {
  return name ? oneRun(main, name) : list(main, state);
}

function metric(one) {
  if (!one) return "–";
  return [h("b", {}, percent(one.value)), one.interval ? h("span", { class: "ends" }, ` ${percent(one.interval[0])}–${percent(one.interval[1])}`) : null];
}

async function list(main, state) {
  const body = h("tbody");
  const heads = h("tr");
  const bar = h("div", { class: "row" });
  const table = h("div", { class: "scroll" }, h("table", { class: "runs" }, h("caption", { class: "hidden" }, "All runs"), h("thead", {}, heads), body));
  const result = h("div", { "aria-live": "polite" });
  const search = h("input", { type: "search", value: filter, placeholder: "Filter by name, method, backbone, data", "aria-label": "Filter runs", oninput: () => { filter = search.value; draw(); } });
  const compare = h("button", { class: "main", onclick: () => attempt(() => comparison(result)) });
  show(bar, search, compare);
  let runs = [];
  let timer = null;

  const draw = () => {
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = runs.filter((run) => words.every((word) => [run.name, run.method, run.backbone, run.source, STATES[run.state]].join(" ").toLowerCase().includes(word)));
    const titles = [...new Set(shown.flatMap((run) => run.metrics.map((one) => one.name)))].slice(0, 4);
    show(heads, h("th", {}, h("span", { class: "hidden" }, "Compare")), h("th", {}, "Run"), h("th", {}, "State"), titles.map((title) => h("th", { class: "n" }, title)),
      ["Method", "Backbone", "Data", "Changed"].map((title) => h("th", {}, title)));
    for (const one of chosen) if (!runs.some((run) => run.name === one)) chosen.delete(one);
    const button = () => { compare.disabled = chosen.size < 2; compare.textContent = chosen.size < 2 ? "Mark two to compare" : `Compare ${chosen.size}`; };
    show(body, shown.map((run) => h("tr", { "data-run": run.name },
      h("td", {}, h("input", { type: "checkbox", checked: chosen.has(run.name), disabled: run.state !== "done" || !run.part, "aria-label": `Compare ${run.name}`,
        onchange: (event) => { if (event.target.checked) chosen.add(run.name); else chosen.delete(run.name); button(); } })),
      h("th", { scope: "row" }, h("a", { href: `#runs/${encodeURIComponent(run.name)}` }, run.name), run.corrected ? h("span", { class: "tag" }, "corrected labels") : null),
      h("td", {}, h("span", { class: `state ${run.state}` }, STATES[run.state]), run.state === "done" ? null : ` ${run.epoch} of ${run.epochs}`),
      titles.map((title) => h("td", { class: "n" }, metric(run.metrics.find((one) => one.name === title)))),
      h("td", {}, run.method), h("td", {}, run.backbone), h("td", { class: "cut", title: run.source }, run.source), h("td", {}, ago(run.changed)))));
    if (!shown.length) show(body, h("tr", {}, h("td", { colspan: "9" }, "No run fits this filter.")));
    button();
  };

  const load = async () => {
    clearTimeout(timer);
    const found = await ask("/page/runs").catch(() => runs);
    if (JSON.stringify(found) !== JSON.stringify(runs)) { runs = found; if (!table.contains(document.activeElement) || runs.length) draw(); }
    timer = setTimeout(load, runs.some((run) => run.state === "training") ? 2000 : 8000);
  };
  runs = await ask("/page/runs");
  if (!runs.length) {
    show(main, empty("No runs yet", h("p", {}, "Train one with ", code("rsml train"), "; it appears here with its curves while it learns.")));
  } else {
    show(main, h("h1", {}, "Runs"), h("p", { class: "soft" }, `All runs in ${state.root}/; measures in percent, with 95 % intervals where the run has them.`), bar, result, table);
    draw();
  }
  timer = setTimeout(load, 2000);
  return () => clearTimeout(timer);
}

async function comparison(place) {
  show(place, h("p", { class: "wait" }, "Comparing…"));
  let rows;
  try { rows = await ask(`/page/compare?runs=${[...chosen].map(encodeURIComponent).join(",")}`); } catch (fault) { show(place); throw fault; }
  const first = [...chosen][0];
  show(place, h("section", { class: "card" }, h("h2", {}, "Comparison"),
    h("p", { class: "soft" }, `Differences are from ${first}, paired over the same images, with 95 % intervals; p is two-sided.`),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Measure", "Run", "Value", "95 % interval", "Difference", "p"].map((title) => h("th", {}, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, row.metric), h("th", { scope: "row" }, row.run), h("td", {}, h("b", {}, percent(row.value))),
        h("td", { class: "soft" }, row.interval ? `${percent(row.interval[0])} to ${percent(row.interval[1])}` : "–"),
        h("td", {}, row.difference === undefined ? "–" : `${row.difference > 0 ? "+" : ""}${percent(row.difference)} (${percent(row.ends[0])} to ${percent(row.ends[1])})`),
        h("td", {}, row.p === undefined ? "–" : row.p < 0.001 ? "< 0.001" : row.p.toFixed(3)))))))));
}

async function oneRun(main, name) {
  const place = h("div");
  show(main, h("p", {}, h("a", { href: "#runs" }, "← All runs")), place);
  let timer = null;
  let before = "";
  const act = (what) => () => attempt(async () => {
    await post(`/page/runs/${encodeURIComponent(name)}/${what}`);
    toast(what === "stop" ? "It stops after the step it is in; finished epochs are kept." : "It goes on.");
    await refresh();
    await load();
  });
  const load = async () => {
    clearTimeout(timer);
    const run = await ask(`/page/runs/${encodeURIComponent(name)}/history`);
    const now = JSON.stringify(run);
    if (now !== before) draw(place, run, act);
    before = now;
    timer = setTimeout(() => load().catch(() => {}), run.state === "done" ? 15000 : 1500);
  };
  await load();
  return () => clearTimeout(timer);
}

function draw(place, run, act) {
  const column = (key) => run.history.map((row) => row[key] ?? null);
  const keys = Object.keys(run.history.at(-1) ?? {});
  const measured = keys.filter((key) => key.startsWith("val_") && !key.startsWith("val_loss") && keys.includes(key.slice(4)) === false);
  const wanted = ["val_example_f1", "val_map_over_seen_labels", "val_micro_f1", "val_accuracy", "val_top_3_accuracy", "val_r2"].filter((key) => keys.includes(key));
  const shown = (wanted.length ? wanted : measured).slice(0, 3);
  const pretty = (key) => ({ val_example_f1: "example F1", val_map_over_seen_labels: "mAP", val_micro_f1: "micro F1" })[key] ?? key.replace("val_", "").replaceAll("_", " ");
  const last = Math.max(run.epochs ?? 0, run.history.length);
  const charts = run.history.length ? [
    lineChart("Loss", [{ name: "training", values: column("loss") }, ...(keys.includes("val_loss") ? [{ name: "validation", values: column("val_loss") }] : [])], last),
    ...(shown.length ? [lineChart("Validation", shown.map((key) => ({ name: pretty(key), values: column(key) })), last)] : []),
    ...(keys.includes("learning_rate") ? [lineChart("Learning rate", [{ name: "rate", values: column("learning_rate") }], last)] : []),
  ] : [];
  show(place, h("div", { class: "row spread" }, h("h1", {}, run.name), h("div", { class: "row" },
    run.report ? h("a", { class: "button", href: `/page/runs/${encodeURIComponent(run.name)}/report`, target: "_blank", rel: "noopener" }, "Open the report") : null,
    run.state === "training" ? h("button", { onclick: act("stop") }, "Stop cleanly") : null,
    run.state === "stopped" && run.epochs ? h("button", { class: "main", onclick: act("go-on") }, "Go on training") : null)),
  h("p", {}, h("span", { class: `state ${run.state}` }, STATES[run.state]), ["", run.epochs && `epoch ${run.epoch} of ${run.epochs}`, run.backbone && run.method, run.backbone, run.source, run.state === "stopped" && run.last].filter((part) => part || part === "").join(" · ")),
  run.epochs && run.state !== "done" ? h("progress", { max: String(run.epochs), value: String(run.epoch), "aria-label": "Epochs" }) : null,
  run.metrics.length ? h("dl", { class: "headlines" }, run.metrics.map((one) => h("div", {}, h("dt", {}, `${one.name}, ${run.part}`), h("dd", {}, metric(one))))) : null,
  charts.length ? h("div", { class: "charts" }, charts) : h("p", { class: "soft" }, "No epoch is finished yet; curves appear with the first."));
}
