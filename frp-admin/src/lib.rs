//! What the admin HTTP servers of frps and frpc have in common (admin-api.md §1): a program gives a table of routes, this
//! crate serves it.
//!
//! ```
//! use frp_admin::{ApiError, Request, Response, Route, Router};
//!
//! async fn greet(request: Request) -> Result<Response, ApiError> {
//!     match request.param("name") {
//!         "nobody" => Err(ApiError::not_found("nobody is not here")),
//!         name => Ok(Response::json(&[name])),
//!     }
//! }
//!
//! let router = Router::new(vec![Route::get("/api/greet/{name}", greet)]);
//! ```
//!
//! | module | holds |
//! |--|--|
//! | `server` | sockets, TLS, limits of time and number |
//! | `settings` | the checked form of `webServer` |
//! | `router` | from a request to its handler: cleaning, matching, authentication, the request log |
//! | `access`, `failures`, `origin` | who may ask for what, who has to wait after wrong credentials, and whose pages may not ask |
//! | `openapi` | the document of an API, made from its routes |
//! | `request`, `response` | what a handler gets and gives |
//! | `json` | Go's encoding |
//! | `metrics` | Prometheus's text format |
//! | `pprof`, `assets` | routes that both programs have; the dashboards are in `dashboard/` |

mod access;
mod assets;
mod audit;
mod failures;
mod json;
mod metrics;
mod openapi;
mod origin;
mod pprof;
mod request;
mod response;
mod router;
mod server;
mod settings;
mod write_limit;

pub use access::{Access, Role};
pub use assets::{Dashboard, static_routes};
pub use metrics::{Counter, Family, Histogram, Kind, Metrics, Series};
pub use pprof::pprof_routes;
pub use request::Request;
pub use response::{ApiError, Response};
pub use router::{Route, Router};
pub use server::Server;
pub use settings::WebServer;

pub use hyper::{Method, StatusCode};
