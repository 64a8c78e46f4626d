//! The admin API (admin-api.md §6 to §9).

mod entries;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use frp_admin::{
    ApiError, Dashboard, Method, Request, Response, Route, Router, Server, StatusCode,
    pprof_routes, static_routes,
};
use frp_proto::config::Definition;
use frp_proto::config::raw::client::{ProxyConfig, VisitorConfig};
use frp_proto::text::VERSION;
use serde::Serialize;

use crate::metrics;
use crate::service::{ConfigFile, ReloadError, Service};
use crate::store::Kind;

/// What handlers give.
type Answer = Result<Response, ApiError>;

/// Serves until the client stops.
pub(crate) async fn serve(server: Server, service: Arc<Service>) {
    let pprof = service.shared().settings.pprof;
    if let Ok(address) = server.local_addr() {
        tracing::info!("admin server listen on {address}");
    }
    let stop = service.shared().stop.clone();
    let server = server.audited(service.shared().audit.clone());
    if let Err(e) = server.serve(router(&service, pprof), stop).await {
        tracing::warn!("admin server exit with error: {e}");
    }
}

fn router(service: &Arc<Service>, pprof: bool) -> Router {
    let handle = |handler: fn(&Service, &Request) -> Answer| {
        let service = service.clone();
        move |request| blocking(service.clone(), request, handler)
    };
    let mut routes = vec![
        Route::get("/api/status", handle(status)).about("where each proxy stands"),
        // To read a file again is to change something.
        Route::get("/api/reload", handle(reload))
            .admin()
            .about("read the configuration file again")
            .query(&["strictConfig"]),
        Route::new(Method::POST, "/api/stop", handle(stop)).about("stop the program"),
        Route::get("/api/config", handle(read_config))
            .admin()
            .about("the configuration file")
            .media("text/plain"),
        Route::new(Method::PUT, "/api/config", handle(write_config))
            .about("replace the configuration file"),
        Route::get(
            "/api/proxy/{name}/config",
            handle(definition::<ProxyConfig>),
        )
        .admin()
        .about("the definition of a proxy"),
        Route::get(
            "/api/visitor/{name}/config",
            handle(definition::<VisitorConfig>),
        )
        .admin()
        .about("the definition of a visitor"),
    ];
    routes.extend(entries::routes(handle));
    if service.has_store() {
        routes.extend(store::routes(handle).into_iter().map(Route::admin));
    }
    let assets = service.shared().settings.assets_dir.clone();
    routes.extend(static_routes(assets, Dashboard::Frpc));
    if service.shared().settings.prometheus {
        routes.push(
            Route::any("/metrics", handle(metrics))
                .about("metrics for Prometheus")
                .media("text/plain"),
        );
    }
    if pprof {
        let tasks = service.shared().tasks.clone();
        routes.extend(pprof_routes(move || {
            let metrics = tokio::runtime::Handle::current().metrics();
            let (workers, alive) = (metrics.num_workers(), metrics.num_alive_tasks());
            format!(
                "workers {workers}\ntasks {alive}\nconnections {}\n",
                tasks.len()
            )
        }));
    }
    Router::new(routes).documented("frpc", VERSION)
}

/// Runs a handler where it may wait for files and for other changes.
async fn blocking(
    service: Arc<Service>,
    request: Request,
    handler: fn(&Service, &Request) -> Answer,
) -> Answer {
    let done = tokio::task::spawn_blocking(move || handler(&service, &request)).await;
    done.unwrap_or_else(|e| Err(failed(e.to_string())))
}

fn failed(text: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn done() -> Response {
    Response::empty(StatusCode::OK)
}

/// One proxy in `/api/status`.
#[derive(Serialize)]
struct Shown {
    name: String,
    #[serde(rename = "type")]
    type_: String,
    status: String,
    err: String,
    local_addr: String,
    plugin: String,
    remote_addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

#[expect(clippy::unnecessary_wraps, reason = "handlers can fail")]
fn status(service: &Service, _: &Request) -> Answer {
    let mut types: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for (proxy, source) in service.status() {
        types.entry(proxy.type_.clone()).or_default().push(Shown {
            name: proxy.name,
            type_: proxy.type_,
            status: proxy.phase.to_string(),
            err: proxy.error,
            local_addr: proxy.local_addr,
            plugin: proxy.plugin,
            remote_addr: proxy.remote_addr,
            source,
        });
    }
    Ok(Response::json(&types))
}

fn reload(service: &Service, request: &Request) -> Answer {
    let strict = request.query("strictConfig").is_some_and(is_true);
    match service.reload(strict) {
        Ok(()) => Ok(done()),
        Err(e @ ReloadError::Invalid(_)) => Err(ApiError::bad_request(upstream_s(&e.to_string()))),
        Err(e @ ReloadError::Apply(_)) => Err(failed(e.to_string())),
    }
}

/// What Go takes for true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&text)
}

/// A text without our lines that show where in a file something is; the log has them.
fn upstream_s(text: &str) -> String {
    let ours = |line: &&str| !line.starts_with("  --> ");
    text.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

#[expect(clippy::unnecessary_wraps, reason = "handlers can fail")]
fn stop(service: &Service, _: &Request) -> Answer {
    service.stop();
    Ok(done())
}

fn read_config(service: &Service, _: &Request) -> Answer {
    let content = service.file().and_then(ConfigFile::read);
    let content = content.map_err(|e| ApiError::bad_request(format!("invalid argument: {e}")))?;
    Ok(Response::body("text/plain; charset=utf-8", content))
}

fn write_config(service: &Service, request: &Request) -> Answer {
    if request.body().is_empty() {
        return Err(ApiError::bad_request("body can't be empty"));
    }
    let file = service
        .file()
        .map_err(|e| ApiError::bad_request(format!("invalid argument: {e}")))?;
    file.write(request.body()).map_err(failed)?;
    Ok(done())
}

#[expect(clippy::unnecessary_wraps, reason = "handlers can fail")]
fn metrics(service: &Service, _: &Request) -> Answer {
    Ok(metrics::text(service).into())
}

fn definition<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    match service.entry::<E>(name) {
        Some(entry) => Ok(Response::json(&Definition(&entry))),
        None => Err(ApiError::not_found(format!(
            "{} {name:?} not found",
            E::WHAT
        ))),
    }
}
