// What both dashboards are made of: elements, requests, pages, lists.

const REFRESH_MS = 5000;
const REQUEST_LIMIT_MS = 20000;
const SEARCH_DELAY_MS = 300;
const TOAST_MS = 6000;
const PAGE_SIZES = [10, 20, 50, 100];

/** Where the API is: next to `static/`, also below the prefix of a reverse proxy. */
const base = new URL("../", location.origin + location.pathname);

// Elements

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (typeof value === "boolean" || name === "value") {
      element[name] = value;
    } else if (value !== undefined && value !== null) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element, `tag.class.class`. Attributes named `on…` are listeners; children that are null or false are left out. */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  element.classList.add(...classes);
  return fill(element, attributes, children);
}

/** The same for drawings. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

export const button = (label, onclick, kind = "") => h(`button${kind && `.${kind}`}`, { type: "button", onclick }, label);

/** A word on a coloured ground: `good`, `bad`, `waiting` or nothing. */
export const pill = (text, tone = "") => h(`span.pill${tone && `.${tone}`}`, {}, text);

/** Names and values; those without a value are left out. */
export const facts = (entries) =>
  h(
    "dl.facts",
    {},
    entries.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );

export const box = (title, ...content) => h("section.box", {}, h("h2", {}, title), ...content);

export const nothing = (text) => h("p.nothing", {}, text);

/** A card that leads somewhere. */
export const card = (href, ...content) => h("a.card", { href }, ...content);

export const crumbs = (...links) => h("nav.crumbs", { "aria-label": "Breadcrumb" }, links.map(([text, href]) => (href ? [h("a", { href }, text), " / "] : text)));

/** Gives an element other children; the focus stays in its place. */
export function renew(element, children) {
  const places = () => [...element.querySelectorAll("a, button, select")];
  const place = places().indexOf(document.activeElement);
  element.replaceChildren(...children);
  places()[place]?.focus();
}

/** Tabs; `pick` is called with the key of the one that was chosen. */
export function tabs(entries, active, pick) {
  return h(
    "div.tabs",
    { role: "tablist" },
    entries.map(([key, label]) => h("button", { type: "button", role: "tab", "aria-selected": String(key === active), onclick: () => pick(key) }, label)),
  );
}

/** A search box; `change` is called when typing pauses. */
export function search(placeholder, change) {
  let timer;
  const input = h("input.search", { type: "search", placeholder, "aria-label": placeholder, oninput: () => later() });
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => change(input.value.trim()), SEARCH_DELAY_MS);
  };
  return input;
}

/** A list that the server cuts into pages. `load({page, pageSize})` gives `{total, items}`. */
export function paged(load, item, empty) {
  let [page, pageSize, turn] = [1, PAGE_SIZES[0], 0];
  const list = h("div.list");
  const pager = h("div.pager");
  const go = (to) => {
    page = to;
    return refresh();
  };
  async function refresh() {
    const mine = ++turn;
    const { total, items } = await load({ page, pageSize });
    if (mine !== turn) {
      return;
    }
    const last = Math.max(1, Math.ceil(total / pageSize));
    if (page > last) {
      await go(last);
      return;
    }
    renew(list, items.length ? items.map(item) : [nothing(empty)]);
    const previous = button("‹", attempt(() => go(page - 1)));
    previous.disabled = page === 1;
    const next = button("›", attempt(() => go(page + 1)));
    next.disabled = page === last;
    const resize = attempt((event) => {
      pageSize = Number(event.target.value);
      return go(1);
    });
    const sizes = h("select", { "aria-label": "Entries a page", onchange: resize }, PAGE_SIZES.map((size) => h("option", { value: String(size), selected: size === pageSize }, `${size} a page`)));
    renew(pager, total > PAGE_SIZES[0] ? [h("span", {}, `${total} in all`), sizes, previous, `${page} / ${last}`, next] : []);
  }
  return { node: h("div", {}, list, pager), refresh, first: () => go(1) };
}

// Messages and questions

const toasts = h("div.toasts", { role: "status" });

export function toast(text, tone = "good") {
  const message = h(`div.toast.${tone}`, {}, text);
  toasts.append(message);
  setTimeout(() => message.remove(), TOAST_MS);
}

/** A listener that shows why it failed. */
export const attempt =
  (work) =>
  async (...args) => {
    try {
      await work(...args);
    } catch (error) {
      toast(error.message, "bad");
    }
  };

/** Whether the user wants that. */
export function confirmed(question, label) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("form", { method: "dialog" }, h("p", {}, question), h("div.actions", {}, h("button", { value: "no" }, "Cancel"), h("button.danger", { value: "yes" }, label))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Requests

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Asks the API; `path` is relative to the program's root. Gives what it answers: JSON, else text. */
export async function api(method, path, body) {
  let response;
  try {
    response = await fetch(new URL(path, base), {
      method,
      // Pages of other origins cannot set it.
      headers: { "X-Requested-With": "dashboard" },
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
    });
  } catch (error) {
    throw new ApiError(0, `No answer: ${error.message}`);
  }
  const text = await response.text();
  let value = text;
  if (response.headers.get("content-type")?.startsWith("application/json")) {
    value = JSON.parse(text);
  }
  if (!response.ok) {
    throw new ApiError(response.status, value?.Msg ?? value?.msg ?? (text.trim() || `${response.status} ${response.statusText}`));
  }
  return value;
}

/** A query string of what has a value. */
export const query = (parameters) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

export const part = encodeURIComponent;

// Numbers and times

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${Number(count.toFixed(2))} ${units[unit]}`;
}

/** How long ago a time was, in seconds since 1970. */
export function ago(time) {
  if (!time) {
    return "";
  }
  const seconds = Math.max(0, Math.floor(Date.now() / 1000 - time));
  const spans = [
    ["year", 365 * 86400],
    ["month", 30 * 86400],
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ];
  const [name, span] = spans.find(([, length]) => seconds >= length) ?? spans.at(-1);
  const count = Math.floor(seconds / span);
  return `${count} ${name}${count === 1 ? "" : "s"} ago`;
}

/** A time as `MM-DD HH:MM:SS`. */
export function stamp(time) {
  if (!time) {
    return "";
  }
  const date = new Date(time * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
}

// Pages

const THEME = "frp-theme";

function themeSwitch() {
  const dark = () => document.documentElement.dataset.theme === "dark";
  const toggle = button("", () => {
    localStorage.setItem(THEME, dark() ? "light" : "dark");
    apply();
  });
  const apply = () => {
    const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    document.documentElement.dataset.theme = localStorage.getItem(THEME) ?? preferred;
    toggle.textContent = dark() ? "Light" : "Dark";
  };
  apply();
  return toggle;
}

/** Leads to another page. */
export const go = (hash) => {
  location.hash = hash;
};

/** A part of a hash; as it stands if it has been typed wrongly. */
function decoded(group) {
  try {
    return group && decodeURIComponent(group);
  } catch {
    return group;
  }
}

/**
 * Runs a dashboard. `routes` are pairs of a regular expression for the part of the hash before `?` and a function of its
 * groups and the query, which gives a page: `node`; if it has data, `refresh`, run at once and, unless the page is `still`,
 * every few seconds; if it can hold unsaved work, `unsaved`.
 */
export function run(badge, menu, routes) {
  const main = h("main");
  const links = menu.map(([text, href]) => h("a", { href }, text));
  const side = h("nav.menu", { "aria-label": "Pages" }, links);
  const burger = h("button.burger", { type: "button", "aria-label": "Menu", onclick: () => side.classList.toggle("open") }, "☰");
  document.body.replaceChildren(h("header", {}, burger, h("strong", {}, "frp"), pill(badge), h("span.space"), themeSwitch()), h("div.columns", {}, side, main), toasts);

  let [page, shown] = [null, location.hash];
  const load = async () => {
    const mine = page;
    try {
      await mine.refresh?.();
      mine.node.classList.remove("stale");
    } catch (error) {
      if (mine !== page) {
        return;
      }
      // Of an outage that lasts, one message is enough.
      if (!mine.node.classList.contains("stale")) {
        toast(error.message, "bad");
      }
      mine.node.classList.add("stale");
    }
  };
  const show = async () => {
    if (location.hash === shown && page) {
      return;
    }
    if (page?.unsaved?.() && !(await confirmed("Leave without saving?", "Leave"))) {
      history.replaceState(null, "", shown);
      return;
    }
    shown = location.hash;
    side.classList.remove("open");
    const [path, parameters] = (shown.slice(1) || "/").split("?");
    for (const link of links) {
      const target = link.getAttribute("href").slice(1);
      const current = target === "/" ? path === "/" : path.startsWith(target);
      link.setAttribute("aria-current", current ? "page" : "false");
    }
    const [pattern, build] = routes.find(([pattern]) => pattern.test(path)) ?? [/^/, () => ({ node: missing("There is no such page.", "#/", "To the beginning") })];
    page = build(path.match(pattern).slice(1).map(decoded), new URLSearchParams(parameters));
    main.replaceChildren(page.node);
    await load();
  };
  addEventListener("hashchange", show);
  addEventListener("beforeunload", (event) => page?.unsaved?.() && event.preventDefault());
  setInterval(() => {
    const busy = document.hidden || page?.still || document.querySelector("dialog");
    if (!busy) {
      load();
    }
  }, REFRESH_MS);
  show();
}

/** What stands for something that is not there. */
export const missing = (text, href, label) => h("div", {}, nothing(text), h("p.nothing", {}, h("a", { href }, label)));

/** A page whose content is made anew from what `load` gives; `absent` stands for it after a 404. */
export function page(load, draw, absent) {
  const node = h("div");
  const refresh = async () => {
    let value;
    try {
      value = await load();
    } catch (error) {
      if (error.status !== 404 || !absent) {
        throw error;
      }
      node.replaceChildren(absent());
      return;
    }
    renew(node, draw(value, refresh));
  };
  return { node, refresh };
}
