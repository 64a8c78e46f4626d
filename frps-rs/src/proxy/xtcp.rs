//! The server side of `xtcp` proxies (server.md §5.7): visitors learn here how to reach the proxy's client by themselves.

use std::sync::Arc;

use frp_proto::msg::NewProxy;

use super::{Begun, Context, Started};
use crate::nathole;

/// Opens the proxy to visitors.
pub(super) fn start(context: Arc<Context>, m: &NewProxy) -> Result<Started, String> {
    let registration = nathole::register(context.clone(), m)?;
    Ok(Started {
        remote_addr: String::new(),
        life: Begun::held(context, registration),
    })
}
