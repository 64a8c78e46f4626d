//! The admin HTTP server of frps (admin-api.md §2): API v1 and v2, metrics, what runs.

#![expect(
    clippy::unnecessary_wraps,
    reason = "handlers have one type, whether they can fail or not"
)]

mod lb;
mod manage;
mod page;
mod pushed;
mod shown;
mod tasks;
mod v1;
mod v2;

use std::future::{Ready, ready};
use std::sync::Arc;

use frp_admin::{
    ApiError, Dashboard, Method, Metrics, Request, Response, Route, Router, pprof_routes,
    static_routes,
};
use frp_proto::text::VERSION;

use crate::settings::{Info, WebSettings};
use crate::{Shared, balance};

type Answer = Result<Response, ApiError>;

/// The table of routes.
pub(crate) fn router(shared: &Arc<Shared>, settings: &WebSettings) -> Router {
    // What a handler needs is in memory: none waits for anything.
    let on = |handler: fn(&Shared, &Request) -> Answer| {
        let shared = shared.clone();
        move |request: Request| -> Ready<Answer> { ready(handler(&shared, &request)) }
    };
    let mut routes = vec![
        Route::get("/api/serverinfo", on(v1::server_info)).about("the server"),
        Route::get("/api/proxy/{type}", on(v1::proxies_of_type)).about("proxies of a type"),
        Route::get("/api/proxy/{type}/{name}", on(v1::proxy_of_type)).about("a proxy of a type"),
        Route::get("/api/proxies/{name}", on(v1::proxy)).about("a proxy"),
        Route::get("/api/traffic/{name}", on(v1::traffic)).about("traffic of a proxy by day"),
        Route::get("/api/clients", on(v1::clients))
            .about("clients")
            .query(&["user", "clientId", "runId", "status"]),
        Route::get("/api/clients/{key}", on(v1::client)).about("a client"),
        Route::new(Method::DELETE, "/api/proxies", on(v1::prune))
            .about("forget proxies that are offline")
            .query(&["status"]),
    ];
    routes.extend(v2_routes(on));
    routes.extend(lb_routes(on));
    routes.extend(manage_routes(shared, on));
    routes.extend(push_routes(shared, on));
    if settings.prometheus {
        routes.push(
            Route::any("/metrics", on(metrics))
                .about("metrics for Prometheus")
                .media("text/plain"),
        );
    }
    if settings.server.pprof {
        let shared = shared.clone();
        routes.extend(pprof_routes(move || tasks::list(&shared)));
    }
    routes.extend(static_routes(
        settings.server.assets_dir.clone(),
        Dashboard::Frps,
    ));
    Router::new(routes).documented("frps", VERSION)
}

/// Upstream's API v2.
fn v2_routes<H: Fn(Request) -> Ready<Answer> + Send + Sync + 'static>(
    on: impl Fn(fn(&Shared, &Request) -> Answer) -> H,
) -> [Route; 8] {
    [
        Route::get("/api/v2/system/info", on(v2::system_info)).about("the server"),
        Route::new(Method::POST, "/api/v2/system/prune", on(v2::prune))
            .about("forget proxies that are offline")
            .query(&["type"]),
        Route::get("/api/v2/users", on(v2::users))
            .about("users")
            .query(&["page", "pageSize", "q"]),
        Route::get("/api/v2/clients", on(v2::clients))
            .about("clients")
            .query(&[
                "page", "pageSize", "status", "user", "clientID", "runID", "q",
            ]),
        Route::get("/api/v2/clients/{key}", on(v2::client)).about("a client"),
        Route::get("/api/v2/proxies", on(v2::proxies))
            .about("proxies")
            .query(&[
                "page", "pageSize", "status", "type", "user", "clientID", "q",
            ]),
        Route::get("/api/v2/proxies/{name}", on(v2::proxy)).about("a proxy"),
        Route::get("/api/v2/proxies/{name}/traffic", on(v2::traffic))
            .about("traffic of a proxy by day"),
    ]
    .map(Route::v2)
}

/// Groups and their members.
fn lb_routes<H: Fn(Request) -> Ready<Answer> + Send + Sync + 'static>(
    on: impl Fn(fn(&Shared, &Request) -> Answer) -> H,
) -> [Route; 5] {
    let member = "/api/v2/lb/groups/{kind}/{group}/members/{id}";
    let drain = "/api/v2/lb/groups/{kind}/{group}/members/{id}/drain";
    let shed = "/api/v2/lb/groups/{kind}/{group}/shed";
    [
        Route::get("/api/v2/lb/groups", on(lb::groups))
            .about("load-balancing groups")
            .query(&["page", "pageSize"]),
        Route::get("/api/v2/lb/groups/{kind}/{group}", on(lb::group))
            .about("a load-balancing group"),
        Route::new(Method::PATCH, member, on(lb::change))
            .about("change a member of a load-balancing group"),
        Route::new(Method::POST, drain, on(lb::drain))
            .about("drain a member of a load-balancing group"),
        Route::new(Method::POST, shed, on(lb::shed))
            .about("move users to members that have joined a load-balancing group"),
    ]
    .map(Route::v2)
}

/// What upstream does not have.
fn manage_routes<H: Fn(Request) -> Ready<Answer> + Send + Sync + 'static>(
    shared: &Arc<Shared>,
    on: impl Fn(fn(&Shared, &Request) -> Answer) -> H,
) -> [Route; 8] {
    let post = Method::POST;
    [
        Route::new(
            post.clone(),
            "/api/v2/system/reload",
            during(shared, manage::reload),
        )
        .about("read the configuration file again"),
        Route::get("/api/v2/system/disabled-proxies", on(manage::disabled))
            .about("names of proxies that are refused"),
        Route::new(post.clone(), "/api/v2/clients/{key}/kick", on(manage::kick))
            .about("end the session of a client"),
        Route::new(
            post.clone(),
            "/api/v2/clients/{key}/drain",
            during(shared, manage::drain),
        )
        .about("close all proxies of a client and let it open no more"),
        Route::new(
            post.clone(),
            "/api/v2/proxies/{name}/close",
            during(shared, manage::close_proxy),
        )
        .about("close a proxy"),
        Route::new(
            post.clone(),
            "/api/v2/proxies/{name}/disable",
            during(shared, manage::disable),
        )
        .about("close a proxy and refuse its name"),
        Route::new(post, "/api/v2/proxies/{name}/enable", on(manage::enable))
            .about("refuse a name no longer"),
        Route::get("/api/v2/events", on(manage::events))
            .about("what happens, as Server-Sent Events")
            .media("text/event-stream"),
    ]
    .map(Route::v2)
}

/// Proxies that are pushed to clients.
fn push_routes<H: Fn(Request) -> Ready<Answer> + Send + Sync + 'static>(
    shared: &Arc<Shared>,
    on: impl Fn(fn(&Shared, &Request) -> Answer) -> H,
) -> [Route; 3] {
    let all = "/api/v2/clients/{key}/pushed-proxies";
    let one = "/api/v2/clients/{key}/pushed-proxies/{name}";
    [
        Route::get(all, on(pushed::list)).about("proxies that were pushed to a client"),
        Route::new(Method::POST, all, during(shared, pushed::push))
            .about("push a proxy to a client that allows it"),
        Route::new(Method::DELETE, one, during(shared, pushed::remove))
            .about("have a client serve a pushed proxy no longer"),
    ]
    .map(Route::v2)
}

/// For handlers that wait.
fn during<F>(
    shared: &Arc<Shared>,
    handler: fn(Arc<Shared>, Request) -> F,
) -> impl Fn(Request) -> F + Send + Sync + 'static
where
    F: Future<Output = Answer> + 'static,
{
    let shared = shared.clone();
    move |request| handler(shared.clone(), request)
}

fn metrics(shared: &Shared, _: &Request) -> Answer {
    let mut metrics = Metrics::default();
    shared.stats.add_to(&mut metrics);
    crate::metrics::add_to(shared, &mut metrics);
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
