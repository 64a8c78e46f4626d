//! Registration of `http` proxies (server.md §5.3): a route for each domain and location.

use std::sync::Arc;

use frp_proto::msg::NewProxy;

use super::{Begun, Context, Started, domains};
use crate::vhost::http::pool::Pool;
use crate::vhost::http::routes::{Place, Seat};

/// What an `http` proxy holds, in the order in which it is given back.
struct Claims {
    _connections: Connections,
    _seats: Vec<Seat>,
}

/// Those to the backend, which end with the proxy.
struct Connections(Arc<Pool>);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Takes all routes, or none.
pub(super) async fn start(context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
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
            let place = Arc::new(Place {
                domain: domain.as_str().into(),
                location: location.as_str().into(),
                user: m.route_by_http_user.as_str().into(),
            });
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
    let claims = Claims {
        _connections: Connections(pool),
        _seats: seats,
    };
    Ok(Started {
        remote_addr,
        life: Begun::held(context.clone(), claims),
    })
}
