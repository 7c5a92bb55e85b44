// Making elements, asking the server, and saying what went wrong.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name in element && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function show(place, ...children) {
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

export class Fault extends Error {
  constructor(message, status, body) {
    super(message);
    Object.assign(this, { status, body });
  }
}

export async function ask(path, { method = "GET", body, signal } = {}) {
  const options = { method, signal, headers: {} };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Fault("The server does not answer; start it again with rsml app. What was saved is kept.", 0);
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Fault(found.error ?? `${answer.status} ${answer.statusText}`, answer.status, found);
  return found;
}

export const post = (path, body) => ask(path, { method: "POST", body });

export function toast(text, bad = false) {
  const place = document.getElementById("toasts");
  const note = h("div", { class: bad ? "toast bad" : "toast" }, h("span", {}, text),
    h("button", { class: "quiet icon", "aria-label": "Close this note", onclick: () => note.remove() }, "×"));
  place.append(note);
  setTimeout(() => note.remove(), bad ? 12000 : 4000);
}

/** Runs an action of a person; what goes wrong is said. */
export async function attempt(action) {
  try {
    return await action();
  } catch (fault) {
    if (fault.name !== "AbortError") toast(fault.message, true);
    return undefined;
  }
}

export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : (100 * value).toFixed(digits));

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function ago(moment) {
  const seconds = Date.now() / 1000 - moment;
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(1000 * moment).toLocaleDateString();
}

/** The empty state of a view: what there is to do. */
export const empty = (title, ...rest) => h("section", { class: "empty" }, h("h2", {}, title), ...rest);

export const code = (text) => h("code", {}, text);
