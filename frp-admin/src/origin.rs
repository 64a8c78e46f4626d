//! Changes that a page of another site has a browser ask for. A browser adds the credentials that its user has typed for this
//! program to every request, whoever's page makes it.

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::{HeaderMap, Method};

/// Set by browsers, towards addresses that they trust (HTTPS and loopback).
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Pages of other origins cannot set it. The dashboards do, as the address that a browser knows may be that of a reverse proxy.
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Whether a request may change something and comes from a page that is not of this server. Programs other than browsers
/// send no `Origin`.
pub(crate) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    if matches!(*method, Method::GET | Method::HEAD) || headers.contains_key(REQUESTED_WITH) {
        return false;
    }
    if headers.get(SITE).is_some_and(|site| site == "same-origin") {
        return false;
    }
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    authority.is_none() || authority != host
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_changes_asked_for_by_pages_of_others_are_foreign() {
        let here = "http://frp.test:7500";
        for (foreign, method, headers) in [
            (false, Method::POST, &[][..]),
            (false, Method::POST, &[("origin", here)]),
            (true, Method::POST, &[("origin", "http://frp.test:8080")]),
            (true, Method::POST, &[("origin", "null")]),
            (true, Method::DELETE, &[("origin", "https://evil.test")]),
            (false, Method::GET, &[("origin", "https://evil.test")]),
            (
                false,
                Method::PUT,
                &[
                    ("origin", "https://proxy.test"),
                    ("sec-fetch-site", "same-origin"),
                ],
            ),
            (
                true,
                Method::PUT,
                &[
                    ("origin", "https://proxy.test"),
                    ("sec-fetch-site", "same-site"),
                ],
            ),
            (
                false,
                Method::PUT,
                &[
                    ("origin", "https://proxy.test"),
                    ("x-requested-with", "dashboard"),
                ],
            ),
        ] {
            let mut map = HeaderMap::new();
            map.insert(HOST, HeaderValue::from_static("frp.test:7500"));
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_foreign(&method, &map), foreign, "{method} {headers:?}");
        }
    }
}
