//! What picks of a group's member go by, and the cookie that keeps a user with one (balancing.md §5).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use balancer::{GroupConfig, HashKey, SameSite, StickyConfig};
use http::Response;
use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use http::request::Parts;

use super::forward::is_safe;
use super::pool::Pool;
use crate::balance::{Asked, Balanced, Turn, hash_key, source_key};

/// Who asks, and for what.
pub(super) struct Sender<'a> {
    pub(super) ip: IpAddr,
    /// Of the credential.
    pub(super) user: &'a str,
    /// As routes have it.
    pub(super) host: &'a str,
}

/// What a request brings for a pick.
pub(super) fn asked(
    group: &Balanced<Pool>,
    sender: &Sender<'_>,
    parts: &Parts,
    has_no_body: bool,
) -> Asked {
    let config = group.config();
    let key = hash_key(&config).and_then(|key| hashed(key, sender, parts));
    let sticky = config.sticky.as_ref().and_then(|sticky| {
        let name = group.cookie_name(sticky);
        // The first that counts.
        cookies(&parts.headers)
            .filter(|(n, _)| *n == name)
            .find_map(|(_, value)| group.verify(value, unix_now(), sticky.ttl))
    });
    let path = parts.uri.path();
    Asked {
        key: key.filter(|key| !key.is_empty()),
        sticky,
        safe: is_safe(&parts.method) && has_no_body,
        long_poll: config.ewma.ignore_paths.iter().any(|p| path.starts_with(p)),
    }
}

fn hashed(key: &HashKey, sender: &Sender<'_>, parts: &Parts) -> Option<Vec<u8>> {
    let joined = |values: &mut dyn Iterator<Item = &[u8]>| {
        let values: Vec<&[u8]> = values.collect();
        values.join(&b","[..])
    };
    Some(match key {
        HashKey::SourceIp => source_key(sender.ip),
        HashKey::Header(name) => joined(
            &mut parts
                .headers
                .get_all(name)
                .iter()
                .map(HeaderValue::as_bytes),
        ),
        HashKey::Cookie(name) => {
            let found = cookies(&parts.headers).filter(|(n, _)| n == name);
            joined(&mut found.map(|(_, value)| value.as_bytes()))
        }
        HashKey::Query(name) => {
            let pairs = parts.uri.query()?.split('&');
            let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            joined(&mut pairs.filter(|(n, _)| n == name).map(|(_, v)| v.as_bytes()))
        }
        HashKey::Path => parts.uri.path().as_bytes().to_vec(),
        HashKey::Host => sender.host.as_bytes().to_vec(),
        HashKey::User => sender.user.as_bytes().to_vec(),
        HashKey::Sni => return None,
    })
}

/// Names and values of all cookies of a request.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(COOKIE).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// Takes the group's cookie out of a request: it is nobody's business behind this server.
pub(super) fn strip(group: &Balanced<Pool>, config: &GroupConfig, headers: &mut HeaderMap) {
    let Some(sticky) = &config.sticky else {
        return;
    };
    let name = group.cookie_name(sticky);
    if !cookies(headers).any(|(n, _)| n == name) {
        return;
    }
    let is_ours = |pair: &str| pair.trim().split_once('=').is_some_and(|(n, _)| n == name);
    let mut rest = Vec::new();
    for value in headers.get_all(COOKIE) {
        match value.to_str() {
            Ok(text) => {
                let kept: Vec<&str> = text.split(';').filter(|pair| !is_ours(pair)).collect();
                let kept = kept.join(";");
                let kept = kept.trim();
                if !kept.is_empty() {
                    rest.extend(HeaderValue::from_str(kept));
                }
            }
            Err(_) => rest.push(value.clone()),
        }
    }
    headers.remove(COOKIE);
    for value in rest {
        headers.append(COOKIE, value);
    }
}

/// The cookie that the user is to have from now on, if it is another one than before.
pub(super) fn cookie(turn: &Turn<Pool>) -> Option<HeaderValue> {
    let sticky = turn.config.sticky.as_ref()?;
    let issued = turn.asked().sticky.is_none() || turn.reissue();
    turn.group().count_sticky(issued);
    if !issued {
        return None;
    }
    let value = turn.group().issue(turn.member_id(), unix_now())?;
    let name = turn.group().cookie_name(sticky);
    let path = &sticky.path;
    let age = sticky.ttl.map_or_else(String::new, max_age);
    let same_site = match sticky.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        // Browsers take it only so; the port is behind what speaks TLS then.
        SameSite::None => "None; Secure",
    };
    let cookie = format!("{name}={value}; Path={path}{age}; HttpOnly; SameSite={same_site}");
    HeaderValue::from_str(&cookie).ok()
}

fn max_age(ttl: Duration) -> String {
    format!("; Max-Age={}", ttl.as_secs())
}

/// Adds the cookie to an answer.
pub(super) fn set<B>(response: &mut Response<B>, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        // A head that is full goes without.
        let _ = response.headers_mut().try_append(SET_COOKIE, cookie);
    }
}

fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}

impl Balanced<Pool> {
    fn cookie_name<'a>(&'a self, sticky: &'a StickyConfig) -> &'a str {
        if sticky.name.is_empty() {
            self.default_cookie()
        } else {
            &sticky.name
        }
    }
}
