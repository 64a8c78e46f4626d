//! The admin HTTP server of frps (admin-api.md §2): API v1 and v2, metrics, what runs.

#![expect(
    clippy::unnecessary_wraps,
    reason = "handlers have one type, whether they can fail or not"
)]

mod lb;
mod page;
mod shown;
mod tasks;
mod v1;
mod v2;

use std::future::{Ready, ready};
use std::sync::Arc;

use frp_admin::{
    ApiError, Method, Metrics, Request, Response, Route, Router, pprof_routes, static_routes,
};

use crate::settings::Info;
use crate::{Shared, balance};

type Answer = Result<Response, ApiError>;

/// The table of routes.
pub(crate) fn router(shared: &Arc<Shared>, pprof: bool, prometheus: bool) -> Router {
    // What a handler needs is in memory: none waits for anything.
    let on = |handler: fn(&Shared, &Request) -> Answer| {
        let shared = shared.clone();
        move |request: Request| -> Ready<Answer> { ready(handler(&shared, &request)) }
    };
    let mut routes = vec![
        Route::get("/api/serverinfo", on(v1::server_info)),
        Route::get("/api/proxy/{type}", on(v1::proxies_of_type)),
        Route::get("/api/proxy/{type}/{name}", on(v1::proxy_of_type)),
        Route::get("/api/proxies/{name}", on(v1::proxy)),
        Route::get("/api/traffic/{name}", on(v1::traffic)),
        Route::get("/api/clients", on(v1::clients)),
        Route::get("/api/clients/{key}", on(v1::client)),
        Route::new(Method::DELETE, "/api/proxies", on(v1::prune)),
        Route::get("/api/v2/system/info", on(v2::system_info)).v2(),
        Route::new(Method::POST, "/api/v2/system/prune", on(v2::prune)).v2(),
        Route::get("/api/v2/lb/groups", on(lb::groups)).v2(),
        Route::get("/api/v2/lb/groups/{kind}/{group}", on(lb::group)).v2(),
        Route::new(
            Method::PATCH,
            "/api/v2/lb/groups/{kind}/{group}/members/{id}",
            on(lb::change),
        )
        .v2(),
        Route::new(
            Method::POST,
            "/api/v2/lb/groups/{kind}/{group}/members/{id}/drain",
            on(lb::drain),
        )
        .v2(),
        Route::get("/api/v2/users", on(v2::users)).v2(),
        Route::get("/api/v2/clients", on(v2::clients)).v2(),
        Route::get("/api/v2/clients/{key}", on(v2::client)).v2(),
        Route::get("/api/v2/proxies", on(v2::proxies)).v2(),
        Route::get("/api/v2/proxies/{name}", on(v2::proxy)).v2(),
        Route::get("/api/v2/proxies/{name}/traffic", on(v2::traffic)).v2(),
    ];
    if prometheus {
        routes.push(Route::any("/metrics", on(metrics)));
    }
    if pprof {
        let shared = shared.clone();
        routes.extend(pprof_routes(move || tasks::list(&shared)));
    }
    routes.extend(static_routes());
    Router::new(routes)
}

fn metrics(shared: &Shared, _: &Request) -> Answer {
    let mut metrics = Metrics::default();
    shared.stats.add_to(&mut metrics);
    balance::add_to(&mut metrics, &shared.balancing.registry.named());
    metrics.add_process();
    Ok(metrics.into())
}

/// What is told of the configuration.
fn info(shared: &Shared) -> Result<&Info, ApiError> {
    let web = shared.settings.web.as_ref();
    // Requests come through the server that these settings are about.
    web.map(|web| &web.info).ok_or_else(no_proxy)
}

fn no_proxy() -> ApiError {
    ApiError::not_found("no proxy info found")
}
