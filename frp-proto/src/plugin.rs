//! What frps and its HTTP plugins tell each other (server.md §9), as bytes: no HTTP here.
//!
//! A request is `{"version":…,"op":…,"content":{…}}`; an answer allows the operation as it is, changes its content, or rejects it.

use std::collections::BTreeMap;

use crate::msg::json::{Json, JsonError, Record, entries, records, write_key};
use crate::msg::{CloseProxy, Login, NewProxy, NewWorkConn, Ping};

/// Version of this protocol, in every request.
pub const VERSION: &str = "0.1.0";

/// What a plugin is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is named after the message or event it is about"
)]
pub enum Op {
    Login,
    NewProxy,
    CloseProxy,
    Ping,
    NewWorkConn,
    NewUserConn,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Login,
        Self::NewProxy,
        Self::CloseProxy,
        Self::Ping,
        Self::NewWorkConn,
        Self::NewUserConn,
    ];

    /// The name in configurations, URLs and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "Login",
            Self::NewProxy => "NewProxy",
            Self::CloseProxy => "CloseProxy",
            Self::Ping => "Ping",
            Self::NewWorkConn => "NewWorkConn",
            Self::NewUserConn => "NewUserConn",
        }
    }
}

/// The session that something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// `user` of frpc.
    pub user: String,
    /// `metadatas` of frpc.
    pub metas: BTreeMap<String, String>,
    /// Id of the session.
    pub run_id: String,
}

/// Content of [`Op::Login`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoginContent {
    /// The message.
    pub login: Login,
    /// Where the client comes from.
    pub client_address: String,
}

/// Content of the operations of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfSession<M> {
    /// Whose.
    pub user: UserInfo,
    /// The message or event.
    pub message: M,
}

/// A user has connected to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewUserConn {
    /// Wire name.
    pub proxy_name: String,
    /// Type of the proxy.
    pub proxy_type: String,
    /// Where the user comes from.
    pub remote_addr: String,
}

/// `client_address` beside the members of the Login.
#[derive(Default)]
struct ClientAddress {
    address: String,
}

/// An answer but for its content.
#[derive(Default)]
struct Answer {
    reject: bool,
    reject_reason: String,
    unchange: bool,
}

records! {
    UserInfo { user: "user" always, metas: "metas" nullable, run_id: "run_id" always }
    NewUserConn { proxy_name: "proxy_name" always, proxy_type: "proxy_type" always, remote_addr: "remote_addr" always }
    ClientAddress { address: "client_address" }
    Answer { reject: "reject", reject_reason: "reject_reason", unchange: "unchange" }
}

impl Record for LoginContent {
    fn write_members(&self, start: usize, out: &mut Vec<u8>) {
        self.login.write_members(start, out);
        let address = ClientAddress {
            address: self.client_address.clone(),
        };
        address.write_members(start, out);
    }

    fn read(&mut self, value: &Json) -> Result<(), JsonError> {
        self.login.read(value)?;
        let mut address = ClientAddress::default();
        address.read(value)?;
        self.client_address = address.address;
        Ok(())
    }
}

/// The member `user` of [`OfSession`].
#[derive(Default)]
struct User {
    user: UserInfo,
}

records! { User { user: "user" record } }

impl<M: Record> Record for OfSession<M> {
    fn write_members(&self, start: usize, out: &mut Vec<u8>) {
        write_key("user", start, out);
        self.user.write(out);
        self.message.write_members(start, out);
    }

    fn read(&mut self, value: &Json) -> Result<(), JsonError> {
        let mut user = User::default();
        user.read(value)?;
        self.user = user.user;
        self.message.read(value)
    }
}

/// What a plugin wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<C> {
    /// Go on.
    Unchanged,
    /// Go on with this instead.
    Changed(C),
    /// Refuse, with this reason, which may be empty.
    Rejected(String),
}

/// An answer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not JSON, or a member of the wrong type.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `unchange` is not set and there is no content to go on with. Upstream ends the process or goes on with nothing.
    #[error("the answer has neither unchange nor content")]
    NoContent,
}

/// The content of one operation's requests and answers.
pub trait Content: Sized {
    /// Which operation.
    const OP: Op;
    /// The body of a request.
    fn request(&self) -> Vec<u8>;
    /// Reads the body of an answer.
    fn answer(body: &[u8]) -> Result<Verdict<Self>, AnswerError>;
}

macro_rules! contents {
    ($($content:ty: $op:ident;)*) => {$(
        impl Content for $content {
            const OP: Op = Op::$op;
            fn request(&self) -> Vec<u8> {
                request(Op::$op, self)
            }
            fn answer(body: &[u8]) -> Result<Verdict<Self>, AnswerError> {
                answer(body)
            }
        }
    )*};
}

contents! {
    LoginContent: Login;
    OfSession<NewProxy>: NewProxy;
    OfSession<CloseProxy>: CloseProxy;
    OfSession<Ping>: Ping;
    OfSession<NewWorkConn>: NewWorkConn;
    OfSession<NewUserConn>: NewUserConn;
}

fn request(op: Op, content: &impl Record) -> Vec<u8> {
    let op = op.name();
    let mut out = format!("{{\"version\":\"{VERSION}\",\"op\":\"{op}\",\"content\":").into_bytes();
    content.write(&mut out);
    out.push(b'}');
    out
}

fn answer<C: Record>(body: &[u8]) -> Result<Verdict<C>, AnswerError> {
    let json = Json::parse(body)?;
    let mut answer = Answer::default();
    answer.read(&json)?;
    let content = entries("Response", &json)?
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case("content"));
    let content = match content {
        None | Some((_, Json::Null)) => None,
        Some((_, json)) => {
            let mut content = C::default();
            content.read(json)?;
            Some(content)
        }
    };
    if answer.reject {
        return Ok(Verdict::Rejected(answer.reject_reason));
    }
    if answer.unchange {
        return Ok(Verdict::Unchanged);
    }
    content.map(Verdict::Changed).ok_or(AnswerError::NoContent)
}

#[cfg(test)]
mod tests;
