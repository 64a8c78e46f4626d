//! Connections to backends are used again, and given up with their proxy.

use conformance::http::{Backend, User};
use conformance::wait::LIMIT;
use conformance::{Case, Lab, Outcome, wait};

use super::{Site, domains, get, proxy};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::pair("http/keep_alive", keep_alive),
        Case::pair("http/closed_by_the_backend", closed_by_the_backend),
        Case::frps("http/another_backend", another_backend)
            .ours_only("upstream keeps idle connections of proxies that are gone"),
        Case::pair("http/client_leaves", client_leaves),
    ]
}

async fn site(lab: &Lab, backend: &Backend) -> Outcome<Site> {
    let proxies = vec![proxy("web", backend.address, &[domains(&["a.test"])])];
    Site::start(lab, proxies, |frps| frps).await
}

async fn keep_alive(lab: &Lab) -> Outcome {
    let backend = Backend::start("A").await?;
    let site = site(lab, &backend).await?;
    let mut user = site.user().await?;
    for _ in 0..50 {
        user.send(get("a.test", "/hops")).await?;
        assert!(user.answer().await?.ends_with("\n\nok"));
    }
    // Users do not matter, only the backend does.
    for _ in 0..10 {
        site.ask(&get("a.test", "/hops")).await?;
    }
    assert!(backend.connections() <= 3, "{}", backend.connections());
    Ok(())
}

/// Each answer is the last on its connection, although its head does not say so: no user may notice.
async fn closed_by_the_backend(lab: &Lab) -> Outcome {
    let backend = Backend::start("A").await?;
    let site = site(lab, &backend).await?;
    let mut user = User::connect(site.vhost).await?;
    for n in 0..100 {
        user.send(get("a.test", "/bye")).await?;
        let answer = user.answer().await?;
        assert!(answer.ends_with("\n\nbye"), "{n}: {answer}");
    }
    Ok(())
}

/// A client that comes back with another backend: not one request goes to the old one.
async fn another_backend(lab: &Lab) -> Outcome {
    let (a, b) = (Backend::start("A").await?, Backend::start("B").await?);
    let mut site = site(lab, &a).await?;
    let answer = site.ask(&get("a.test", "/")).await?;
    assert!(answer.contains("\nx-backend: A\n"), "{answer}");
    site.frpc.kill()?;
    site.ask_until(&get("a.test", "/"), "HTTP/1.1 404 ").await?;
    let proxies = vec![proxy("web", b.address, &[domains(&["a.test"])])];
    let _frpc = Site::client(lab, site.server, proxies).await?;
    let answer = site.ask_until(&get("a.test", "/"), "HTTP/1.1 200 ").await?;
    assert!(answer.contains("\nx-backend: B\n"), "{answer}");
    Ok(())
}

/// Routes go with their client, also while a request is under way.
async fn client_leaves(lab: &Lab) -> Outcome {
    let backend = Backend::start("A").await?;
    let mut site = site(lab, &backend).await?;
    let mut user = site.user().await?;
    user.send(get("a.test", "/hang")).await?;
    wait::until("the backend is asked", LIMIT, async || {
        (backend.connections() == 1).then_some(())
    })
    .await?;
    site.frpc.kill()?;
    let answer = user.answer().await?;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    site.ask_until(&get("a.test", "/"), "HTTP/1.1 404 ").await?;
    assert!(site.frps.ended().is_none());
    Ok(())
}
