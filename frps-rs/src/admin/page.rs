//! Paging and filters of API v2 (admin-api.md §4.1).

use frp_admin::{ApiError, Request};
use serde::Serialize;

/// Items on a page if the request does not say.
const DEFAULT_SIZE: i64 = 50;
/// Items on a page at most.
const MAX_SIZE: i64 = 200;

/// The page that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    page: i64,
    size: i64,
}

/// One page of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    total: usize,
    page: i64,
    page_size: i64,
    items: Vec<T>,
}

impl Page {
    pub(super) fn of(request: &Request) -> Result<Self, ApiError> {
        let page = positive(request, "page", 1)?;
        let size = positive(request, "pageSize", DEFAULT_SIZE)?;
        if size > MAX_SIZE {
            let text = format!("pageSize must be between 1 and {MAX_SIZE}");
            return Err(ApiError::bad_request(text));
        }
        if page.checked_mul(size).is_none() {
            return Err(ApiError::bad_request("page is too large"));
        }
        Ok(Self { page, size })
    }

    /// The page of `all`, each item of it made by `show`; beyond the end it is empty.
    pub(super) fn cut<'a, T, U>(self, all: &'a [T], show: impl FnMut(&'a T) -> U) -> List<U> {
        let size = usize::try_from(self.size).unwrap_or(0);
        let before = usize::try_from((self.page - 1) * self.size).unwrap_or(usize::MAX);
        List {
            total: all.len(),
            page: self.page,
            page_size: self.size,
            items: all.iter().skip(before).take(size).map(show).collect(),
        }
    }
}

fn positive(request: &Request, name: &str, default: i64) -> Result<i64, ApiError> {
    match given(request, name) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| ApiError::bad_request(format!("{name} must be a positive integer"))),
    }
}

/// A parameter that says something.
pub(super) fn given<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query(name).filter(|value| !value.is_empty())
}

/// Whether `online` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    All,
    Online,
    Offline,
}

impl Status {
    /// `None` for a word that is none.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word.to_lowercase().as_str() {
            "" | "all" => Some(Self::All),
            "online" => Some(Self::Online),
            "offline" => Some(Self::Offline),
            _ => None,
        }
    }

    pub(super) fn of(request: &Request) -> Result<Self, ApiError> {
        Self::parse(request.query("status").unwrap_or_default())
            .ok_or_else(|| ApiError::bad_request("status must be one of all, online, offline"))
    }

    pub(super) fn includes(self, online: bool) -> bool {
        match self {
            Self::All => true,
            Self::Online => online,
            Self::Offline => !online,
        }
    }
}

/// How phases are written.
pub(super) fn phase(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}
