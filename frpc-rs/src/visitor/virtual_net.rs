//! The visitor plugin `virtual_net` (nathole.md §15.5): the visitor's user is a tunnel of the virtual network.

use std::net::IpAddr;
use std::time::Duration;

use frp_proto::config::raw::client::{VirtualNetVisitorPlugin, VisitorPlugin};
use frp_proto::net::Conn;
use tokio::io::duplex;
use tokio::time::sleep;

use super::users::{Handover, User};
use crate::vnet::Role;
use crate::work::Context;

/// Bytes on their way between the network and the visitor, in each direction.
const PIPE: usize = 64 * 1024;
/// Between the end of a tunnel and the next one.
const PAUSE: Duration = Duration::from_secs(10);
/// The same after a tunnel that did not come about; twice as long after each further one.
const FIRST_PAUSE_OF_FAILURES: Duration = Duration::from_mins(1);
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// The address to reach. The error is the text of the log, when the visitor starts.
pub(super) fn destination(plugin: &VisitorPlugin) -> Result<IpAddr, String> {
    let VisitorPlugin::VirtualNet(VirtualNetVisitorPlugin { destination_ip }) = plugin;
    if destination_ip.is_empty() {
        return Err("destinationIP is required".into());
    }
    destination_ip
        .parse()
        .map_err(|_| format!("invalid destination IP address [{destination_ip}]"))
}

/// Has one tunnel after the other. Never ends; without an interface it does nothing.
pub(super) async fn feed(context: &Context, name: &str, to: IpAddr, visitor: &Handover) {
    let Some(network) = context.shared.network.get() else {
        return std::future::pending().await;
    };
    let run_id = &context.run_id;
    let prefix_len = if to.is_ipv4() { 32 } else { 128 };
    tracing::info!(run_id = %run_id, proxy = %name, "starting VirtualNetPlugin for visitor [{name}], attempting to register routes for {to}/{prefix_len}");
    let mut failures = 0_u32;
    loop {
        let tunnel = network.attach(Role::Visitor(to));
        let (near, far) = duplex(PIPE);
        let (user, refusal) = User::with_refusal(Conn::Other(Box::new(far)));
        if visitor.send(user).await.is_err() {
            return std::future::pending().await;
        }
        if let Err(e) = tunnel.carry(near).await {
            tracing::warn!(run_id = %run_id, proxy = %name, "client read error: {e}");
        }
        let wait = if let Ok(e) = refusal.await {
            failures = failures.saturating_add(1);
            tracing::warn!(run_id = %run_id, proxy = %name, "connection closed with error for visitor [{name}] (consecutive errors: {failures}): {e}");
            pause(failures)
        } else {
            failures = 0;
            PAUSE
        };
        tracing::info!(run_id = %run_id, proxy = %name, "waiting {} before attempting reconnection for visitor [{name}]...", go_seconds(wait));
        sleep(wait).await;
    }
}

/// After so many failures in a row, at least one.
fn pause(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures - 1);
    FIRST_PAUSE_OF_FAILURES
        .saturating_mul(factor)
        .min(MAX_PAUSE)
}

/// Whole seconds as Go writes them.
fn go_seconds(duration: Duration) -> String {
    match duration.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs => format!("{}m{}s", secs / 60, secs % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::manager::tests::context;
    use super::super::users::Users;
    use super::*;
    use crate::vnet::Controller;
    use std::sync::Arc;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn one_tunnel_follows_the_other() {
        let context = context();
        let network = Arc::new(Controller::for_test());
        assert!(context.shared.network.set(network).is_ok());
        let (mut users, handover) = Users::new(None);
        let feed = feed(&context, "v", [10, 0, 0, 1].into(), &handover);
        let visitor = async {
            for (refused, pause) in [(true, 60), (true, 120), (false, 10), (true, 60)] {
                let user = users.next().await.unwrap();
                let start = Instant::now();
                if refused {
                    user.refuse("nobody is there");
                } else {
                    drop(user);
                }
                let next = users.next().await.unwrap();
                assert_eq!(start.elapsed().as_secs(), pause);
                // It is what the next round begins with.
                handover.try_send(next).ok().unwrap();
            }
        };
        tokio::select! {
            () = feed => unreachable!("it never ends"),
            () = visitor => {}
        }
    }

    #[test]
    fn pauses_grow_and_stay() {
        let shown = |failures| go_seconds(pause(failures));
        let first: Vec<String> = (1..=4).map(shown).collect();
        assert_eq!(first, ["1m0s", "2m0s", "4m0s", "5m0s"]);
        assert_eq!((shown(29), shown(u32::MAX)), ("5m0s".into(), "5m0s".into()));
        assert_eq!(go_seconds(PAUSE), "10s");
    }

    #[test]
    fn a_destination_is_one_address() {
        let parsed = |text: &str| {
            destination(&VisitorPlugin::VirtualNet(VirtualNetVisitorPlugin {
                destination_ip: text.into(),
            }))
        };
        assert_eq!(parsed("100.86.0.1"), Ok([100, 86, 0, 1].into()));
        assert!(parsed("fd00::1").is_ok());
        assert_eq!(parsed("").unwrap_err(), "destinationIP is required");
        let error = parsed("100.86.0.0/24").unwrap_err();
        assert_eq!(error, "invalid destination IP address [100.86.0.0/24]");
    }
}
