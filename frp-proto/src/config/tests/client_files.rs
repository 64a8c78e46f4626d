//! Worked examples of frpc, and files that include others.

use super::*;

#[test]
fn one_client_in_four_formats() {
    let toml = client("f.toml", include_str!("examples/frpc-four.toml"), &env(&[]));
    let yaml = client("f.yaml", include_str!("examples/frpc-four.yaml"), &env(&[]));
    let json = client("f.json", include_str!("examples/frpc-four.json"), &env(&[]));
    let ini = client("f.ini", include_str!("examples/frpc-four.ini"), &env(&[]));
    assert_eq!(toml, yaml);
    assert_eq!(toml, json);
    assert_eq!(toml, ini);
    assert_eq!((toml.user.as_str(), toml.transport.pool_count), ("acme", 2));
    let names: Vec<_> = toml.proxies.iter().map(|p| p.base.name.as_str()).collect();
    assert_eq!(names, ["db", "vault", "www"]);
    assert_eq!(toml.proxies[0].kind, ProxyKind::Tcp { remote_port: 63760 });
    assert_eq!(toml.proxies[0].base.local_ip, "127.0.0.1");
    let ProxyKind::Http(http) = &toml.proxies[2].kind else {
        panic!("www is http");
    };
    assert_eq!(
        http.domains.custom_domains,
        ["www.example.net", "alt.example.net"]
    );
    assert_eq!(http.request_headers.set["X-Via"], "frp");
}

#[test]
fn a_legacy_client_with_ranges_and_plugins() {
    let c = client("f.ini", include_str!("examples/frpc.ini"), &env(&[]));
    let names: Vec<_> = c.proxies.iter().map(|p| p.base.name.as_str()).collect();
    assert_eq!(names, ["bulk_0", "bulk_1", "db", "files", "vault", "www"]);
    assert_eq!(c.proxies[1].base.local_port, 6011);
    assert_eq!(c.proxies[1].kind, ProxyKind::Udp { remote_port: 16011 });
    assert_eq!(c.proxies[2].base.health_check.interval_seconds, 5);
    let Some(PluginConfig::StaticFile(files)) = &c.proxies[3].base.plugin else {
        panic!("files is a plugin");
    };
    assert_eq!(
        (files.local_path.as_str(), files.strip_prefix.as_str()),
        ("/srv/files", "dl")
    );
    assert_eq!(c.visitors[0].base.bind_port, 18200);
    assert_eq!(c.auth.additional_scopes, ["HeartBeats", "NewWorkConns"]);
    assert_eq!(
        (c.transport.heartbeat_timeout, c.login_fail_exit),
        (45, Some(false))
    );
    let files = "[common]\nstart = t_1\n[range:t]\ntype = http\nlocal_port = 1-2\nremote_port = 5,7\nsubdomain = x";
    let c = client("f.ini", files, &env(&[]));
    assert_eq!(
        (c.proxies.len(), c.proxies[0].base.name.as_str()),
        (1, "t_1")
    );
}

#[test]
fn legacy_includes_merge_sections() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "x.ini",
        "[common]\nuser = other\n[a]\nremote_port = 9\n[b]\nbare\nlocal_port = 2",
    );
    let text = format!(
        "[common]\nuser = main\nincludes = {}/*.ini\n[a]\nlocal_port = 1\nremote_port = 1\n",
        dir.path().display()
    );
    let c = client("f.ini", &text, &env(&[]));
    assert_eq!((c.user.as_str(), c.proxies.len()), ("main", 2));
    assert_eq!(c.proxies[0].kind, ProxyKind::Tcp { remote_port: 9 });
    write("y.ini", "{{ parseNumberRange \"1\" }}");
    let e = client_from_text(&text, Path::new("f.ini"), true, &env(&[])).unwrap_err();
    assert!(
        e.to_string()
            .starts_with("getIncludeContents error: render extra config ")
            && e.to_string().ends_with(
                "y.ini error: template: frp:1: function \"parseNumberRange\" not defined"
            ),
        "{e}"
    );
}

#[test]
fn a_client_with_every_type() {
    let c = client("f.toml", include_str!("examples/frpc-all.toml"), &env(&[]));
    let types: Vec<_> = c.proxies.iter().map(|p| p.base.type_.as_str()).collect();
    assert_eq!(
        types,
        [
            "tcp", "udp", "sudp", "tcpmux", "xtcp", "https", "stcp", "http"
        ]
    );
    assert_eq!(c.proxies[0].base.health_check.max_failed, 3);
    let Some(PluginConfig::Https2Http(plugin)) = &c.proxies[5].base.plugin else {
        panic!("portal has a plugin");
    };
    assert_eq!(
        (plugin.enable_http2, plugin.crt_path.as_str()),
        (Some(true), "/etc/frp/portal.crt")
    );
    let VisitorKind::Xtcp(xtcp) = &c.visitors[1].kind else {
        panic!("to-p2p is xtcp");
    };
    assert_eq!(
        (xtcp.min_retry_interval, xtcp.fallback_to.as_str()),
        (120, "to-vault")
    );
}

#[test]
fn loops_anchors_and_plugins() {
    let c = client(
        "f.toml",
        include_str!("examples/frpc-loop.toml"),
        &env(&[("HOME", "/home/a")]),
    );
    let ports: Vec<_> = c
        .proxies
        .iter()
        .map(|p| (p.base.name.as_str(), p.base.local_port, &p.kind))
        .collect();
    assert_eq!(
        ports,
        [
            ("svc-0", 8000, &ProxyKind::Tcp { remote_port: 28000 }),
            ("svc-1", 8001, &ProxyKind::Tcp { remote_port: 28001 }),
            ("svc-2", 8002, &ProxyKind::Tcp { remote_port: 28002 }),
            ("svc-3", 8443, &ProxyKind::Tcp { remote_port: 28443 }),
        ]
    );
    assert_eq!(c.proxies[0].base.metadatas["home"], "/home/a");
    let visitors: Vec<_> = c.visitors.iter().map(|v| v.base.name.as_str()).collect();
    assert_eq!(visitors, ["v-9001", "v-9005", "v-9006"]);

    let c = client(
        "f.yaml",
        include_str!("examples/frpc-anchors.yaml"),
        &env(&[]),
    );
    assert_eq!(
        (
            c.proxies[1].base.local_ip.as_str(),
            c.proxies[1].base.local_port
        ),
        ("10.0.0.9", 3389)
    );
    assert_eq!(
        c.auth.token_source.unwrap().file.unwrap().path,
        "/run/secrets/frp-token"
    );

    let c = client(
        "f.json",
        include_str!("examples/frpc-plugins.json"),
        &env(&[]),
    );
    let plugins: Vec<_> = c
        .proxies
        .iter()
        .map(|p| p.base.plugin.as_ref().unwrap().type_name())
        .collect();
    assert_eq!(
        plugins,
        [
            "unix_domain_socket",
            "http2http",
            "http2https",
            "http_proxy",
            "tls2raw",
            "https2https",
            "socks5"
        ]
    );
}

#[test]
fn debug_shows_no_secret() {
    let text = include_str!("examples/frpc-all.toml");
    let c = client("f.toml", text, &env(&[]));
    let shown = format!("{c:?}");
    assert!(shown.contains("frps.example.net"));
    for secret in ["s3cret", "ops-pw", "\"k1\"", "\"gk\""] {
        assert!(
            text.contains(secret.trim_matches('"')) && !shown.contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn includes_start_and_enabled() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let proxy = |name: &str, more: &str| {
        format!("[[proxies]]\nname = \"{name}\"\ntype = \"tcp\"\n{more}\n")
    };
    let load = || load_client(&dir.path().join("frpc.toml"), true, &env(&[]));
    let pattern = dir.path().join("conf.d/*.toml");
    let head = format!("includes = [{pattern:?}]\n");
    write("frpc.toml", &(head.clone() + &proxy("m", "")));

    let error = load().unwrap_err().0;
    assert_eq!(
        error,
        format!(
            "stat {}: no such file or directory",
            dir.path().join("conf.d").display()
        )
    );
    write("conf.d", "");
    let error = load().unwrap_err().0;
    assert_eq!(
        error,
        format!(
            "open {}: not a directory",
            dir.path().join("conf.d").display()
        )
    );
    std::fs::remove_file(dir.path().join("conf.d")).unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    assert_eq!(load().unwrap().config.proxies.len(), 1);

    write(
        "conf.d/b.toml",
        &proxy("b", "enabled = false\nlocalPort = -1"),
    );
    write(
        "conf.d/a.toml",
        &format!(
            "serverPort = 9\nincludes = [\"/nonexistent/*\"]\n{}",
            proxy("a", "")
        ),
    );
    write("conf.d/c.yaml", "not: read");
    let config = load().unwrap().config;
    let names: Vec<_> = config
        .proxies
        .iter()
        .map(|p| p.base.name.as_str())
        .collect();
    assert_eq!((names, config.server_port), (vec!["a", "m"], 7000));

    write(
        "frpc.toml",
        &format!("start = [\"m\", \"nope\"]\n{head}{}", proxy("m", "")),
    );
    assert_eq!(load().unwrap().config.proxies.len(), 1);

    write("conf.d/d.toml", &proxy("b", ""));
    assert_eq!(load().unwrap_err().0, "proxy name [b] is duplicated");
    write("conf.d/a.toml", "foo = 1");
    let file = dir.path().join("conf.d/a.toml");
    assert_eq!(
        load().unwrap_err().0,
        format!(
            "load additional config from {0} error: json: unknown field \"foo\"\n  --> {0}:1:1",
            file.display()
        )
    );
    write("conf.d/a.toml", "[common]\nserver_port = 1");
    let error = load().unwrap_err().0;
    assert!(error.contains("json: unknown field \"common\""), "{error}");
}
