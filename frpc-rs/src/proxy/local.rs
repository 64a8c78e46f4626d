//! What proxies to a local service have in common in their configuration.

use frp_proto::config::raw::client::ProxyBase;

use crate::Error;
use crate::proxy_protocol::ProxyProtocol;

/// `localPort`.
pub(super) fn port(base: &ProxyBase) -> Result<u16, Error> {
    u16::try_from(base.local_port).map_err(|_| {
        Error(format!(
            "proxy [{}]: localPort: port number {} must be in the range 0..65535",
            base.name, base.local_port
        ))
    })
}

/// `transport.proxyProtocolVersion`.
pub(super) fn proxy_protocol(base: &ProxyBase) -> Result<Option<ProxyProtocol>, Error> {
    match base.transport.proxy_protocol_version.as_str() {
        "" => Ok(None),
        "v1" => Ok(Some(ProxyProtocol::V1)),
        "v2" => Ok(Some(ProxyProtocol::V2)),
        other => Err(Error(format!(
            "proxy [{}]: no support proxy protocol version: {other} (transport.proxyProtocolVersion)",
            base.name
        ))),
    }
}
