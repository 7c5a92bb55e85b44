// Long work: the list of all jobs, and the progress of one where it was begun.
import { ask, attempt, duration, h, post, show, toast } from "./dom.js";

const listeners = new Set();
let known = [];
let timer = null;

export function follow(listener) {
  listeners.add(listener);
  listener(known);
  return () => listeners.delete(listener);
}

export async function refresh() {
  clearTimeout(timer);
  try {
    const found = await ask("/page/jobs");
    for (const job of found) {
      const before = known.find((one) => one.id === job.id);
      if (before?.state === "running" && job.state === "done") toast(`${job.title}: done`);
      if (before?.state === "running" && job.state === "failed") toast(`${job.title}: ${job.last}`, true);
    }
    known = found;
    for (const listener of listeners) listener(known);
  } catch { /* the next look will tell */ }
  const busy = known.some((job) => job.state === "running");
  timer = setTimeout(refresh, busy ? 700 : 5000);
}

const STATES = { running: "runs", done: "done", failed: "failed", cancelled: "cancelled", stopped: "was interrupted" };

export function row(job, open) {
  const { done, total, unit, title, left_s: left } = job.progress ?? {};
  const share = total ? Math.min(1, done / total) : null;
  const act = (name) => () => attempt(async () => { await post(`/page/jobs/${job.id}/${name}`); await refresh(); });
  const where = job.state === "running"
    ? done === undefined || done === null ? "starting…" : `${title} ${done}${total ? ` of ${total}` : ""} ${unit}${left ? `, ${duration(left)} left` : ""}`
    : STATES[job.state];
  return h("div", { class: `job ${job.state}`, "data-job": job.id },
    h("div", { class: "job-head" }, h("b", {}, job.title), h("span", { class: "soft" }, where)),
    job.state === "running"
      ? h("progress", { "aria-label": job.title, max: "1", value: share === null ? null : String(share) })
      : job.state === "failed" ? h("p", { class: "fault" }, job.last) : null,
    h("div", { class: "row" },
      open ? h("button", { onclick: open }, "Open") : null,
      job.state === "running" ? h("button", { onclick: act("cancel"), "aria-label": `Cancel ${job.title}` }, "Cancel") : null,
      ["stopped", "cancelled", "failed"].includes(job.state) ? h("button", { onclick: act("resume"), "aria-label": `Go on with ${job.title}` }, "Go on") : null,
      job.state === "running" ? null : h("button", { class: "quiet", onclick: act("forget"), "aria-label": `Forget ${job.title}` }, "Forget")));
}

export function openOf(job) {
  if (job.kind === "map" && job.state === "done") return () => { location.hash = `map/${job.map}`; };
  if (job.kind === "train") return () => { location.hash = `runs/${job.run}`; };
  return null;
}

export function panel(place, button) {
  button.addEventListener("click", () => {
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
  });
  follow((jobs) => {
    const running = jobs.filter((job) => job.state === "running").length;
    button.textContent = running ? `Jobs (${running})` : "Jobs";
    button.classList.toggle("busy", running > 0);
    if (place.contains(document.activeElement) && place.dataset.was === JSON.stringify(jobs)) return;
    place.dataset.was = JSON.stringify(jobs);
    show(place, h("h2", {}, "Jobs"),
      jobs.length ? jobs.map((job) => row(job, openOf(job)))
        : h("p", { class: "soft" }, "None. Maps, trainings and indexes appear here, go on when this page is closed, and are found again."));
  });
}

/** A job shown in place until it ends; `then` is called once when it is done. */
export function inline(id, then) {
  const place = h("div", { class: "inline-job", "aria-live": "polite" });
  const stop = follow((jobs) => {
    const job = jobs.find((one) => one.id === id);
    if (!job) return;
    show(place, row(job, null));
    if (job.state === "done") { stop?.(); then(); }
  });
  refresh();
  return place;
}
