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
//! | `request`, `response` | what a handler gets and gives |
//! | `json` | Go's encoding |
//! | `metrics` | Prometheus's text format |
//! | `pprof`, `assets` | routes that both programs have |

mod assets;
mod json;
mod metrics;
mod pprof;
mod request;
mod response;
mod router;
mod server;
mod settings;
mod write_limit;

pub use assets::static_routes;
pub use metrics::{Kind, Metrics};
pub use pprof::pprof_routes;
pub use request::Request;
pub use response::{ApiError, Response};
pub use router::{Route, Router};
pub use server::Server;
pub use settings::{Access, WebServer};

pub use hyper::{Method, StatusCode};
