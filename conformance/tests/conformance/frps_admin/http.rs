//! Routing, authentication and errors, with nobody connected.

use conformance::{Lab, Outcome, ports};

use super::{CREDENTIALS, JSON, TEXT_401, TEXT_404, admin, expect};

/// Runs the case.
pub(super) async fn run(lab: &Lab) -> Outcome {
    let web = ports::free();
    let (mut frps, _) = admin(lab, web).start_server().await?;
    let not_found = "404 page not found\n";
    let anybody = [
        ("GET /healthz", "200", ""),
        ("POST /healthz", "200", ""),
        ("GET /nope", TEXT_404, not_found),
        ("GET /api/serverinfo/", TEXT_404, not_found),
        ("GET /api/v2/proxies/", TEXT_404, not_found),
        ("GET /static", TEXT_404, not_found),
        ("GET /debug/pprof", TEXT_404, not_found),
        ("GET /debug/pprof/nope", TEXT_404, "Unknown profile\n"),
        ("HEAD /api/serverinfo", "405", ""),
        ("POST /api/serverinfo", "405", ""),
        ("OPTIONS /api/v2/clients", "405", ""),
        ("GET /api/proxies", "405", ""),
        ("GET /api/v2/system/prune", "405", ""),
        ("POST /static/", "405", ""),
        ("GET //api/serverinfo?x=1", "301 /api/serverinfo?x=1", ""),
        ("POST /api/../api//x/", "301 /api/x/", ""),
        ("GET /%2e%2e/*", "301 /%2A", ""),
        ("GET /api/v2/proxies/%2e%2e", "301 /api/v2", ""),
        (
            "GET /api/%zz",
            "400 text/plain; charset=utf-8",
            "400 Bad Request",
        ),
        ("GET /api/serverinfo", TEXT_401, "Unauthorized\n"),
        ("GET /metrics", TEXT_401, "Unauthorized\n"),
        ("GET /static/", TEXT_401, "Unauthorized\n"),
        ("GET /", TEXT_401, "Unauthorized\n"),
    ];
    expect(web, "", &anybody).await?;
    expect(
        web,
        "Authorization: Basic dTpx\r\n",
        &anybody[anybody.len() - 4..],
    )
    .await?;
    let v1 = |text: &str| format!("{{\"Code\":400,\"Msg\":\"{text}\"}}\n");
    let v2 = |text: &str| format!("{{\"code\":400,\"msg\":\"{text}\",\"data\":null}}\n");
    let moved = "301 /static/ text/html; charset=utf-8";
    let link = "<a href=\"/static/\">Moved Permanently</a>.\n\n";
    let no_proxy_v1 = "{\"Code\":404,\"Msg\":\"no proxy info found\"}\n";
    let no_proxy_v2 = "{\"code\":404,\"msg\":\"no proxy info found\",\"data\":null}\n";
    let empty = "{\"code\":200,\"msg\":\"success\",\"data\":{\"total\":0,\"page\":1,\"pageSize\":50,\"items\":[]}}\n";
    let (no_json, bad_json) = ("404 application/json", "400 application/json");
    let status = v2("status must be one of all, online, offline");
    let kind = v2("type must be one of tcp, udp, http, https, tcpmux, stcp, xtcp, sudp");
    let positive = v2("page must be a positive integer");
    let known = [
        ("GET /", moved, link),
        ("POST /", "301 /static/", ""),
        ("GET /static/a/b", TEXT_404, not_found),
        ("GET /favicon.ico", TEXT_404, not_found),
        ("GET /static/index.html", "301 ./", ""),
        ("GET /api/proxy/tcp", JSON, "{\"proxies\":[]}\n"),
        ("GET /api/proxy/nope", JSON, "{\"proxies\":[]}\n"),
        ("GET /api/proxy/tcp/a%20b+c", no_json, no_proxy_v1),
        ("GET /api/proxies/x", no_json, no_proxy_v1),
        ("GET /api/proxies/x%2Fy", TEXT_404, not_found),
        ("GET /api/traffic/x", no_json, no_proxy_v1),
        ("GET /api/clients?status=nonsense", JSON, "[]\n"),
        (
            "GET /api/clients/%3Cx%3E%26",
            no_json,
            "{\"Code\":404,\"Msg\":\"client \\u003cx\\u003e\\u0026 not found\"}\n",
        ),
        (
            "DELETE /api/proxies",
            bad_json,
            &v1("status only support offline"),
        ),
        (
            "DELETE /api/proxies?status=online",
            bad_json,
            &v1("status only support offline"),
        ),
        (
            "DELETE /api/proxies?status=offline",
            JSON,
            "{\"Code\":200,\"Msg\":\"success\"}\n",
        ),
        ("GET /api/v2/clients", JSON, empty),
        ("GET /api/v2/proxies?status=OffLine&type=TCP", JSON, empty),
        ("GET /api/v2/users?q=a", JSON, empty),
        ("GET /api/v2/clients?page=0", bad_json, &positive),
        ("GET /api/v2/clients?page=-1", bad_json, &positive),
        (
            "GET /api/v2/users?page=99999999999999999999",
            bad_json,
            &positive,
        ),
        (
            "GET /api/v2/users?pageSize=x",
            bad_json,
            &v2("pageSize must be a positive integer"),
        ),
        (
            "GET /api/v2/users?pageSize=201",
            bad_json,
            &v2("pageSize must be between 1 and 200"),
        ),
        (
            "GET /api/v2/users?page=9223372036854775807",
            bad_json,
            &v2("page is too large"),
        ),
        ("GET /api/v2/clients?status=x", bad_json, &status),
        ("GET /api/v2/proxies?type=x", bad_json, &kind),
        ("GET /api/v2/proxies/x%2Fy", no_json, no_proxy_v2),
        ("GET /api/v2/proxies/x/traffic", no_json, no_proxy_v2),
        (
            "GET /api/v2/clients/%E4%B8%AD",
            no_json,
            "{\"code\":404,\"msg\":\"client 中 not found\",\"data\":null}\n",
        ),
        (
            "POST /api/v2/system/prune",
            bad_json,
            &v2("type is required"),
        ),
        (
            "POST /api/v2/system/prune?type=x",
            bad_json,
            &v2("type must be one of offline_proxies"),
        ),
        (
            "POST /api/v2/system/prune?type=Offline_Proxies",
            JSON,
            "{\"code\":200,\"msg\":\"success\",\"data\":{\"type\":\"offline_proxies\",\"cleared\":0,\"total\":0}}\n",
        ),
    ];
    expect(web, CREDENTIALS, &known).await?;
    for line in [
        "http request: [/api/v2/proxies/x/y]",
        "http response [/api/v2/proxies/x/y]: code [404]",
        "http response [/api/v2/proxies/x/y]: error: no proxy info found",
        "cleared [0] offline proxies, total [0] proxies",
        "dashboard listen on 127.0.0.1:",
    ] {
        frps.logs(line).await?;
    }
    Ok(())
}
