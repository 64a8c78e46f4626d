//! The document of an API, made from its table of routes: a route cannot be missing.

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::response::ErrorForm;
use crate::router::Content;
use crate::{Role, Route};

/// An `OpenAPI` 3.1 document.
pub(crate) fn document(title: &str, version: &str, routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        // `/x/*` is all that is below.
        let path = match route.pattern.0.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{{path}}"),
            None => route.pattern.0.to_owned(),
        };
        let method = route.method.as_ref().unwrap_or(&Method::GET);
        let operation = operation(route, &path);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            // The first route that fits is the one that answers.
            item.entry(method.as_str().to_lowercase())
                .or_insert(operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": { "Code": { "type": "integer" }, "Msg": { "type": "string" } },
                    "required": ["Code", "Msg"],
                },
                "Envelope": {
                    "type": "object",
                    "properties": {
                        "code": { "type": "integer" },
                        "msg": { "type": "string" },
                        "data": {},
                    },
                    "required": ["code", "msg", "data"],
                },
            },
        },
    })
}

fn operation(route: &Route, path: &str) -> Value {
    let in_path = path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }))
    });
    let in_query = route
        .query
        .iter()
        .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut operation = json!({
        "summary": route.about,
        "parameters": parameters,
        "responses": responses(route),
    });
    if route.open {
        operation["security"] = json!([]);
    } else {
        operation["security"] = json!([{ "basic": [] }, { "bearer": [] }]);
        operation["x-role"] = match route.role() {
            Role::ReadOnly => "read-only".into(),
            Role::Admin => "admin".into(),
        };
    }
    if matches!(
        route.method,
        Some(Method::POST | Method::PUT | Method::PATCH)
    ) {
        let any = json!({ "content": { "application/json": { "schema": {} } } });
        operation["requestBody"] = any;
    }
    operation
}

/// By status; `default` stands for all others.
fn responses(route: &Route) -> Value {
    let text = json!({ "text/plain": { "schema": { "type": "string" } } });
    let form = match route.errors {
        ErrorForm::V1 => "#/components/schemas/Error",
        ErrorForm::V2 => "#/components/schemas/Envelope",
    };
    let form = json!({ "application/json": { "schema": { "$ref": form } } });
    let mut responses = json!({ "200": { "description": "Done." } });
    match (route.content, route.errors) {
        (Content::Json, ErrorForm::V2) => responses["200"]["content"] = form.clone(),
        (Content::Media(media), _) => responses["200"]["content"] = json!({ media: {} }),
        (Content::Json, ErrorForm::V1) | (Content::Pages, _) => {}
    }
    if route.content == Content::Pages {
        responses["301"] = json!({ "description": "It is elsewhere." });
        responses["404"] = json!({ "description": "It is not here.", "content": text.clone() });
    } else {
        responses["default"] = json!({ "description": "Why it was not.", "content": form });
    }
    if !route.open {
        for (status, why) in [
            ("401", "Wrong credentials."),
            ("403", "A role that is not enough."),
            ("429", "Too many wrong credentials."),
        ] {
            responses[status] = json!({ "description": why, "content": text.clone() });
        }
    }
    responses
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::{ApiError, Request, Response};

    fn answer(_: Request) -> std::future::Ready<Result<Response, ApiError>> {
        ready(Ok(Response::json("")))
    }

    #[test]
    fn routes_become_operations() {
        let routes = [
            Route::get("/api/x/{name}", answer)
                .about("an x")
                .query(&["q"]),
            Route::new(Method::POST, "/api/x/{name}", answer).v2(),
            Route::any("/below/*", answer).open().pages(),
        ];
        let document = document("t", "1", &routes);
        let get = &document["paths"]["/api/x/{name}"]["get"];
        assert_eq!(get["summary"], "an x");
        assert_eq!(get["x-role"], "read-only");
        assert_eq!(get["parameters"][0]["in"], "path");
        assert_eq!(get["parameters"][1]["name"], "q");
        let post = &document["paths"]["/api/x/{name}"]["post"];
        assert_eq!(post["x-role"], "admin");
        assert!(post["requestBody"].is_object());
        let below = &document["paths"]["/below/{path}"]["get"];
        assert_eq!(below["security"], json!([]));
        assert!(below["responses"]["default"].is_null());
        assert_eq!(
            get["responses"]["403"]["description"],
            "A role that is not enough."
        );
        assert_eq!(below["parameters"][0]["name"], "path");
    }
}
