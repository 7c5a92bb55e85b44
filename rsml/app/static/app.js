// The frame of the page: what is open, which view is shown, light or dark.
import { ask, attempt, code, empty, h, show, toast } from "./dom.js";
import * as jobs from "./jobs.js";
import { labelView } from "./label.js";
import { mapView } from "./map.js";
import { correctView } from "./correct.js";
import { runsView } from "./runs.js";

const VIEWS = { label: labelView, map: mapView, correct: correctView, runs: runsView };
const main = document.getElementById("main");
let state = null;
let leave = null;

function theme() {
  const kept = localStorage.getItem("rsml-theme");
  if (kept) document.documentElement.dataset.theme = kept;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("rsml-theme", document.documentElement.dataset.theme);
  });
}

async function route() {
  const [name, ...rest] = location.hash.replace(/^#/, "").split("/");
  const view = VIEWS[name] ? name : state.run ? "label" : "runs";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · ${state.run ?? "rsml"}`;
  leave?.();
  leave = null;
  show(main);
  if (!state.run && view !== "runs") {
    show(main, empty("No model yet", h("p", {}, "Train one with ", code("rsml train"), ", then open it with ", code("rsml app RUN"), ".")));
    return;
  }
  leave = (await attempt(() => VIEWS[view](main, state, rest.map(decodeURIComponent)))) ?? null;
}

theme();
try {
  state = await ask("/page/state");
  document.getElementById("run").textContent = state.run ?? state.root;
  jobs.panel(document.getElementById("jobs"), document.getElementById("jobs-open"));
  jobs.refresh();
  window.addEventListener("hashchange", route);
  await route();
} catch (fault) {
  show(main, empty("The server does not answer", h("p", {}, fault.message)));
  toast(fault.message, true);
}
