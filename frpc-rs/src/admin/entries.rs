//! Proxies and visitors managed while frpc runs, beyond upstream's API: docs/api.md describes it to its users.
//!
//! What is changed is in the store. An entry of the configuration file can be overridden there, not deleted.

use frp_admin::{Method, Request, Route};
use frp_proto::config::Definition;
use frp_proto::config::raw::client::{ProxyConfig, VisitorConfig};
use serde_json::{Map, Value};

use super::store::{parse, told};
use super::{Answer, definition, done};
use crate::service::Service;
use crate::store::{Kind, StoreError};

/// The routes for both kinds of entries; all of them show or change secrets.
pub(super) fn routes<H, F>(handle: impl Fn(fn(&Service, &Request) -> Answer) -> H) -> Vec<Route>
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    const PROXY: &str = "/api/proxy/{name}";
    const VISITOR: &str = "/api/visitor/{name}";
    let routes = [
        Route::new(Method::POST, "/api/proxy", handle(create::<ProxyConfig>)).about("add a proxy"),
        Route::get(PROXY, handle(definition::<ProxyConfig>)).about("the definition of a proxy"),
        Route::new(Method::PUT, PROXY, handle(replace::<ProxyConfig>)).about("replace a proxy"),
        Route::new(Method::PATCH, PROXY, handle(patch::<ProxyConfig>))
            .about("change some keys of a proxy"),
        Route::new(Method::DELETE, PROXY, handle(delete::<ProxyConfig>)).about("delete a proxy"),
        Route::new(
            Method::POST,
            "/api/visitor",
            handle(create::<VisitorConfig>),
        )
        .about("add a visitor"),
        Route::get(VISITOR, handle(definition::<VisitorConfig>))
            .about("the definition of a visitor"),
        Route::new(Method::PUT, VISITOR, handle(replace::<VisitorConfig>))
            .about("replace a visitor"),
        Route::new(Method::PATCH, VISITOR, handle(patch::<VisitorConfig>))
            .about("change some keys of a visitor"),
        Route::new(Method::DELETE, VISITOR, handle(delete::<VisitorConfig>))
            .about("delete a visitor"),
    ];
    routes.into_iter().map(Route::admin).collect()
}

fn find<'a, E: Kind>(entries: &'a [E], name: &str) -> Option<&'a E> {
    entries.iter().find(|entry| entry.name() == name)
}

fn not_found<E: Kind>(name: &str) -> StoreError {
    StoreError::NotFound {
        what: E::WHAT,
        name: name.into(),
    }
}

/// `POST /api/proxy`
fn create<E: Kind>(service: &Service, request: &Request) -> Answer {
    let entry: E = parse(request, None)?;
    service.change_store(|store, file| {
        if find::<E>(E::configured(file), entry.name()).is_some() {
            return Err(StoreError::Exists {
                what: E::WHAT,
                name: entry.name().into(),
            });
        }
        store.create(&entry)
    })?;
    told("created", &entry)
}

/// `PUT /api/proxy/{name}`
fn replace<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    let entry: E = parse(request, Some(name))?;
    service.change_store(|store, file| {
        let known = store.get::<E>(name).or(find(E::configured(file), name));
        known.ok_or_else(|| not_found::<E>(name))?;
        store.set(&entry)
    })?;
    told("updated", &entry)
}

/// `PATCH /api/proxy/{name}`: a JSON merge patch (RFC 7396) of its definition.
fn patch<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    let patch: Value = serde_json::from_slice(request.body())
        .map_err(|e| frp_admin::ApiError::bad_request(format!("parse JSON error: {e}")))?;
    let mut patched = None;
    service.change_store(|store, file| {
        let known = store.get::<E>(name).or(find(E::configured(file), name));
        let known = known.ok_or_else(|| not_found::<E>(name))?;
        let entry = with_patch(known, patch, name).map_err(StoreError::Invalid)?;
        store.set(&entry)?;
        patched = Some(entry);
        Ok(())
    })?;
    match patched {
        Some(entry) => told("updated", &entry),
        None => Ok(done()),
    }
}

/// `DELETE /api/proxy/{name}`
fn delete<E: Kind>(service: &Service, request: &Request) -> Answer {
    let name = request.param("name");
    service.change_store(|store, file| {
        let in_file = find::<E>(E::configured(file), name).is_some();
        if in_file && store.get::<E>(name).is_none() {
            return Err(StoreError::InFile {
                what: E::WHAT,
                name: name.into(),
            });
        }
        store.remove::<E>(name)
    })?;
    tracing::info!("store: deleted {} {name:?}", E::WHAT);
    Ok(done())
}

fn with_patch<E: Kind>(entry: &E, patch: Value, name: &str) -> Result<E, String> {
    let mut value = serde_json::to_value(Definition(entry)).map_err(|e| e.to_string())?;
    merge(&mut value, patch);
    // An entry says its name and type twice, and those of the definition count.
    E::from_definition(&value.to_string(), Some(name)).map_err(|e| e.to_string())
}

/// RFC 7396: members of objects are replaced one by one, `null` takes one out, anything else replaces the whole.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use frp_proto::config::raw::Entry;

    use super::*;

    #[test]
    fn the_examples_of_rfc_7396() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let [mut target, patch, expected] =
                [target, patch, expected].map(|text| serde_json::from_str::<Value>(text).unwrap());
            merge(&mut target, patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let text = r#"{"name":"a","type":"tcp","tcp":{"localPort":1,"remotePort":2,"metadatas":{"k":"v"}}}"#;
        let entry = ProxyConfig::from_definition(text, None).unwrap();
        let patch = |text: &str| with_patch(&entry, serde_json::from_str(text).unwrap(), "a");
        let patched = patch(r#"{"tcp":{"localPort":9,"metadatas":null}}"#).unwrap();
        assert_eq!(patched.base.local_port, 9);
        assert!(patched.base.metadatas.is_empty());
        assert_eq!(patched.kind, entry.kind);
        let other = patch(r#"{"type":"stcp","tcp":null,"stcp":{"secretKey":"s"}}"#).unwrap();
        assert_eq!(other.base.type_, "stcp");
        assert_eq!(
            patch(r#"{"name":"b"}"#).unwrap_err(),
            "proxy name in URL must match name in body"
        );
        assert!(patch("1").is_err());
    }
}
