//! The one place that decides about a login, a proxy, a heartbeat, a work connection and a user connection before the server
//! does: its HTTP plugins are asked, each with what the one before it has left (server.md §9).
//!
//! A plugin may change any field; who calls here goes on with what it gets back. Whoever waits for a plugin waits for
//! a bounded time and holds up only itself.

mod http;
mod target;

use std::sync::Arc;

use arc_swap::ArcSwap;
use frp_proto::config::raw::server::HttpPluginOptions;
use frp_proto::msg::{CloseProxy, Login, NewProxy, NewWorkConn, Ping};
use frp_proto::plugin::{Content, LoginContent, NewUserConn, OfSession, Op, UserInfo, Verdict};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::http::Client;
use self::target::Target;
use crate::session::Handle;
use crate::{Error, Shared, id};

/// Closed proxies of which plugins are yet to be told; each costs a small task. A plugin that hangs while many sessions end
/// must not eat the memory.
const MAX_NOTICES: usize = 16_384;
/// Plugins told of closed proxies at a time.
const NOTICES_AT_ONCE: usize = 32;
/// In place of an empty reason: to a client an empty error is a success.
const NO_REASON: &str = "rejected by a server plugin";

/// One of `httpPlugins`, checked.
#[derive(Debug, Clone)]
pub struct PluginSettings {
    name: String,
    ops: Vec<Op>,
    tls_verify: bool,
    target: Target,
}

impl PluginSettings {
    /// Takes over what a file says. The URL must be one.
    pub(crate) fn new(c: &HttpPluginOptions) -> Result<Self, Error> {
        let has_scheme = ["http://", "https://"]
            .iter()
            .any(|scheme| c.addr.starts_with(scheme));
        let scheme = if has_scheme { "" } else { "http://" };
        let target = Target::parse(&format!("{scheme}{}{}", c.addr, c.path)).map_err(|e| {
            Error(format!(
                "httpPlugins: plugin [{}]: addr and path: {e}",
                c.name
            ))
        })?;
        let ops = Op::ALL.into_iter();
        Ok(Self {
            name: c.name.clone(),
            ops: ops
                .filter(|op| c.ops.iter().any(|name| name == op.name()))
                .collect(),
            tls_verify: c.tls_verify,
            target,
        })
    }
}

fn list(settings: &[PluginSettings]) -> Vec<Plugin> {
    let plugin = |s: &PluginSettings| {
        tracing::info!("plugin [{}] has been registered", s.name);
        Plugin {
            name: s.name.clone(),
            ops: s.ops.clone(),
            client: Client::new(s.target.clone(), s.tls_verify),
        }
    };
    settings.iter().map(plugin).collect()
}

/// All plugins, in the order of the configuration.
pub(crate) struct Plugins {
    list: ArcSwap<Vec<Plugin>>,
    notices: Arc<Semaphore>,
    telling: Semaphore,
}

struct Plugin {
    name: String,
    ops: Vec<Op>,
    client: Client,
}

impl Plugins {
    pub(crate) fn new(settings: &[PluginSettings]) -> Self {
        Self {
            list: ArcSwap::from_pointee(list(settings)),
            notices: Arc::new(Semaphore::new(MAX_NOTICES)),
            telling: Semaphore::new(NOTICES_AT_ONCE),
        }
    }

    /// From now on these are asked. Questions that are under way are answered by the plugins before.
    pub(crate) fn replace(&self, settings: &[PluginSettings]) {
        self.list.store(Arc::new(list(settings)));
    }

    /// A client wants to log in from `address`.
    pub(crate) async fn login(
        &self,
        login: Box<Login>,
        address: String,
    ) -> Result<Box<Login>, String> {
        if !self.asked_about(Op::Login) {
            return Ok(login);
        }
        let accept_proxies = login.accept_proxies;
        let content = LoginContent {
            login: *login,
            client_address: address,
        };
        let decided = Box::pin(self.decide(content)).await?;
        Ok(Box::new(Login {
            // Only the client itself knows what it understands; plugins may leave the key out as one they do not know.
            accept_proxies,
            ..decided.login
        }))
    }

    /// A session wants a proxy.
    pub(crate) async fn new_proxy(
        &self,
        session: &Handle,
        m: Box<NewProxy>,
    ) -> Result<Box<NewProxy>, String> {
        if !self.asked_about(Op::NewProxy) {
            return Ok(m);
        }
        let decided = Box::pin(self.decide_of(session, *m)).await?;
        Ok(Box::new(decided))
    }

    /// A session says that it lives.
    pub(crate) async fn ping(&self, session: &Handle, m: Ping) -> Result<Ping, String> {
        if !self.asked_about(Op::Ping) {
            return Ok(m);
        }
        self.decide_of(session, m).await
    }

    /// A session offers a work connection.
    pub(crate) async fn new_work_conn(
        &self,
        session: &Handle,
        m: NewWorkConn,
    ) -> Result<NewWorkConn, String> {
        if !self.asked_about(Op::NewWorkConn) {
            return Ok(m);
        }
        self.decide_of(session, m).await
    }

    /// A user has come to a proxy of the session.
    pub(crate) async fn new_user_conn(
        &self,
        session: &Handle,
        user: impl FnOnce() -> NewUserConn,
    ) -> Result<(), String> {
        if !self.asked_about(Op::NewUserConn) {
            return Ok(());
        }
        self.decide_of(session, user()).await.map(drop)
    }

    fn asked_about(&self, op: Op) -> bool {
        let list = self.list.load();
        list.iter().any(|plugin| plugin.ops.contains(&op))
    }

    async fn decide_of<M>(&self, session: &Handle, message: M) -> Result<M, String>
    where
        OfSession<M>: Content,
    {
        let content = OfSession {
            user: user_info(session),
            message,
        };
        Ok(Box::pin(self.decide(content)).await?.message)
    }

    /// Asks one plugin after the other; the first that refuses or fails ends it. The error is for the client.
    async fn decide<C: Content>(&self, mut content: C) -> Result<C, String> {
        let request_id = id::random()?;
        let list = self.list.load_full();
        for plugin in list.iter().filter(|p| p.ops.contains(&C::OP)) {
            match plugin.ask(&request_id, &content).await {
                Ok(Verdict::Unchanged) => {}
                Ok(Verdict::Changed(changed)) => content = changed,
                Ok(Verdict::Rejected(reason)) if reason.is_empty() => {
                    return Err(NO_REASON.into());
                }
                Ok(Verdict::Rejected(reason)) => return Err(reason),
                Err(e) => {
                    plugin.log_failure::<C>(&request_id, &e);
                    return Err(format!("send {} request to plugin error", C::OP.name()));
                }
            }
        }
        Ok(content)
    }

    /// Tells every plugin that wants to know; what they answer does not matter.
    async fn tell(&self, content: OfSession<CloseProxy>) {
        let Ok(request_id) = id::random() else {
            return;
        };
        let Ok(_turn) = self.telling.acquire().await else {
            return;
        };
        let op = Op::CloseProxy;
        let list = self.list.load_full();
        for plugin in list.iter().filter(|p| p.ops.contains(&op)) {
            let asked = plugin.client.ask(op, &request_id, content.request());
            if let Err(e) = asked.await {
                plugin.log_failure::<OfSession<CloseProxy>>(&request_id, &e);
            }
        }
    }
}

/// A proxy of the session is closed: plugins are told in time, and nobody waits for that.
pub(crate) fn proxy_closed(shared: &Arc<Shared>, session: &Handle, name: &str) {
    let plugins = &shared.plugins;
    if !plugins.asked_about(Op::CloseProxy) {
        return;
    }
    let Ok(place) = plugins.notices.clone().try_acquire_owned() else {
        tracing::warn!(
            "plugins are not told that proxy [{name}] is closed: {MAX_NOTICES} such notices wait already"
        );
        return;
    };
    let content = OfSession {
        user: user_info(session),
        message: CloseProxy {
            proxy_name: name.to_owned(),
        },
    };
    shared.tasks.spawn(tell(shared.clone(), content, place));
}

async fn tell(shared: Arc<Shared>, content: OfSession<CloseProxy>, _place: OwnedSemaphorePermit) {
    shared.plugins.tell(content).await;
}

fn user_info(session: &Handle) -> UserInfo {
    UserInfo {
        user: session.login.user.clone(),
        metas: session.login.metas.clone(),
        run_id: session.run_id.to_string(),
    }
}

impl Plugin {
    async fn ask<C: Content>(&self, request_id: &str, content: &C) -> Result<Verdict<C>, String> {
        let body = self
            .client
            .ask(C::OP, request_id, content.request())
            .await?;
        C::answer(&body).map_err(|e| e.to_string())
    }

    fn log_failure<C: Content>(&self, request_id: &str, e: &str) {
        let text = format!(
            "[reqid: {request_id}] send {} request to plugin [{}] error: {e}",
            C::OP.name(),
            self.name
        );
        // Anybody can be a user, and often.
        if C::OP == Op::NewUserConn {
            tracing::info!("{text}");
        } else {
            tracing::warn!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(addr: &str, path: &str) -> Result<PluginSettings, Error> {
        PluginSettings::new(&HttpPluginOptions {
            name: "panel".into(),
            addr: addr.into(),
            path: path.into(),
            ops: vec!["Ping".into(), "Login".into()],
            ..HttpPluginOptions::default()
        })
    }

    #[test]
    fn a_plugin_is_found_by_addr_and_path() {
        let plain = settings("127.0.0.1:9000", "/h").unwrap();
        assert!(!plain.target.origin.secure);
        assert_eq!(plain.ops, [Op::Login, Op::Ping]);
        let secure = settings("https://panel.test", "").unwrap();
        assert!(secure.target.origin.secure);
        assert_eq!(secure.target.path, "/");
        for (addr, path) in [("", "/h"), ("127.0.0.1:9000", "h")] {
            let error = settings(addr, path).unwrap_err().to_string();
            assert!(error.starts_with("httpPlugins: plugin [panel]: addr and path: "));
        }
    }
}
