//! `https` proxies (server.md §5.4).

use std::sync::Arc;

use frp_proto::msg::NewProxy;

use super::{Begun, Context, Started, domains};

/// Takes the domains, or a place in the group that has the only one.
pub(super) async fn start(context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
    let shared = &context.shared;
    let domains = domains::list(&shared.now().settings.sub_domain_host, m);
    let mut places = Vec::new();
    for domain in &domains {
        places.push(shared.https.join(&context, m, domain).await?);
        tracing::info!(
            run_id = %context.session.run_id, proxy = %context.name,
            "https proxy listen for host [{domain}] group [{}]", m.group
        );
    }
    let port = shared.settings.vhost_ports.https;
    Ok(Started {
        remote_addr: domains::remote_addr(domains.iter().map(String::as_str), port),
        life: Begun::held(context.clone(), places),
    })
}
