//! `frpc nathole discover`: what kind of NAT is around here (nathole.md §2.5).

use frp_proto::nathole::classify::classify;
use frp_proto::nathole::discover::{Discovery, discover, local_ips, resolve_local};

/// Asks the server from a socket at `local` (empty = any); gives what is to be printed.
pub(crate) async fn report(server: &str, local: &str) -> Result<String, String> {
    let found = async { discover(server, resolve_local(local).await?).await };
    let found = found.await.map_err(|e| format!("discover error: {e}"))?;
    let Discovery { socket, mapped } = found;
    let local = socket.local_addr().map_err(|e| e.to_string())?;
    let addresses: Vec<String> = mapped.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(" ");
    if mapped.len() < 2 {
        return Err(format!(
            "discover error: can not get enough addresses, need 2, got: [{addresses}]"
        ));
    }
    let feature = classify(&mapped, &local_ips());
    let feature = feature.map_err(|e| format!("classify nat feature error: {e}"))?;
    Ok(format!(
        "STUN server: {server}\n\
         Your NAT type is: {}\n\
         Behavior is: {}\n\
         External address is: [{addresses}]\n\
         Local address is: {local}\n\
         Public Network: {}",
        feature.nat_type, feature.behavior, feature.public
    ))
}
