// Forms for proxies and visitors: which keys there are (admin-api.md §9, §12), and a form made from them.

import { h } from "./common.js";

const HTTP = ["http", "https", "tcpmux"];
const SECRET = ["stcp", "sudp", "xtcp"];

/** Kinds of fields whose values are lines of text: how they are shown, and how they are read. */
const LINES = {
  list: { show: (value) => value.join("\n"), read: (lines) => lines, hint: "one a line" },
  pairs: {
    show: (value) =>
      Object.entries(value)
        .map((pair) => pair.join(": "))
        .join("\n"),
    read: (lines) => Object.fromEntries(lines.map(split)),
    hint: "name: value, one a line",
  },
  headers: {
    show: (value) => value.map(({ name, value }) => `${name}: ${value}`).join("\n"),
    read: (lines) => lines.map(split).map(([name, value]) => ({ name, value })),
    hint: "name: value, one a line",
  },
};

function split(line) {
  const at = line.indexOf(":");
  if (at < 1) {
    throw new Error(`"${line}": expected name: value`);
  }
  return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
}

/** A field: label, key in the block, kind of value, and more: `types` that have it, `when` it is shown, limits. */
const field = (label, key, kind = "text", more = {}) => ({ label, key, kind, ...more });
const plugin = (...types) => ({ when: (block) => types.includes(block.plugin?.type) });
const direct = { when: (block) => !block.plugin?.type };
const checked = (...types) => ({ when: (block) => types.includes(block.healthCheck?.type) });
const select = (options, more) => ({ options, ...more });
const PORT = { min: 0, max: 65535 };

const PLUGINS = ["http_proxy", "socks5", "static_file", "unix_domain_socket", "http2http", "http2https", "https2http", "https2https", "tls2raw", "virtual_net"];
const TO_HTTP = ["http2http", "http2https", "https2http", "https2https"];
const WITH_CERTIFICATE = ["https2http", "https2https", "tls2raw"];

export const PROXY = {
  what: "proxy",
  list: "proxies",
  types: ["tcp", "udp", "http", "https", "tcpmux", "stcp", "sudp", "xtcp"],
  /** Keys without a choice. */
  fixed: (type) => (type === "tcpmux" ? { multiplexer: "httpconnect" } : {}),
  check: (type, block) => (HTTP.includes(type) && !block.customDomains && !block.subdomain ? "Custom domains or a subdomain are needed." : null),
  sections: [
    [
      "Base",
      [
        field("Enabled", "enabled", "enabled"),
        field("Remote Port (0 = any)", "remotePort", "number", { types: ["tcp", "udp"], ...PORT }),
        field("Custom Domains", "customDomains", "list", { types: HTTP }),
        field("Subdomain", "subdomain", "text", { types: HTTP }),
        field("Backend", "plugin.type", "select", select([["", "Direct"], ...PLUGINS.map((name) => [name, `Plugin ${name}`])])),
        field("Local IP", "localIP", "text", { placeholder: "127.0.0.1", ...direct }),
        field("Local Port", "localPort", "number", { required: true, ...PORT, min: 1, ...direct }),
        field("HTTP User", "plugin.httpUser", "text", plugin("http_proxy", "static_file")),
        field("HTTP Password", "plugin.httpPassword", "secret", plugin("http_proxy", "static_file")),
        field("User", "plugin.username", "text", plugin("socks5")),
        field("Password", "plugin.password", "secret", plugin("socks5")),
        field("Local Path", "plugin.localPath", "text", { required: true, ...plugin("static_file") }),
        field("Strip Prefix", "plugin.stripPrefix", "text", plugin("static_file")),
        field("Unix Path", "plugin.unixPath", "text", { required: true, ...plugin("unix_domain_socket") }),
        field("Local Address", "plugin.localAddr", "text", { required: true, placeholder: "127.0.0.1:8080", ...plugin(...TO_HTTP, "tls2raw") }),
        field("Host Header Rewrite", "plugin.hostHeaderRewrite", "text", plugin(...TO_HTTP)),
        field("Request Headers", "plugin.requestHeaders.set", "pairs", plugin(...TO_HTTP)),
        field("HTTP/2", "plugin.enableHTTP2", "enabled", plugin("https2http", "https2https")),
        field("Certificate Path", "plugin.crtPath", "text", plugin(...WITH_CERTIFICATE)),
        field("Key Path", "plugin.keyPath", "text", plugin(...WITH_CERTIFICATE)),
      ],
    ],
    [
      "Authentication",
      [
        field("HTTP User", "httpUser", "text", { types: ["http", "tcpmux"] }),
        field("HTTP Password", "httpPassword", "secret", { types: ["http", "tcpmux"] }),
        field("Route By HTTP User", "routeByHTTPUser", "text", { types: ["http", "tcpmux"] }),
        field("Secret Key", "secretKey", "secret", { types: SECRET }),
        field("Allow Users", "allowUsers", "list", { types: SECRET }),
      ],
    ],
    [
      "HTTP Options",
      [
        field("Locations", "locations", "list", { types: ["http"] }),
        field("Host Header Rewrite", "hostHeaderRewrite", "text", { types: ["http"] }),
        field("Request Headers", "requestHeaders.set", "pairs", { types: ["http"] }),
        field("Response Headers", "responseHeaders.set", "pairs", { types: ["http"] }),
      ],
    ],
    [
      "Transport",
      [
        field("Use Encryption", "transport.useEncryption", "check"),
        field("Use Compression", "transport.useCompression", "check"),
        field("Bandwidth Limit", "transport.bandwidthLimit", "text", { placeholder: "1MB" }),
        field("Limit Mode", "transport.bandwidthLimitMode", "select", select([["", "Default"], ["client", "Client"], ["server", "Server"]])),
        field("Proxy Protocol Version", "transport.proxyProtocolVersion", "select", select([["", "None"], ["v1", "v1"], ["v2", "v2"]])),
      ],
    ],
    [
      "Health Check",
      [
        field("Type", "healthCheck.type", "select", select([["", "Disabled"], ["tcp", "TCP"], ["http", "HTTP"]])),
        field("Path", "healthCheck.path", "text", { required: true, ...checked("http") }),
        field("Timeout (s)", "healthCheck.timeoutSeconds", "number", { min: 1, ...checked("tcp", "http") }),
        field("Max Failed", "healthCheck.maxFailed", "number", { min: 1, ...checked("tcp", "http") }),
        field("Interval (s)", "healthCheck.intervalSeconds", "number", { min: 1, ...checked("tcp", "http") }),
        field("Headers", "healthCheck.httpHeaders", "headers", checked("http")),
      ],
    ],
    ["Load Balancer", [field("Group", "loadBalancer.group", "text", { types: ["tcp", "http", "https", "tcpmux"] }), field("Group Key", "loadBalancer.groupKey", "secret", { types: ["tcp", "http", "https", "tcpmux"] })]],
    ["NAT Traversal", [field("Disable Assisted Addresses", "natTraversal.disableAssistedAddrs", "check", { types: ["xtcp"] })]],
    ["Metadata", [field("Metadata", "metadatas", "pairs"), field("Annotations", "annotations", "pairs")]],
  ],
};

const XTCP = { types: ["xtcp"] };

export const VISITOR = {
  what: "visitor",
  list: "visitors",
  types: SECRET,
  fixed: () => ({}),
  check: () => null,
  sections: [
    [
      "Base",
      [
        field("Enabled", "enabled", "enabled"),
        field("Server Name", "serverName", "text", { required: true }),
        field("Server User", "serverUser"),
        field("Secret Key", "secretKey", "secret"),
        field("Bind Address", "bindAddr", "text", { placeholder: "127.0.0.1" }),
        field("Bind Port (−1 = no listener)", "bindPort", "number", { required: true, min: -1, max: 65535 }),
        field("Plugin", "plugin.type", "select", select([["", "None"], ["virtual_net", "virtual_net"]], { types: ["stcp", "xtcp"] })),
        field("Destination IP", "plugin.destinationIP", "text", { required: true, types: ["stcp", "xtcp"], ...plugin("virtual_net") }),
      ],
    ],
    ["Transport", [field("Use Encryption", "transport.useEncryption", "check"), field("Use Compression", "transport.useCompression", "check")]],
    [
      "Tunnel",
      [
        field("Protocol", "protocol", "select", select([["", "Default"], ["quic", "QUIC"], ["kcp", "KCP"]], XTCP)),
        field("Keep Tunnel Open", "keepTunnelOpen", "check", XTCP),
        field("Max Retries per Hour", "maxRetriesAnHour", "number", { min: 1, ...XTCP }),
        field("Min Retry Interval (s)", "minRetryInterval", "number", { min: 1, ...XTCP }),
        field("Fallback To", "fallbackTo", "text", XTCP),
        field("Fallback Timeout (ms)", "fallbackTimeoutMs", "number", { min: 1, ...XTCP }),
        field("Disable Assisted Addresses", "natTraversal.disableAssistedAddrs", "check", XTCP),
      ],
    ],
  ],
};

export const valueAt = (block, key) => key.split(".").reduce((value, name) => value?.[name], block);

/** Sets a value, or takes it away with all that is empty then. */
function setAt(block, key, value) {
  const [name, ...rest] = key.split(".");
  if (rest.length) {
    const inner = block[name] ?? {};
    setAt(inner, rest.join("."), value);
    value = Object.keys(inner).length ? inner : undefined;
  }
  if (value === undefined) {
    delete block[name];
  } else {
    block[name] = value;
  }
}

/** Sections of a definition with the fields that its type has and its values show. */
export const shown = (schema, type, block) =>
  schema.sections
    .map(([title, fields]) => [title, fields.filter((one) => (one.types?.includes(type) ?? true) && (one.when?.(block) ?? true))])
    .filter(([, fields]) => fields.length);

/** A value as text. */
export function text({ kind, options }, value) {
  if (kind === "enabled") {
    return value === false ? "no" : "yes";
  }
  if (value === undefined || value === null || value === "") {
    return "";
  }
  if (kind in LINES) {
    return LINES[kind].show(value);
  }
  if (kind === "secret") {
    return "••••••";
  }
  return kind === "check" ? (value ? "yes" : "no") : (options?.find(([key]) => key === value)?.[1] ?? String(value));
}

function input(one, value, change) {
  const { kind, label, options, required = false, placeholder, min, max } = one;
  const common = { required, placeholder, oninput: () => change() };
  if (kind === "check" || kind === "enabled") {
    const on = kind === "enabled" ? value !== false : value === true;
    const box = h("input", { type: "checkbox", checked: on, onchange: () => change() });
    const read = () => (kind === "enabled" ? (box.checked ? undefined : false) : box.checked || undefined);
    return [h("label.check", {}, box, label), read];
  }
  if (kind === "select") {
    const choice = h("select", { onchange: () => change(true) }, options.map(([key, name]) => h("option", { value: key, selected: key === (value ?? "") }, name)));
    return [h("label", {}, label, choice), () => choice.value || undefined];
  }
  if (kind in LINES) {
    const { show, read, hint } = LINES[kind];
    const area = h("textarea", { ...common, rows: 3, placeholder: hint, value: value === undefined ? "" : show(value) });
    const lines = () =>
      area.value
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
    return [h("label", {}, label, area), () => (lines().length ? read(lines()) : undefined)];
  }
  const type = { secret: "password", number: "number" }[kind] ?? "text";
  const line = h("input", { ...common, type, min, max, step: kind === "number" ? 1 : undefined, autocomplete: "off", value: value === undefined ? "" : String(value) });
  const read = () => (line.value === "" ? undefined : kind === "number" ? Number(line.value) : line.value);
  return [h("label", {}, label, line), read];
}

/**
 * A form for a definition: a new one, or `given`, whose name and type stay. What it does not know of `given` stays, too.
 * `save` gets the definition.
 */
export function form(schema, given, save, cancel) {
  let type = given?.type ?? schema.types[0];
  const block = structuredClone(given?.[type] ?? {});
  let [dirty, readers] = [false, []];
  const fields = h("div.list");
  const name = h("input", { required: true, maxlength: 50, value: given?.name ?? "", disabled: Boolean(given), oninput: () => (dirty = true) });
  const kinds = h(
    "select",
    {
      disabled: Boolean(given),
      onchange: (event) => {
        take();
        type = event.target.value;
        draw();
      },
    },
    schema.types.map((key) => h("option", { value: key, selected: key === type }, key.toUpperCase())),
  );
  const take = () => {
    for (const [key, read] of readers) {
      try {
        setAt(block, key, read());
      } catch {
        // Half a line: it is looked at when the form is sent.
      }
    }
  };
  const change = (redraw) => {
    dirty = true;
    if (redraw) {
      take();
      draw();
    }
  };
  const draw = () => {
    readers = [];
    const sections = shown(schema, type, block).map(([title, entries], index) => {
      const inputs = entries.map((one) => {
        const [node, read] = input(one, valueAt(block, one.key), change);
        readers.push([one.key, read]);
        return node;
      });
      const used = entries.some(({ key }) => valueAt(block, key) !== undefined);
      const open = index === 0 || title === "Authentication" || used;
      return h("details.box", { open }, h("summary", {}, title), h("fieldset", {}, inputs));
    });
    fields.replaceChildren(...sections);
  };
  const submit = async (event) => {
    event.preventDefault();
    const result = structuredClone(given?.[type] ?? {});
    for (const { key } of schema.sections.flatMap(([, entries]) => entries)) {
      setAt(result, key, undefined);
    }
    for (const [key, read] of readers) {
      setAt(result, key, read());
    }
    const wrong = schema.check(type, result);
    if (wrong) {
      throw new Error(wrong);
    }
    await save({ name: name.value.trim(), type, [type]: { ...result, ...schema.fixed(type) } });
  };
  draw();
  const base = h("section.box", {}, h("fieldset", {}, h("label", {}, "Name", name), h("label", {}, "Type", kinds)));
  const actions = h("div.actions", {}, h("button", { type: "button", onclick: cancel }, "Cancel"), h("button.main", {}, given ? "Update" : "Create"));
  return { node: (onsubmit) => h("form.list", { onsubmit: onsubmit(submit) }, base, fields, actions), unsaved: () => dirty, saved: () => (dirty = false) };
}
