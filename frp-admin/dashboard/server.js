// The dashboard of frps (admin-api.md §11).

import { ago, api, attempt, box, button, bytes, card, confirmed, crumbs, facts, go, h, missing, nothing, page, paged, part, pill, query, renew, run, search, stamp, svg, tabs, toast } from "./common.js";

const TYPES = ["tcp", "udp", "http", "https", "tcpmux", "stcp", "xtcp", "sudp"];
/** Members of load-balancing groups are looked at so many groups a page. */
const GROUPS = 200;

const ask = async (method, path, body) => (await api(method, path, body)).data;
const get = (path) => ask("GET", path);
const info = () => get("api/v2/system/info");

/** Asks whether to do something, does it, says so and shows what has become of it. */
const action = (label, question, path, done, refresh) =>
  button(
    label,
    attempt(async () => {
      if (await confirmed(question, label)) {
        await ask("POST", path);
        toast(done);
        await refresh();
      }
    }),
    "danger",
  );

const online = (phase) => pill(phase === "online" ? "Online" : "Offline", phase === "online" ? "good" : "");
const clientLink = (key) => `#/clients/${part(key)}`;
const proxyLink = (name, from) => `#/proxy/${part(name)}${query({ from })}`;
const heading = (name, ...more) => h("div.row", {}, h("h1", {}, name), ...more);

// Overview

const tile = (href, label, value, note) => card(href, label, h("b", {}, String(value)), h("small", {}, note));

function overview() {
  const load = () => Promise.all([info(), get("api/v2/system/disabled-proxies"), get(`api/v2/lb/groups?pageSize=1`)]);
  return page(load, ([{ version, config, status }, disabled, groups], refresh) => {
    const types = Object.entries(status.proxyTypeCount).filter(([, count]) => count > 0);
    const total = types.reduce((sum, [, count]) => sum + count, 0);
    const port = (value) => value || undefined;
    const enable = (name) =>
      button(
        `Enable ${name}`,
        attempt(async () => {
          await ask("POST", `api/v2/proxies/${part(name)}/enable`);
          toast(`${name} may be registered again.`);
          await refresh();
        }),
      );
    return [
      h(
        "div.tiles",
        {},
        tile("#/clients", "Clients", status.clientCounts, "connected"),
        tile("#/proxies/tcp", "Proxies", total, "registered"),
        tile("#/proxies", "Connections", status.curConns, "open now"),
        tile("#/proxies", "Traffic today", bytes(status.totalTrafficIn + status.totalTrafficOut), "in and out"),
        tile("#/groups", "Groups", groups.total, "that share load"),
      ),
      box("Network Traffic", facts([["Inbound today", bytes(status.totalTrafficIn)], ["Outbound today", bytes(status.totalTrafficOut)]])),
      box("Proxy Types", types.length ? facts(types.map(([type, count]) => [type.toUpperCase(), String(count)])) : nothing("No active proxies")),
      disabled.length > 0 && box("Disabled Proxies", h("div.row", {}, disabled.map(enable))),
      box(
        "Server Configuration",
        facts([
          ["Version", `v${version}`],
          ["Bind Port", port(config.bindPort)],
          ["KCP Bind Port", port(config.kcpBindPort)],
          ["QUIC Bind Port", port(config.quicBindPort)],
          ["HTTP Port", port(config.vhostHTTPPort)],
          ["HTTPS Port", port(config.vhostHTTPSPort)],
          ["TCPMUX Port", port(config.tcpmuxHTTPConnectPort)],
          ["Subdomain Host", config.subdomainHost],
          ["Max Pool Count", config.maxPoolCount],
          ["Max Ports/Client", config.maxPortsPerClient || "no limit"],
          ["Allow Ports", config.allowPortsStr],
          ["TLS Force", config.tlsForce ? "on" : undefined],
          ["Heartbeat Timeout", config.heartbeatTimeout > 0 ? `${config.heartbeatTimeout}s` : "off"],
        ]),
      ),
    ].filter(Boolean);
  });
}

// Clients

function clientCard(client) {
  const when = client.online ? client.lastConnectedAt : client.disconnectedAt;
  return card(
    clientLink(client.key),
    h("span", {}, h("strong", {}, client.key), " ", client.hostname && pill(client.hostname)),
    client.version && h("small", {}, `v${client.version}`),
    client.wireProtocol && h("small", {}, `Protocol ${client.wireProtocol}`),
    h("small", {}, client.clientIP ?? ""),
    h("small", {}, ago(when)),
    online(client.online ? "online" : "offline"),
  );
}

function clients() {
  let [status, q] = ["all", ""];
  const bar = h("div.row");
  const list = paged(
    async (range) => {
      const found = await get(`api/v2/clients${query({ ...range, status, q })}`);
      const label = (key, text) => [key, key === status ? `${text} (${found.total})` : text];
      const pick = attempt((key) => {
        status = key;
        return list.first();
      });
      renew(bar, [tabs([label("all", "All"), label("online", "Online"), label("offline", "Offline")], status, pick)]);
      return found;
    },
    clientCard,
    "No clients",
  );
  const find = attempt((text) => {
    q = text;
    return list.first();
  });
  return { node: h("div", {}, heading("Clients"), bar, search("Search clients", find), list.node), refresh: list.refresh };
}

function client([key]) {
  const path = `api/v2/clients/${part(key)}`;
  let [owner, q] = [null, ""];
  const list = paged(
    ({ page, pageSize }) => get(`api/v2/proxies?user=${part(owner.user)}&${new URLSearchParams({ clientID: owner.clientID, q, page, pageSize })}`),
    (proxy) => proxyCard(proxy, key),
    "No proxies",
  );
  const find = attempt((text) => {
    q = text;
    return list.first();
  });
  const proxies = box("Proxies", search("Search proxies of this client", find), list.node);
  const head = page(
    async () => {
      owner = await get(path);
      return owner;
    },
    (shown, refresh) => [
      crumbs(["Clients", "#/clients"], [shown.key]),
      h(
        "section.box",
        {},
        heading(shown.key, online(shown.status.phase)),
        facts([
          ["Hostname", shown.hostname],
          ["Address", shown.clientIP],
          ["Version", shown.version && `v${shown.version}`],
          ["Protocol", shown.wireProtocol],
          ["Run ID", shown.runID],
          ["Connections", shown.status.curConns],
          ["Proxies", shown.status.proxyCount],
          ["First Connected", stamp(shown.firstConnectedAt)],
          [shown.online ? "Connected" : "Disconnected", ago(shown.online ? shown.lastConnectedAt : shown.disconnectedAt)],
        ]),
        shown.online &&
          h(
            "div.actions",
            {},
            action("Drain", "Close all proxies of this client? Connections of users go on; it gets no new proxies before its next login.", `${path}/drain`, "The client is drained.", refresh),
            action("Kick", "End the session of this client? It will log in again at once.", `${path}/kick`, "The session has ended.", refresh),
          ),
      ),
    ],
    () => {
      owner = null;
      return missing(`There is no client ${key}.`, "#/clients", "To all clients");
    },
  );
  const refresh = async () => {
    await head.refresh();
    proxies.hidden = !owner;
    if (owner) {
      await list.refresh();
    }
  };
  return { node: h("div", {}, head.node, proxies), refresh };
}

// Proxies

let ports = {};

const block = (proxy) => proxy.spec[proxy.spec.type] ?? {};

function port(proxy) {
  const { type } = proxy.spec;
  return block(proxy).remotePort ?? { http: ports.vhostHTTPPort, https: ports.vhostHTTPSPort, tcpmux: ports.tcpmuxHTTPConnectPort }[type] ?? "";
}

const owner = (proxy) => (proxy.user ? `${proxy.user}.${proxy.clientID}` : proxy.clientID);

function proxyCard(proxy, from) {
  const { status } = proxy;
  return card(
    proxyLink(proxy.name, from),
    h("span", {}, h("strong", {}, proxy.name), " ", pill(proxy.spec.type.toUpperCase()), " ", block(proxy).loadBalancer?.group && pill(`group ${block(proxy).loadBalancer.group}`)),
    port(proxy) !== "" && h("small", {}, `Port ${port(proxy)}`),
    h("small", {}, `${status.curConns} connections`),
    h("small", {}, owner(proxy)),
    h("small", {}, `↑ ${bytes(status.todayTrafficOut)}`),
    h("small", {}, `↓ ${bytes(status.todayTrafficIn)}`),
    online(status.phase),
  );
}

function proxies([type]) {
  let [q, status] = ["", "all"];
  const list = paged(
    async (range) => {
      ports = (await info()).config;
      return get(`api/v2/proxies${query({ ...range, type, status, q })}`);
    },
    (proxy) => proxyCard(proxy),
    "No proxies",
  );
  const find = attempt((text) => {
    q = text;
    return list.first();
  });
  const clear = attempt(async () => {
    if (await confirmed("Forget the statistics of all proxies that are offline?", "Clear Offline")) {
      const { cleared } = await ask("POST", "api/v2/system/prune?type=offline_proxies");
      toast(`${cleared} cleared.`);
      await list.first();
    }
  });
  const filter = h(
    "select",
    {
      "aria-label": "Status",
      onchange: attempt((event) => {
        status = event.target.value;
        return list.first();
      }),
    },
    ["all", "online", "offline"].map((value) => h("option", { value }, value)),
  );
  return {
    node: h(
      "div",
      {},
      heading("Proxies", h("span.space"), button("Refresh", attempt(list.refresh)), button("Clear Offline", clear, "danger")),
      tabs([["", "All"], ...TYPES.map((name) => [name, name.toUpperCase()])], type ?? "", (key) => go(`#/proxies${key && `/${key}`}`)),
      h("div.row", {}, search("Search proxies", find), filter),
      list.node,
    ),
    refresh: list.refresh,
  };
}

/** Two bars a day, and what they mean. */
function chart(history) {
  const [width, height, left, bottom] = [640, 200, 70, 20];
  const most = Math.max(100, ...history.flatMap((day) => [day.trafficIn, day.trafficOut]));
  const y = (value) => height - bottom - (value / most) * (height - bottom - 10);
  const step = (width - left) / history.length;
  const scale = [0, most / 2, most].map((value) => [
    svg("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
    svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, bytes(Math.round(value))),
  ]);
  const days = history.map((day, index) => {
    const x = left + index * step;
    const bar = (value, offset, kind, word) =>
      svg("rect", { class: kind, x: x + offset, y: y(value), width: step / 3, height: height - bottom - y(value) }, svg("title", {}, `${day.date}: ${bytes(value)} ${word}`));
    const [, month, date] = day.date.split("-").map(Number);
    return [bar(day.trafficIn, step / 6, "in", "in"), bar(day.trafficOut, step / 2, "out", "out"), svg("text", { x: x + step / 2, y: height - 4, "text-anchor": "middle" }, `${month}-${date}`)];
  });
  return [
    svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Traffic by day" }, scale, days),
    h("div.row", {}, h("span.in", {}, "■ in"), h("span.out", {}, "■ out")),
  ];
}

const pairs = (map) => h("div.row", {}, Object.entries(map).map(([name, value]) => pill(`${name}: ${value}`)));

function proxy([name], parameters) {
  const path = `api/v2/proxies/${part(name)}`;
  const from = parameters.get("from");
  const load = async () => {
    const [shown, { history }, server] = await Promise.all([get(path), get(`${path}/traffic`), info()]);
    ports = server.config;
    return { shown, history };
  };
  const draw = ({ shown, history }, refresh) => {
    const spec = block(shown);
    const { status } = shown;
    const on = (value) => (value === undefined ? undefined : value ? "Enabled" : "Disabled");
    const list = (values) => values?.join(", ");
    const host = ports.subdomainHost;
    const traffic = history.some((day) => day.trafficIn + day.trafficOut > 0);
    return [
      from ? crumbs(["Clients", "#/clients"], [from, clientLink(from)], [shown.name]) : crumbs(["Proxies", "#/proxies"], [shown.spec.type.toUpperCase(), `#/proxies/${shown.spec.type}`], [shown.name]),
      h(
        "section.box",
        {},
        heading(shown.name, pill(shown.spec.type.toUpperCase()), online(status.phase)),
        facts([
          ["Client", h("a", { href: clientLink(owner(shown)) }, owner(shown))],
          ["Last Started", stamp(status.lastStartAt)],
          ["Last Closed", stamp(status.lastCloseAt)],
          ["Port", String(port(shown))],
          ["Connections", status.curConns],
          ["Traffic today", `↓ ${bytes(status.todayTrafficIn)} / ↑ ${bytes(status.todayTrafficOut)}`],
        ]),
        h(
          "div.actions",
          {},
          status.phase === "online" && action("Close", "Close this proxy? Connections of users go on.", `${path}/close`, "The proxy is closed.", refresh),
          action("Disable", "Close this proxy and refuse its name until it is enabled again?", `${path}/disable`, "The name is refused now.", refresh),
        ),
      ),
      box(
        "Configuration",
        facts([
          ["Encryption", on(spec.transport?.useEncryption)],
          ["Compression", on(spec.transport?.useCompression)],
          ["Bandwidth Limit", spec.transport?.bandwidthLimit && `${spec.transport.bandwidthLimit} at the ${spec.transport.bandwidthLimitMode}`],
          ["Load-Balancing Group", spec.loadBalancer?.group],
          ["Custom Domains", list(spec.customDomains)],
          ["Subdomain", spec.subdomain && (host ? `${spec.subdomain}.${host}` : spec.subdomain)],
          ["Locations", list(spec.locations)],
          ["Host Rewrite", spec.hostHeaderRewrite],
          ["Multiplexer", spec.multiplexer],
          ["Route By HTTP User", spec.routeByHTTPUser],
        ]),
        spec.annotations && [h("h2", {}, "Annotations"), pairs(spec.annotations)],
        spec.metadatas && [h("h2", {}, "Metadata"), pairs(spec.metadatas)],
      ),
      box("Traffic Statistics", traffic ? chart(history) : nothing("No traffic data")),
    ];
  };
  return page(load, draw, () => missing(`There is no proxy ${name}.`, "#/proxies", "To all proxies"));
}

// Groups

const TONES = { up: "good", ejected: "bad", down: "bad", draining: "waiting", "half-open": "waiting" };

function groups() {
  const load = () => get(`api/v2/lb/groups?pageSize=${GROUPS}`);
  return page(load, ({ total, items }, refresh) => {
    const member = (group, one) => {
      const path = `api/v2/lb/groups/${part(group.kind)}/${part(group.group)}/members/${part(one.id)}`;
      const set = (label, state, done) =>
        button(
          label,
          attempt(async () => {
            await ask("PATCH", path, { state });
            toast(done);
            await refresh();
          }),
        );
      const drained = one.override?.state !== undefined;
      const cells = [
        h("a", { href: proxyLink(one.id) }, one.id),
        pill(one.state, TONES[one.state]),
        one.cause ?? "",
        one.active,
        one.ewmaMs === null ? "" : `${one.ewmaMs.toFixed(1)} ms`,
        Number(one.effectiveWeight.toFixed(2)),
        `${one.windowOk} / ${one.windowFailed}`,
        drained ? set("As configured", null, `${one.id} is as configured again.`) : set("Drain", "draining", `${one.id} gets no new connections.`),
      ];
      return h("tr", {}, cells.map((cell) => h("td", {}, cell)));
    };
    const head = ["Member", "State", "Cause", "Active", "Latency", "Weight", "Good / failed", ""];
    const table = (group) => h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, head.map((text) => h("th", {}, text)))), h("tbody", {}, group.members.map((one) => member(group, one)))));
    return [
      heading("Load-balancing groups"),
      ...(items.length ? items.map((group) => box(`${group.group} (${group.kind}, ${group.strategy})`, table(group))) : [nothing("No groups")]),
      total > items.length && nothing(`${total - items.length} more are in the API.`),
    ].filter(Boolean);
  });
}

run(
  "Server",
  [
    ["Overview", "#/"],
    ["Clients", "#/clients"],
    ["Proxies", "#/proxies"],
    ["Groups", "#/groups"],
  ],
  [
    [/^\/$/, overview],
    [/^\/clients$/, clients],
    [/^\/clients\/([^/]+)$/, client],
    [/^\/proxies(?:\/([a-z]+))?$/, proxies],
    [/^\/proxy\/([^/]+)$/, proxy],
    [/^\/groups$/, groups],
  ],
);
