//! What handlers give back, and how errors are written.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use crate::json;

/// A response.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// What comes after `body`, piece by piece.
    pieces: Option<Receiver<Bytes>>,
}

impl Response {
    /// A status and nothing else.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            pieces: None,
        }
    }

    /// 200 with a body of this content type.
    pub fn body(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::empty(StatusCode::OK);
        response.body = body.into();
        response.with(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// 200 with a body that goes on as long as somebody sends pieces of it.
    pub fn stream(content_type: &'static str, pieces: Receiver<Bytes>) -> Self {
        let mut response = Self::body(content_type, Bytes::new());
        response.pieces = Some(pieces);
        response.with(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
    }

    /// 200 with a value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::body("application/json", json::encode(value))
    }

    /// 200 with a value in frps's v2 envelope.
    pub fn envelope<T: Serialize>(data: T) -> Self {
        Self::json(&Envelope {
            code: 200,
            msg: "success",
            data: Some(data),
        })
    }

    /// A line of text with any status, as Go's `http.Error` writes it.
    pub fn text(status: StatusCode, line: &str) -> Self {
        Self::body("text/plain; charset=utf-8", format!("{line}\n"))
            .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
            .with_status(status)
    }

    /// 301 to another address.
    pub(crate) fn moved(location: &str) -> Self {
        let response = Self::empty(StatusCode::MOVED_PERMANENTLY);
        match HeaderValue::from_str(location) {
            Ok(location) => response.with(hyper::header::LOCATION, location),
            Err(_) => Self::text(StatusCode::BAD_REQUEST, "400 Bad Request"),
        }
    }

    /// What there is no route for.
    pub fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found")
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// As [`Response::with`], for a value that is made. One that no header can have leaves it out.
    pub(crate) fn with_text(self, name: HeaderName, value: String) -> Self {
        match HeaderValue::try_from(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body's bytes; of a stream, none.
    pub fn bytes(&self) -> &Bytes {
        &self.body
    }
}

impl From<Response> for hyper::Response<Body> {
    fn from(response: Response) -> Self {
        let mut out = Self::new(match response.pieces {
            None => Either::Left(Full::new(response.body)),
            Some(pieces) => Either::Right(Pieces(pieces)),
        });
        *out.status_mut() = response.status;
        *out.headers_mut() = response.headers;
        out
    }
}

/// The body of a response.
pub(crate) type Body = Either<Full<Bytes>, Pieces>;

/// A body that comes in pieces.
pub(crate) struct Pieces(Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A failure that the asker is told; the route says in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Status of the response.
    pub status: StatusCode,
    /// The text; it is logged, too.
    pub text: String,
}

impl ApiError {
    /// Any status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// 400
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(crate) fn response(&self, form: ErrorForm) -> Response {
        let code = self.status.as_u16();
        match form {
            ErrorForm::V1 => Response::json(&V1Error {
                code,
                msg: &self.text,
            }),
            ErrorForm::V2 => Response::json(&Envelope::<()> {
                code,
                msg: &self.text,
                data: None,
            }),
        }
        .with_status(self.status)
    }
}

/// How a route writes its errors (admin-api.md §1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorForm {
    /// `{"Code":N,"Msg":"text"}`
    V1,
    /// `{"code":N,"msg":"text","data":null}`
    V2,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct V1Error<'a> {
    code: u16,
    msg: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    code: u16,
    msg: &'a str,
    data: Option<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_both_forms() {
        let error = ApiError::not_found("client <x> not found");
        let v1 = error.response(ErrorForm::V1);
        assert_eq!(v1.status(), 404);
        assert_eq!(
            v1.bytes(),
            "{\"Code\":404,\"Msg\":\"client \\u003cx\\u003e not found\"}\n"
        );
        assert_eq!(
            error.response(ErrorForm::V2).bytes(),
            "{\"code\":404,\"msg\":\"client \\u003cx\\u003e not found\",\"data\":null}\n"
        );
        assert_eq!(
            Response::envelope([1]).bytes(),
            "{\"code\":200,\"msg\":\"success\",\"data\":[1]}\n"
        );
    }
}
