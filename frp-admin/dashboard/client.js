// The dashboard of frpc (admin-api.md §12).

import { api, attempt, box, button, card, confirmed, crumbs, facts, go, h, missing, nothing, page, part, pill, renew, run, search, tabs, toast } from "./common.js";
import { PROXY, VISITOR, form, shown, text, valueAt } from "./form.js";

const TONES = { running: "good", "start error": "bad", "check failed": "bad", new: "waiting", "wait start": "waiting", waiting: "waiting" };
const STATES = [
  ["", "All"],
  ["good", "Running"],
  ["bad", "Error"],
  ["waiting", "Waiting"],
];

const state = (status) => pill(status, TONES[status]);
const heading = (name, ...more) => h("div.row", {}, h("h1", {}, name), ...more);
const holds = (q, ...values) => values.some((value) => value?.toLowerCase().includes(q.toLowerCase()));

/** Where each proxy stands, by name. */
async function statuses() {
  const all = Object.values(await api("GET", "api/status")).flat();
  return all.sort((a, b) => a.name.localeCompare(b.name));
}

/** What is in the store; null if there is none. */
async function stored(schema) {
  try {
    return (await api("GET", `api/store/${schema.list}`))[schema.list];
  } catch (error) {
    if (error.status === 404) {
      return null;
    }
    throw error;
  }
}

const storeHint = () => box("The store is off", h("p", {}, "With these lines in its configuration file, frpc keeps what is made here:"), h("pre", {}, '[store]\npath = "./frpc_store.json"'));

/** A list with things to choose from above it: those stay while the list is made anew. */
function filtered(title, load, filters, draw, ...more) {
  let entries = null;
  const chosen = Object.fromEntries(["q", ...filters.map(({ key }) => key)].map((key) => [key, ""]));
  const list = h("div.list");
  const bar = h("div.row");
  const redraw = () => {
    if (entries === null) {
      list.replaceChildren(storeHint());
      return;
    }
    const nodes = draw(entries, chosen, refresh);
    renew(list, nodes.length ? nodes : [nothing(`No ${title.toLowerCase()}`)]);
  };
  const refresh = async () => {
    entries = await load();
    redraw();
  };
  const choose = (key, value) => {
    chosen[key] = value;
    redraw();
  };
  bar.append(
    search(`Search ${title.toLowerCase()}`, (q) => choose("q", q)),
    ...filters.map(({ key, label, options }) =>
      h("select", { "aria-label": label, onchange: (event) => choose(key, event.target.value) }, [["", `${label}: all`], ...options].map(([value, name]) => h("option", { value }, name))),
    ),
  );
  return { node: h("div", {}, heading(title, h("span.space"), button("Refresh", attempt(refresh))), ...more, bar, list), refresh };
}

const typeFilter = (schema) => ({ key: "type", label: "Type", options: schema.types.map((type) => [type, type.toUpperCase()]) });

// Proxies

const proxyTabs = (active) =>
  tabs(
    [
      ["", "Status"],
      ["store", "Store"],
    ],
    active,
    (key) => go(key ? `#/proxies?tab=${key}` : "#/proxies"),
  );

function statusCard(proxy) {
  const local = proxy.plugin ? `plugin:${proxy.plugin}` : proxy.local_addr;
  return card(
    `#/proxies/detail/${part(proxy.name)}`,
    h("span", {}, h("strong", {}, proxy.name), " ", pill(proxy.type.toUpperCase()), proxy.err && h("div.bad", {}, proxy.err)),
    h("small", {}, [proxy.remote_addr, local].filter(Boolean).join(" → ")),
    h("small", {}, proxy.source === "store" ? "store" : "config"),
    state(proxy.status),
  );
}

function proxies(_, parameters) {
  if (parameters.get("tab") === "store") {
    return storeList(PROXY, "Proxies", "New Proxy", proxyTabs("store"));
  }
  let tone = "";
  const pills = h("div");
  const draw = (entries, { q, source, type }) => {
    const counted = STATES.map(([key, label]) => [key, `${label} (${entries.filter((one) => !key || TONES[one.status] === key).length})`]);
    const pick = (key) => {
      tone = key;
      attempt(list.refresh)();
    };
    renew(pills, [tabs(counted, tone, pick)]);
    return entries
      .filter((one) => !tone || TONES[one.status] === tone)
      .filter((one) => !source || (one.source ?? "config") === source)
      .filter((one) => !type || one.type === type)
      .filter((one) => holds(q, one.name, one.type, one.local_addr, one.remote_addr))
      .map(statusCard);
  };
  const source = {
    key: "source",
    label: "Source",
    options: [
      ["config", "Config"],
      ["store", "Store"],
    ],
  };
  const list = filtered("Proxies", statuses, [source, typeFilter(PROXY)], draw, proxyTabs(""), pills);
  return list;
}

/** Entries of the store with what may be done to them. */
function storeList(schema, title, create, ...more) {
  const load = async () => {
    const [entries, live] = await Promise.all([stored(schema), schema === PROXY ? statuses() : []]);
    return entries?.map((entry) => ({ ...entry, live: live.find(({ name }) => name === entry.name)?.status })) ?? null;
  };
  const draw = (entries, { q, type }, refresh) =>
    entries
      .filter((entry) => !type || entry.type === type)
      .filter((entry) => holds(q, entry.name, entry.type, entry[entry.type].serverName))
      .map((entry) => {
        const { name, live, ...definition } = entry;
        const block = entry[entry.type];
        const enabled = block.enabled !== false;
        const path = `api/store/${schema.list}/${part(name)}`;
        const toggle = attempt(async () => {
          const { enabled: _, ...rest } = block;
          await api("PUT", path, { name, ...definition, [entry.type]: enabled ? { ...rest, enabled: false } : rest });
          toast(`${name} is ${enabled ? "disabled" : "enabled"}.`);
          await refresh();
        });
        const remove = attempt(async () => {
          if (await confirmed(`Delete ${schema.what} ${name}?`, "Delete")) {
            await api("DELETE", path);
            toast(`${name} is deleted.`);
            await refresh();
          }
        });
        return h(
          "div.card",
          {},
          h("a", { href: `#/${schema.list}/detail/${part(name)}` }, h("strong", {}, name), " ", pill(entry.type.toUpperCase())),
          block.serverName && h("small", {}, `to ${block.serverName}`),
          schema === PROXY ? state(enabled ? (live ?? "waiting") : "disabled") : !enabled && pill("disabled"),
          h("div.actions", {}, button(enabled ? "Disable" : "Enable", toggle), button("Edit", () => go(`#/${schema.list}/${part(name)}/edit`)), button("Delete", remove, "danger")),
        );
      });
  const add = h("div.actions", {}, button(`+ ${create}`, () => go(`#/${schema.list}/create`), "main"));
  return filtered(title, load, [typeFilter(schema)], draw, ...more, add);
}

const visitors = () => storeList(VISITOR, "Visitors", "New Visitor");

/** All that is known of an entry. */
const detail = (schema) => ([name]) => {
  const list = `#/${schema.list}`;
  const load = async () => {
    const [entries, live] = await Promise.all([stored(schema), schema === PROXY ? statuses() : []]);
    const inStore = entries?.some((entry) => entry.name === name) ?? false;
    const status = live.find((one) => one.name === name);
    return { definition: await api("GET", `api/${schema.what}/${part(name)}/config`), inStore, status };
  };
  const draw = ({ definition: { type, [type]: block }, inStore, status }) => [
    crumbs([schema === PROXY ? "Proxies" : "Visitors", list], [name]),
    h(
      "section.box",
      {},
      heading(name, status && state(status.status), h("span.space"), inStore && button("Edit", () => go(`${list}/${part(name)}/edit`), "main")),
      h("p.faint", {}, `Source: ${inStore ? "store" : "config"} · Type: ${type.toUpperCase()}`),
      facts([["Remote address", status?.remote_addr]]),
    ),
    status?.err && box("Connection Error", h("p.bad", {}, status.err)),
    ...shown(schema, type, block).map(([title, fields]) => {
      const set = fields.map((one) => [one.label, text(one, valueAt(block, one.key))]).filter(([, value]) => value !== "");
      return box(title, set.length ? facts(set) : nothing("Not configured"));
    }),
  ];
  return page(
    load,
    (value) => draw(value).filter(Boolean),
    () => missing(`There is no ${schema.what} ${name}.`, list, "To the list"),
  );
};

/** A form for a new entry, or for one of the store. */
const edit = (schema) => ([name]) => {
  const back = schema === PROXY ? "#/proxies?tab=store" : "#/visitors";
  const node = h("div");
  let made = null;
  const save = async (definition) => {
    const path = `api/store/${schema.list}`;
    await (name === undefined ? api("POST", path, definition) : api("PUT", `${path}/${part(name)}`, definition));
    made.saved();
    toast(`${definition.name} is ${name === undefined ? "created" : "updated"}.`);
    go(back);
  };
  const refresh = async () => {
    const entries = await stored(schema);
    if (entries === null) {
      toast("The store is off: store.path is not set.", "bad");
      go(back);
      return;
    }
    const given = entries.find((entry) => entry.name === name);
    if (name !== undefined && !given) {
      node.replaceChildren(missing(`There is no ${schema.what} ${name} in the store.`, back, "To the list"));
      return;
    }
    made = form(schema, given, save, () => go(back));
    node.replaceChildren(heading(name === undefined ? `New ${schema.what}` : `Edit ${name}`), made.node(attempt));
  };
  return { node, refresh, still: true, unsaved: () => made?.unsaved() ?? false };
};

// Configuration

function config() {
  const area = h("textarea.file", { spellcheck: "false", "aria-label": "Configuration file" });
  let loaded = "";
  const load = async () => {
    loaded = await api("GET", "api/config");
    area.value = loaded;
  };
  const update = attempt(async () => {
    if (!area.value.trim()) {
      throw new Error("The file may not be empty.");
    }
    if (await confirmed("Replace the configuration file and read it again?", "Update & Reload")) {
      await api("PUT", "api/config", area.value);
      loaded = area.value;
      await api("GET", "api/reload");
      toast("The configuration is loaded.");
    }
  });
  return {
    node: h("div", {}, heading("Configuration", h("span.space"), button("Refresh", attempt(load)), button("Update & Reload", update, "main")), area),
    refresh: load,
    still: true,
    unsaved: () => area.value !== loaded,
  };
}

run(
  "Client",
  [
    ["Proxies", "#/proxies"],
    ["Visitors", "#/visitors"],
    ["Config", "#/config"],
  ],
  [
    [/^\/(?:proxies)?$/, proxies],
    [/^\/proxies\/detail\/([^/]+)$/, detail(PROXY)],
    [/^\/proxies\/create$/, edit(PROXY)],
    [/^\/proxies\/([^/]+)\/edit$/, edit(PROXY)],
    [/^\/visitors$/, visitors],
    [/^\/visitors\/detail\/([^/]+)$/, detail(VISITOR)],
    [/^\/visitors\/create$/, edit(VISITOR)],
    [/^\/visitors\/([^/]+)\/edit$/, edit(VISITOR)],
    [/^\/config$/, config],
  ],
);
