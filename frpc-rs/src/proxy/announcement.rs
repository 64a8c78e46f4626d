//! What the server is told of a proxy (config-frpc.md §11.2).

use frp_proto::config::raw::client::{DomainConfig, ProxyConfig, ProxyKind};
use frp_proto::msg::NewProxy;

use super::wire_name;

/// The registration of a configured proxy of `user`.
pub(super) fn announcement(user: &str, c: &ProxyConfig) -> NewProxy {
    let base = &c.base;
    let transport = &base.transport;
    let mut m = NewProxy {
        proxy_name: wire_name(user, &base.name),
        proxy_type: base.type_.clone(),
        use_encryption: transport.use_encryption,
        use_compression: transport.use_compression,
        bandwidth_limit: transport.bandwidth_limit.clone(),
        group: base.load_balancer.group.clone(),
        group_key: base.load_balancer.group_key.clone(),
        metas: base.metadatas.clone(),
        annotations: base.annotations.clone(),
        // Only where others could take over does it help the server.
        dial_verdict: carries_streams(&c.kind) && !base.load_balancer.group.is_empty(),
        ..NewProxy::default()
    };
    for (key, value) in base.load_balancer.keys.flat() {
        m.metas.insert(format!("lb.{key}"), value);
    }
    if transport.bandwidth_limit_mode != "client" {
        m.bandwidth_limit_mode
            .clone_from(&transport.bandwidth_limit_mode);
    }
    match &c.kind {
        ProxyKind::Tcp { remote_port } | ProxyKind::Udp { remote_port } => {
            m.remote_port = *remote_port;
        }
        ProxyKind::Http(http) => {
            domains(&mut m, &http.domains);
            m.locations.clone_from(&http.locations);
            m.http_user.clone_from(&http.http_user);
            m.http_pwd.clone_from(&http.http_password);
            m.host_header_rewrite.clone_from(&http.host_header_rewrite);
            m.headers.clone_from(&http.request_headers.set);
            m.response_headers.clone_from(&http.response_headers.set);
            m.route_by_http_user.clone_from(&http.route_by_http_user);
        }
        ProxyKind::Https(https) => domains(&mut m, &https.domains),
        ProxyKind::Tcpmux(tcpmux) => {
            domains(&mut m, &tcpmux.domains);
            m.http_user.clone_from(&tcpmux.http_user);
            m.http_pwd.clone_from(&tcpmux.http_password);
            m.route_by_http_user.clone_from(&tcpmux.route_by_http_user);
            m.multiplexer.clone_from(&tcpmux.multiplexer);
        }
        ProxyKind::Stcp(stcp) => secret(&mut m, &stcp.secret_key, &stcp.allow_users),
        ProxyKind::Sudp(sudp) => secret(&mut m, &sudp.secret_key, &sudp.allow_users),
        ProxyKind::Xtcp(xtcp) => secret(&mut m, &xtcp.secret_key, &xtcp.allow_users),
    }
    m
}

/// Whether each user has a work connection of his own.
fn carries_streams(kind: &ProxyKind) -> bool {
    matches!(
        kind,
        ProxyKind::Tcp { .. } | ProxyKind::Http(_) | ProxyKind::Https(_) | ProxyKind::Tcpmux(_)
    )
}

fn domains(m: &mut NewProxy, domains: &DomainConfig) {
    m.custom_domains.clone_from(&domains.custom_domains);
    m.subdomain.clone_from(&domains.subdomain);
}

fn secret(m: &mut NewProxy, key: &str, allow_users: &[String]) {
    key.clone_into(&mut m.sk);
    allow_users.clone_into(&mut m.allow_users);
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::config::raw::client::{
        HeaderOperations, HttpProxy, HttpsProxy, SudpProxy, TcpmuxProxy,
    };

    use super::super::tests::config;

    /// A proxy of user `u1`.
    fn of(name: &str, kind: ProxyKind, type_: &str) -> NewProxy {
        let mut c = config(name, 22);
        c.base.type_ = type_.into();
        c.kind = kind;
        announcement("u1", &c)
    }

    fn domains() -> DomainConfig {
        DomainConfig {
            custom_domains: vec!["a.b".into()],
            subdomain: "s".into(),
        }
    }

    #[test]
    fn fields_of_every_type() {
        let mut c = config("t1", 22);
        c.kind = ProxyKind::Tcp { remote_port: 63730 };
        let base = &mut c.base;
        base.metadatas.insert("a".into(), "1".into());
        base.annotations.insert("x.y/z".into(), "2".into());
        base.load_balancer.group = "g".into();
        base.load_balancer.group_key = "k".into();
        base.transport.use_encryption = true;
        base.transport.use_compression = true;
        base.transport.bandwidth_limit = "1.5MB".into();
        base.transport.bandwidth_limit_mode = "server".into();
        let expected = NewProxy {
            proxy_name: "u1.t1".into(),
            proxy_type: "tcp".into(),
            use_encryption: true,
            use_compression: true,
            bandwidth_limit: "1.5MB".into(),
            bandwidth_limit_mode: "server".into(),
            group: "g".into(),
            group_key: "k".into(),
            metas: [("a".into(), "1".into())].into(),
            annotations: [("x.y/z".into(), "2".into())].into(),
            remote_port: 63730,
            dial_verdict: true,
            ..NewProxy::default()
        };
        assert_eq!(announcement("u1", &c), expected);
    }

    #[test]
    fn the_client_mode_is_not_announced() {
        let mut c = config("web", 80);
        c.base.transport.bandwidth_limit_mode = "client".into();
        let m = announcement("", &c);
        assert_eq!(
            (m.proxy_name.as_str(), m.bandwidth_limit_mode.as_str()),
            ("web", "")
        );
    }

    #[test]
    fn fields_of_one_type() {
        let udp = of("u1.t3", ProxyKind::Udp { remote_port: 63731 }, "udp");
        assert_eq!(
            (
                udp.proxy_name.as_str(),
                udp.proxy_type.as_str(),
                udp.remote_port
            ),
            ("u1.u1.t3", "udp", 63731)
        );
        let set = |key: &str| HeaderOperations {
            set: [(key.into(), "v".into())].into(),
        };
        let http = HttpProxy {
            domains: domains(),
            locations: vec!["/a".into()],
            http_user: "u".into(),
            http_password: "p".into(),
            host_header_rewrite: "hh".into(),
            request_headers: set("q"),
            response_headers: set("r"),
            route_by_http_user: "mr".into(),
        };
        let expected = NewProxy {
            proxy_name: "u1.h".into(),
            proxy_type: "http".into(),
            custom_domains: vec!["a.b".into()],
            subdomain: "s".into(),
            locations: vec!["/a".into()],
            http_user: "u".into(),
            http_pwd: "p".into(),
            host_header_rewrite: "hh".into(),
            headers: [("q".into(), "v".into())].into(),
            response_headers: [("r".into(), "v".into())].into(),
            route_by_http_user: "mr".into(),
            ..NewProxy::default()
        };
        assert_eq!(of("h", ProxyKind::Http(http), "http"), expected);
        let https = of(
            "s",
            ProxyKind::Https(HttpsProxy { domains: domains() }),
            "https",
        );
        assert_eq!(
            (https.custom_domains, https.subdomain),
            (vec!["a.b".into()], "s".into())
        );
        let tcpmux = TcpmuxProxy {
            domains: domains(),
            http_user: "mu".into(),
            http_password: "mp".into(),
            route_by_http_user: "mr".into(),
            multiplexer: "httpconnect".into(),
        };
        let tcpmux = of("mx", ProxyKind::Tcpmux(tcpmux), "tcpmux");
        assert_eq!(
            [
                tcpmux.http_user,
                tcpmux.http_pwd,
                tcpmux.route_by_http_user,
                tcpmux.multiplexer
            ],
            ["mu", "mp", "mr", "httpconnect"]
        );
        let sudp = SudpProxy {
            secret_key: "sk".into(),
            allow_users: vec!["a".into(), "b".into()],
        };
        let sudp = of("su", ProxyKind::Sudp(sudp), "sudp");
        assert_eq!((sudp.sk.as_str(), sudp.allow_users.len()), ("sk", 2));
    }
}
