// Correct: one image of a queue at a time; every decision is in the journal before the next image comes.
import { ask, attempt, code, empty, h, percent, post, show, toast } from "./dom.js";
import { inline, refresh } from "./jobs.js";
import { scoreList, similar } from "./label.js";

const TAB = crypto.getRandomValues(new Uint32Array(2)).join("-");
const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const QUEUES = {
  suspects: ["Suspect labels", "Labels that the model contradicts, the surest contradictions first."],
  uncertain: ["Least certain", "Images with a score next to its threshold."],
  disagreements: ["Disagreements", "Images that another run labels otherwise."],
  random: ["Random audit", "Any image, in an order that stays the same: how good are the labels?"],
};
const past = []; // what was decided in this tab: row, and the version it made, so that undo takes back nothing else
let kind = "suspects";
let other = "";

export async function correctView(main, state) {
  const place = h("div");
  const tally = h("p", { class: "soft", "aria-live": "polite" });
  let item = null;
  let marked = new Set();
  let busy = false;
  const note = h("input", { type: "text", maxLength: 2000, placeholder: "Note (optional)", "aria-label": "Note about this image" });
  const by = h("input", { type: "text", maxLength: 80, value: localStorage.getItem("rsml-by") ?? "", placeholder: "Your name (optional)", "aria-label": "Your name", onchange: () => localStorage.setItem("rsml-by", by.value) });
  const runs = (await ask("/page/runs")).filter((run) => run.name !== state.run && run.epoch > 0);
  const which = h("select", { "aria-label": "Other run", onchange: () => { other = which.value; next(); } },
    h("option", { value: "" }, "Choose a run…"), runs.map((run) => h("option", { value: run.name, selected: run.name === other }, run.name)));
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Queue" }, Object.entries(QUEUES).map(([name, [title]]) =>
    h("button", { "data-queue": name, "aria-pressed": String(name === kind), onclick: () => { kind = name; for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.queue === kind)); next(); } }, title)));
  const about = h("p", { class: "soft" });

  const name = h("input", { type: "text", "aria-label": "Name of the new run" });
  const summary = async () => {
    const found = await ask("/page/corrections");
    if (!name.value) name.value = found.name;
    show(tally, `${found.decided} looked at, ${found.changed} changed, ${found.skipped} skipped.`);
    show(after, h("h2", {}, "When you are done"), h("p", {}, "Decisions are kept in ", code(found.journal), ", one line each; nothing else is changed."),
      h("div", { class: "row" }, h("a", { class: "button", href: "/page/corrections.csv", download: true }, "Corrected table (CSV)"), h("a", { class: "button", href: "/page/corrections.csv?what=changed", download: true }, "Changed rows only")),
      h("div", { class: "row" }, name, h("button", { class: "main", disabled: !found.decided, onclick: () => attempt(async () => {
        const job = await post(`/page/corrections/train?name=${encodeURIComponent(name.value.trim())}`);
        refresh();
        location.hash = `runs/${encodeURIComponent(job.run)}`;
      }) }, "Train again with them")));
  };
  const after = h("section", { class: "card" });

  const next = () => attempt(async () => {
    show(about, QUEUES[kind][1], " ", kind === "disagreements" ? which : null);
    const found = await ask(`/page/queue?kind=${kind}&tab=${TAB}&other=${encodeURIComponent(other)}`);
    item = null;
    if (found.choose) show(place, empty("Which run should be compared?", h("p", {}, runs.length ? "Choose one above; it must know the same labels." : "There is no other run yet; train one with another seed or method.")));
    else if (found.needs) {
      const of = found.needs[0] === "this run" ? "" : found.needs[0];
      show(place, empty("The images are not scored yet", h("p", {}, `This queue needs the scores of all ${found.images} images${of ? ` by ${of}` : ""}; that takes a moment, once.`),
        h("button", { class: "main", onclick: () => attempt(async () => {
          const job = await post(`/page/queue/scores?run=${encodeURIComponent(of)}`);
          show(place, inline(job.id, next));
        }) }, "Score the images")));
    } else if (!found.item) show(place, empty(found.left ? "Others look at the rest" : "This queue is done", h("p", {}, found.left ? `${found.left} images are shown in other tabs just now.` : "Choose another queue, or train again with the corrections.")));
    else draw(found.item, found);
    attempt(summary); // not waited for: the next key may come at once
  });

  function draw(given, queue) {
    item = given;
    marked = new Set(item.labels);
    note.value = item.note;
    const picture = h("img", { class: "picture", src: `/page/images/${item.id}/picture?side=768`, alt: item.path });
    const buttons = state.labels.map((name, column) => h("button", {
      class: "mark", "data-label": name, "aria-pressed": String(marked.has(name)), "aria-keyshortcuts": KEYS[column], vars: { "--c": state.colours[column] }, onclick: () => toggle(name),
    }, KEYS[column] ? h("kbd", {}, KEYS[column]) : null, h("span", {}, name), h("small", { class: "soft" }, item.scores ? percent(item.scores[name], 0) : "")));
    const scores = item.scores ? scoreList(state, { id: item.id, scores: state.labels.map((name) => item.scores[name] ?? 0), named: state.labels.map((name, column) => (state.thresholds ? item.scores[name] > state.thresholds[column] : item.scores[name] === Math.max(...Object.values(item.scores)))) }, picture, 768) : null;
    const alike = h("details", { ontoggle: (event) => { if (event.target.open && event.target.children.length < 2) event.target.append(similar(item.id)); } }, h("summary", {}, "Most similar training scenes"));
    show(place, h("section", { class: "card correct", "data-row": String(item.row) },
      h("figure", {}, picture, h("figcaption", {}, `${item.path} · ${item.split || "not divided"}${queue ? ` · ${queue.left} of ${queue.all} left` : ""}`)),
      h("div", {}, h("p", { class: "why" }, item.decided ? "Already decided; you may change it." : item.why),
        h("div", { class: "marks", role: "group", "aria-label": state.one_class ? "Class" : "Labels" }, buttons), note,
        h("div", { class: "row" }, h("button", { class: "main", "data-act": "save", onclick: save }, "Save", h("kbd", {}, "Enter")), h("button", { "data-act": "skip", onclick: skip }, "Skip", h("kbd", {}, "→")),
          h("button", { "data-act": "undo", disabled: !past.length, onclick: undo }, "Undo", h("kbd", {}, "⌫"))),
        scores ? h("details", {}, h("summary", {}, "Scores and class maps"), scores) : null, alike)));
  }

  function toggle(name) {
    if (state.one_class) marked = new Set([name]);
    else if (!marked.delete(name)) marked.add(name);
    for (const button of place.querySelectorAll(".mark")) button.setAttribute("aria-pressed", String(marked.has(button.dataset.label)));
  }

  const decide = (labels) => attempt(async () => {
    if (!item || busy) return;
    busy = true;
    try {
      const kept = await post("/page/corrections", { row: item.row, labels, seen: item.seen, note: note.value, by: by.value });
      past.push({ row: kept.row, seen: kept.seen });
      await next();
    } catch (fault) {
      if (!fault.body?.conflict) throw fault;
      toast(fault.message, true);
      draw(fault.body.conflict);
    } finally { busy = false; }
  });
  const save = () => decide(state.labels.filter((name) => marked.has(name)));
  const skip = () => decide(null);
  const undo = () => attempt(async () => {
    if (!past.length || busy) return;
    busy = true;
    try {
      const back = await post("/page/corrections/undo", { ...past.pop(), by: by.value });
      draw(back);
      place.querySelector(".why").textContent = "Taken back; decide again.";
      attempt(summary);
    } catch (fault) {
      if (!fault.body?.conflict) throw fault;
      toast(fault.message, true);
      draw(fault.body.conflict);
    } finally { busy = false; }
  });

  const keys = (event) => {
    if (!item || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (item && event.key === "Enter" && event.target === note) save();
      return;
    }
    const column = KEYS.indexOf(event.key.toLowerCase());
    if (event.key === "Enter" && (event.target.classList.contains("mark") || !/^(BUTTON|A|SUMMARY)$/.test(event.target.tagName))) save();
    else if (event.key === "ArrowRight") skip();
    else if (event.key === "Backspace") undo();
    else if (event.key.length === 1 && column >= 0 && column < state.labels.length) toggle(state.labels[column]);
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", keys);
  show(main, h("div", { class: "row spread" }, h("h1", {}, "Correct"), tally), tabs, h("div", { class: "row spread" }, about, by), place, after);
  await next();
  return () => document.removeEventListener("keydown", keys);
}
