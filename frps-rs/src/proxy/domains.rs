//! Domains of `http`, `https` and `tcpmux` proxies (server.md §3.1, §3.4).

use frp_proto::msg::NewProxy;

/// Whether this server may give the proxy the domains it asks for. `host` is `subDomainHost`, empty = off.
pub(crate) fn check(host: &str, m: &NewProxy) -> Result<(), String> {
    if !host.is_empty() {
        for domain in &m.custom_domains {
            let rest = domain.strip_suffix(host);
            if rest.is_some_and(|rest| rest.ends_with('.')) {
                return Err(format!(
                    "custom domain [{domain}] should not belong to subdomain host [{host}]"
                ));
            }
        }
    }
    if m.subdomain.is_empty() {
        return Ok(());
    }
    if host.is_empty() {
        return Err(
            "subdomain is not supported because this feature is not enabled in server".into(),
        );
    }
    if m.subdomain.contains(['.', '*']) {
        return Err("'.' and '*' are not supported in subdomain".into());
    }
    Ok(())
}

/// The domains of a proxy in the order in which they are registered, as the client wrote them.
pub(crate) fn list(host: &str, m: &NewProxy) -> Vec<String> {
    let custom = m.custom_domains.iter().filter(|d| !d.is_empty()).cloned();
    let sub = (!m.subdomain.is_empty()).then(|| format!("{}.{host}", m.subdomain));
    custom.chain(sub).collect()
}

/// The `remote_addr` text for users of `domains` on a vhost port.
pub(crate) fn remote_addr<'a>(domains: impl IntoIterator<Item = &'a str>, port: i64) -> String {
    let addrs: Vec<String> = domains
        .into_iter()
        .map(|domain| match port {
            80 | 443 => domain.to_owned(),
            port => format!("{domain}:{port}"),
        })
        .collect();
    addrs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(custom: &[&str], subdomain: &str) -> NewProxy {
        NewProxy {
            custom_domains: custom.iter().map(|&d| d.to_owned()).collect(),
            subdomain: subdomain.to_owned(),
            ..NewProxy::default()
        }
    }

    #[test]
    fn the_subdomain_host_is_not_for_custom_domains() {
        let of = |domain: &str| check("sub.test", &proxy(&[domain], ""));
        for allowed in ["a.test", "sub.test", "xsub.test", "A.SUB.TEST", ""] {
            assert_eq!(of(allowed), Ok(()), "{allowed}");
        }
        assert_eq!(
            of("a.sub.test").unwrap_err(),
            "custom domain [a.sub.test] should not belong to subdomain host [sub.test]"
        );
        assert_eq!(check("", &proxy(&["a."], "")), Ok(()));
    }

    #[test]
    fn a_subdomain_is_one_label_below_a_host() {
        assert_eq!(check("sub.test", &proxy(&[], "a")), Ok(()));
        assert_eq!(
            check("", &proxy(&[], "a")).unwrap_err(),
            "subdomain is not supported because this feature is not enabled in server"
        );
        for bad in ["a.b", "*", "a*"] {
            assert_eq!(
                check("sub.test", &proxy(&[], bad)).unwrap_err(),
                "'.' and '*' are not supported in subdomain"
            );
        }
    }

    #[test]
    fn custom_domains_come_first_and_the_port_only_if_it_is_not_a_default() {
        let domains = list("sub.test", &proxy(&["A.com", "", "b.com"], "s"));
        assert_eq!(domains, ["A.com", "b.com", "s.sub.test"]);
        let text = |port| remote_addr(domains.iter().map(String::as_str), port);
        assert_eq!(text(8080), "A.com:8080,b.com:8080,s.sub.test:8080");
        assert_eq!(text(80), "A.com,b.com,s.sub.test");
        assert_eq!(text(443), "A.com,b.com,s.sub.test");
        assert_eq!(remote_addr([], 80), "");
    }
}
