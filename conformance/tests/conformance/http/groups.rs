//! Domains that are refused, and groups of proxies.

use conformance::config::Proxy;
use conformance::http::Backend;
use conformance::raw::{Client, Link, login_message};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, ports, wait};
use frp_proto::msg::{CloseProxy, Message, NewProxy, Version};

use super::{Site, domains, get, proxy, text};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::frps("http/registration", registration),
        Case::pair("http/group", group),
    ]
}

fn http(name: &str, domains: &[&str]) -> NewProxy {
    NewProxy {
        proxy_name: name.into(),
        proxy_type: "http".into(),
        custom_domains: domains.iter().map(|&d| d.to_owned()).collect(),
        ..NewProxy::default()
    }
}

fn grouped(name: &str, domains: &[&str], key: &str) -> NewProxy {
    NewProxy {
        group: "g".into(),
        group_key: key.into(),
        ..http(name, domains)
    }
}

/// Announcements one after another, and their answers: an address, or an error.
async fn registration(lab: &Lab) -> Outcome {
    let port = ports::free();
    let setup = lab
        .setup()
        .frps("transport.tcpMux", false)
        .frps("subDomainHost", "sub.test")
        .frps("vhostHTTPPort", port);
    let (_frps, server) = setup.start_server().await?;
    let link = Link::plain(server, Version::V1);
    let mut client = link.login(login_message()).await?;
    let located = |m: NewProxy, locations: &[&str]| NewProxy {
        locations: locations.iter().map(|&l| l.to_owned()).collect(),
        ..m
    };
    let below = |m: NewProxy, subdomain: &str| NewProxy {
        subdomain: subdomain.into(),
        ..m
    };
    let conflict = "router config conflict";
    let invalid = "group params invalid";
    let at = |domain: &str| format!("{domain}:{port}");
    let rows = [
        (http("none", &[]), Ok(String::new())),
        (
            below(
                located(http("a", &["A.test", "", "b.test"]), &["/x", "/y"]),
                "s",
            ),
            Ok([
                "A.test",
                "A.test",
                "b.test",
                "b.test",
                "s.sub.test",
                "s.sub.test",
            ]
            .map(at)
            .join(",")),
        ),
        (located(http("b", &["a.TEST"]), &["/x"]), Err(conflict)),
        (
            located(http("b", &["free.test", "a.test"]), &["/y"]),
            Err(conflict),
        ),
        // What was taken before the conflict is free again.
        (
            located(http("b", &["free.test"]), &["/y"]),
            Ok(at("free.test")),
        ),
        (http("c", &["c.test", "c.test"]), Err(conflict)),
        (
            http("c", &["c.sub.test"]),
            Err("custom domain [c.sub.test] should not belong to subdomain host [sub.test]"),
        ),
        (http("c", &["sub.test"]), Ok(at("sub.test"))),
        (
            below(http("d", &[]), "d.e"),
            Err("'.' and '*' are not supported in subdomain"),
        ),
        (grouped("g1", &["g.test"], "k"), Ok(at("g.test"))),
        (grouped("g2", &["G.test"], "k"), Err(invalid)),
        (
            located(grouped("g2", &["g.test"], "k"), &["/"]),
            Err(invalid),
        ),
        (
            grouped("g2", &["g.test"], "other"),
            Err("group auth failed"),
        ),
        (grouped("g2", &["g.test", "h.test"], "k"), Err(invalid)),
        (
            grouped("g2", &["g.test", "g.test"], "k"),
            Err("group proxy repeated"),
        ),
        (grouped("g2", &["g.test"], "k"), Ok(at("g.test"))),
        (http("e", &["g.test"]), Err(conflict)),
    ];
    for (m, expected) in rows {
        expect(&mut client, m, expected.as_deref().map_err(|e| *e)).await?;
    }
    // The route stays as long as the group has a member.
    close(&mut client, "g1").await?;
    expect(&mut client, http("e", &["g.test"]), Err(conflict)).await?;
    close(&mut client, "g2").await?;
    expect(&mut client, http("e", &["g.test"]), Ok(&at("g.test"))).await?;
    Ok(())
}

async fn expect(client: &mut Client<'_>, m: NewProxy, expected: Result<&str, &str>) -> Outcome {
    let what = format!("{:?} {:?}", m.proxy_name, m.custom_domains);
    let resp = client.register(m).await?;
    let got = match &*resp.error {
        "" => Ok(&*resp.remote_addr),
        error => Err(error),
    };
    assert_eq!(got, expected, "{what}");
    Ok(())
}

async fn close(client: &mut Client<'_>, name: &str) -> Outcome {
    let message = CloseProxy {
        proxy_name: name.into(),
    };
    client.control.send(Message::CloseProxy(message)).await
}

/// Members take turns, the second first; the first one's settings hold for all.
async fn group(lab: &Lab) -> Outcome {
    let (a, b) = (Backend::start("A").await?, Backend::start("B").await?);
    let member = |name: &str, backend: &Backend, header: &str| -> Proxy {
        proxy(
            name,
            backend.address,
            &[
                domains(&["g.test"]),
                text("loadBalancer.group", "g"),
                text("loadBalancer.groupKey", "k"),
                text("responseHeaders.set.x-resp", header),
            ],
        )
    };
    let site = Site::start(lab, vec![member("one", &a, "1")], |frps| frps).await?;
    let mut second = Site::client(lab, site.server, vec![member("two", &b, "2")]).await?;
    let mut backends = String::new();
    for _ in 0..4 {
        let answer = site.ask(&get("g.test", "/")).await?;
        assert!(answer.contains("\nx-resp: 1\n"), "{answer}");
        backends += if answer.contains("\nx-backend: A\n") {
            "A"
        } else {
            "B"
        };
    }
    assert_eq!(backends, "BABA");
    second.kill()?;
    wait::until("only one is left", LIMIT, async || {
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(site.ask(&get("g.test", "/")).await.ok()?);
        }
        let all = |a: &String| a.contains("\nx-backend: A\n");
        answers.iter().all(all).then_some(())
    })
    .await
}
