//! What the statistics say of `http` proxies: connections to the backend count, from their beginning to their end.

use conformance::http::Backend;
use conformance::wait::{LIMIT, until};
use conformance::{Case, Lab, Outcome, ports};

use super::{Site, domains, get, proxy};
use crate::frps_admin::ask;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::pair("frps_admin/traffic_of_http", traffic)]
}

/// Connections, bytes to the backend, bytes from it.
async fn counted(web: u16) -> Outcome<[u64; 3]> {
    let answer = ask(web, "GET /api/proxies/web", "").await?;
    let proxy: serde_json::Value = serde_json::from_str(&answer.body)?;
    let number = |key: &str| proxy[key].as_u64().unwrap_or_default();
    Ok(["curConns", "todayTrafficIn", "todayTrafficOut"].map(number))
}

async fn traffic(lab: &Lab) -> Outcome {
    let web = ports::free();
    let backend = Backend::start("A").await?;
    let proxies = vec![proxy("web", backend.address, &[domains(&["a.test"])])];
    let site = Site::start(lab, proxies, |frps| frps.frps("webServer.port", web)).await?;
    site.ask(&get("a.test", "/hops")).await?;
    // It waits for another request, and is a connection still.
    assert_eq!(counted(web).await?, [1, 0, 0]);
    // This one is ended by the backend.
    site.ask(&get("a.test", "/bye")).await?;
    let [_, to, from] = until("the connection has ended", LIMIT, async || {
        let counted = counted(web).await.ok()?;
        (counted[0] == 0).then_some(counted)
    })
    .await?;
    let requests = get("a.test", "/hops").len() + get("a.test", "/bye").len();
    assert!(to > requests as u64 && from > 0, "{to} {from}");
    Ok(())
}
