//! Making holes through NATs for `xtcp` (nathole.md §3, §6), and the tunnels through them.

mod exchange;
pub(crate) mod tunnel;

use frp_proto::auth::Secret;
use frp_proto::crypto;
use frp_proto::msg::{NatHoleResp, NatHoleSid};
use frp_proto::nathole::discover::{self, Prepared};
use frp_proto::nathole::punch::{Hole, punch};

pub(crate) use exchange::Exchanges;

use crate::host;

/// Who it is for, in logs.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) proxy: &'a str,
}

/// Finds out what the other side has to know. The error is the text of the log.
pub(crate) async fn prepare(
    name: Name<'_>,
    stun_server: &str,
    assisted: bool,
) -> Result<Prepared, String> {
    let prepared = discover::prepare(stun_server, assisted).await;
    let prepared = prepared.map_err(|e| format!("nathole prepare error: {e}"))?;
    tracing::info!(
        run_id = %name.run_id, proxy = %name.proxy,
        "nathole prepare success, nat type: {}, behavior: {}, addresses: [{}], assistedAddresses: [{}]",
        prepared.feature.nat_type,
        prepared.feature.behavior,
        prepared.mapped.join(" "),
        prepared.assisted.join(" ")
    );
    Ok(prepared)
}

/// Makes the hole that the server has planned. The error is the text of the log.
pub(crate) async fn make_hole(
    name: Name<'_>,
    prepared: Prepared,
    secret: &Secret,
    resp: &NatHoleResp,
) -> Result<Hole, String> {
    let behavior = &resp.detect_behavior;
    tracing::info!(
        run_id = %name.run_id, proxy = %name.proxy,
        "get natHoleRespMsg, sid [{}], protocol [{}], candidate address [{}], assisted address [{}], role [{}], mode {}",
        resp.sid,
        resp.protocol,
        resp.candidate_addrs.join(" "),
        resp.assisted_addrs.join(" "),
        behavior.role,
        behavior.mode
    );
    let key = crypto::derive_key(secret.expose());
    let hole = punch(prepared.socket, &key, resp, host::unix_time()).await;
    let hole = hole.map_err(|e| format!("make hole error: {e}"))?;
    tracing::info!(
        run_id = %name.run_id, proxy = %name.proxy,
        "establishing nat hole connection successful, sid [{}], remoteAddr [{}]", resp.sid, hole.peer
    );
    Ok(hole)
}

/// The id that a work connection of an `xtcp` proxy brings.
pub(crate) fn announced(message: Option<frp_proto::msg::Message>) -> Result<String, String> {
    match message {
        Some(frp_proto::msg::Message::NatHoleSid(NatHoleSid { sid, .. })) => Ok(sid),
        other => {
            let name = other.map_or("null", |m| m.name());
            Err(format!("unexpected message type {name}, want NatHoleSid"))
        }
    }
}
