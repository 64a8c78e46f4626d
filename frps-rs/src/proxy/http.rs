//! Registration of `http` proxies (server.md §5.3): a route for each domain and location.

use std::sync::Arc;

use frp_proto::msg::NewProxy;
use tokio_util::sync::CancellationToken;

use super::{Context, Started, domains};
use crate::vhost::http::pool::Pool;
use crate::vhost::http::routes::Place;

/// Takes all routes, or none.
pub(super) async fn start(
    context: Arc<Context>,
    m: &NewProxy,
    cancel: CancellationToken,
) -> Result<Started, String> {
    let (shared, run_id, name) = (&context.shared, &context.session.run_id, &context.name);
    let settings = &shared.settings;
    let domains = domains::list(&shared.now().settings.sub_domain_host, m);
    let everywhere = [String::new()];
    let locations = match m.locations.as_slice() {
        [] => &everywhere,
        some => some,
    };
    let pool = Arc::new(Pool::new(context.clone()));
    let mut seats = Vec::with_capacity(domains.len() * locations.len());
    let mut places = Vec::new();
    let mut routed = Vec::new();
    for domain in &domains {
        for location in locations {
            let place = Place {
                domain: domain.clone(),
                location: location.clone(),
                user: m.route_by_http_user.clone(),
            };
            if !m.group.is_empty() && places.contains(&place) {
                return Err("group proxy repeated".into());
            }
            seats.push(shared.http.join(m, &place, &pool).await?);
            places.push(place);
            routed.push(domain.as_str());
            tracing::info!(
                run_id = %run_id, proxy = %name,
                "http proxy listen for host [{domain}] location [{location}] group [{}], routeByHTTPUser [{}]",
                m.group, m.route_by_http_user
            );
        }
    }
    let remote_addr = domains::remote_addr(routed, settings.vhost_ports.http);
    let context = context.clone();
    let life = async move {
        pool.run(&cancel).await;
        drop(seats);
        tracing::info!(run_id = %context.session.run_id, proxy = %context.name, "proxy closing");
    };
    Ok(Started {
        remote_addr,
        life: Box::pin(life),
    })
}
