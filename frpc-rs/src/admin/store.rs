//! The store's part of the API (admin-api.md §8): create, read, replace, delete.

use std::collections::BTreeMap;

use frp_admin::{ApiError, Method, Request, Response, Route};
use frp_proto::config::Definition;
use frp_proto::config::raw::client::{ProxyConfig, VisitorConfig};

use super::{Answer, done, failed};
use crate::service::{ChangeError, Service};
use crate::store::{Kind, StoreError};

/// The routes for both kinds of entries.
pub(super) fn routes<H, F>(handle: impl Fn(fn(&Service, &Request) -> Answer) -> H) -> Vec<Route>
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    const PROXIES: &str = "/api/store/proxies";
    const PROXY: &str = "/api/store/proxies/{name}";
    const VISITORS: &str = "/api/store/visitors";
    const VISITOR: &str = "/api/store/visitors/{name}";
    vec![
        Route::get(PROXIES, handle(list::<ProxyConfig>)).about("stored proxies"),
        Route::new(Method::POST, PROXIES, handle(create::<ProxyConfig>)).about("store a proxy"),
        Route::get(PROXY, handle(get::<ProxyConfig>)).about("a stored proxy"),
        Route::new(Method::PUT, PROXY, handle(update::<ProxyConfig>))
            .about("replace a stored proxy"),
        Route::new(Method::DELETE, PROXY, handle(delete::<ProxyConfig>))
            .about("delete a stored proxy"),
        Route::get(VISITORS, handle(list::<VisitorConfig>)).about("stored visitors"),
        Route::new(Method::POST, VISITORS, handle(create::<VisitorConfig>))
            .about("store a visitor"),
        Route::get(VISITOR, handle(get::<VisitorConfig>)).about("a stored visitor"),
        Route::new(Method::PUT, VISITOR, handle(update::<VisitorConfig>))
            .about("replace a stored visitor"),
        Route::new(Method::DELETE, VISITOR, handle(delete::<VisitorConfig>))
            .about("delete a stored visitor"),
    ]
}

impl From<ChangeError> for ApiError {
    fn from(e: ChangeError) -> Self {
        let text = e.to_string();
        match e {
            ChangeError::Store(StoreError::Invalid(_)) => Self::bad_request(text),
            ChangeError::Store(StoreError::Exists { .. } | StoreError::InFile { .. }) => {
                Self::new(frp_admin::StatusCode::CONFLICT, text)
            }
            ChangeError::Store(StoreError::NotFound { .. }) | ChangeError::Disabled => {
                Self::not_found(text)
            }
            ChangeError::Store(StoreError::Persist(_)) | ChangeError::Apply(_) => failed(text),
        }
    }
}

fn list<E: Kind>(service: &Service, _: &Request) -> Answer {
    let listed = service.with_store(|store| {
        let definitions: Vec<_> = store.entries::<E>().map(Definition).collect();
        Response::json(&BTreeMap::from([(E::LIST, definitions)]))
    });
    listed.ok_or_else(|| ChangeError::Disabled.into())
}

fn get<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    let found = service.with_store(|store| {
        let entry = store.get::<E>(name)?;
        Some(Response::json(&Definition(entry)))
    });
    found
        .ok_or(ChangeError::Disabled)?
        .ok_or_else(|| ApiError::not_found(format!("not found: {} {name:?}", E::WHAT)))
}

fn create<E: Kind>(service: &Service, request: &Request) -> Answer {
    let entry: E = parse(request, None)?;
    service.change_store(|store, _| store.create(&entry))?;
    told("created", &entry)
}

fn update<E: Kind>(service: &Service, request: &Request) -> Answer {
    let entry: E = parse(request, Some(request.param("name")))?;
    service.change_store(|store, _| store.update(&entry))?;
    told("updated", &entry)
}

fn delete<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    service.change_store(|store, _| store.remove::<E>(name))?;
    tracing::info!("store: deleted {} {name:?}", E::WHAT);
    Ok(done())
}

pub(super) fn parse<E: Kind>(request: &Request, name: Option<&str>) -> Result<E, ApiError> {
    let text = String::from_utf8_lossy(request.body());
    E::from_definition(&text, name).map_err(|e| ApiError::bad_request(e.to_string()))
}

#[expect(clippy::unnecessary_wraps, reason = "ends handlers, which can fail")]
pub(super) fn told<E: Kind>(what: &str, entry: &E) -> Answer {
    tracing::info!("store: {what} {} {:?}", E::WHAT, entry.name());
    Ok(Response::json(&Definition(entry)))
}
