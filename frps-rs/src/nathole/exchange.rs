//! One exchange between a visitor and a proxy's client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_proto::msg::{
    DetectBehavior, Message, NatHoleClient, NatHoleResp, NatHoleSid, NatHoleVisitor,
};
use frp_proto::nathole::classify::{ClassifyError, classify, parse};
use frp_proto::nathole::plan::{Pair, Peer, Plan};
use frp_proto::nathole::{MAX_ADDRESSES, MAX_ID, new_id};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::{Entry, Session, answer, lock};
use crate::Shared;
use crate::clients::unix_now;
use crate::proxy::connect;
use crate::session::Handle;

/// For the proxy's client to be ready.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
/// What the sender is told comes so much later, so that the receiver is ready by then.
const SENDER_DELAY: Duration = Duration::from_secs(1);
/// For a report, beyond the time that the client listens.
const REPORT_LIMIT: Duration = Duration::from_secs(30);

/// The session of an exchange; dropping it forgets the session.
struct Registered<'a> {
    shared: &'a Shared,
    sid: String,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.shared.nat_holes.sessions).remove(&self.sid);
    }
}

/// Runs an exchange to its end, which is when the client has reported or can no more.
pub(super) async fn run(
    shared: &Arc<Shared>,
    visitor: &Arc<Handle>,
    entry: Entry,
    m: NatHoleVisitor,
) {
    let (client_sender, client) = oneshot::channel();
    let (report_sender, report) = oneshot::channel();
    let sid = match new_id(unix_now()) {
        Ok(sid) => sid,
        Err(e) => return tracing::warn!(run_id = %visitor.run_id, "handle visitorMsg error: {e}"),
    };
    let owner = entry.context.session.clone();
    let session = Session {
        owner: owner.run_id.clone(),
        client: Some(client_sender),
        report: Some(report_sender),
    };
    lock(&shared.nat_holes.sessions).insert(sid.clone(), session);
    let registered = Registered { shared, sid };
    let sid = &registered.sid;

    let ready = timeout(CLIENT_LIMIT, async {
        let announcement = Message::NatHoleSid(NatHoleSid {
            sid: sid.clone(),
            ..NatHoleSid::default()
        });
        connect::announce(&entry.context, &announcement).await;
        client.await.ok()
    });
    let ready = entry.cancel.run_until_cancelled(ready).await;
    let Some(Ok(Some(client))) = ready else {
        tracing::debug!(run_id = %visitor.run_id, proxy = %m.proxy_name, "wait for NatHoleClient message timeout, sid [{sid}]");
        return;
    };
    drop(entry);
    if client.transaction_id.len() > MAX_ID {
        return;
    }
    let (plan, peers, pair) = match analyse(shared, &m, &client) {
        Ok(analysed) => analysed,
        Err(error) => {
            tracing::warn!(run_id = %visitor.run_id, proxy = %m.proxy_name, "sid [{sid}] {error}");
            answer(visitor, m.transaction_id, error.clone()).await;
            answer(&owner, client.transaction_id, error).await;
            return;
        }
    };
    let [of_client, of_visitor] = peers;
    let for_visitor = plan.for_visitor(&of_client);
    let for_client = plan.for_client(&of_visitor);
    let wait = Duration::from_millis(for_client.read_timeout.unsigned_abs()) + REPORT_LIMIT;
    let resp = |transaction_id, behavior, candidates: &[String], assisted: &[String]| NatHoleResp {
        transaction_id,
        sid: sid.clone(),
        protocol: m.protocol.clone(),
        candidate_addrs: deduplicated(candidates),
        assisted_addrs: deduplicated(assisted),
        detect_behavior: behavior,
        error: String::new(),
    };
    let (for_visitor, for_client) = (
        resp(
            m.transaction_id.clone(),
            for_visitor,
            &client.mapped_addrs,
            &client.assisted_addrs,
        ),
        resp(
            client.transaction_id,
            for_client,
            &m.mapped_addrs,
            &m.assisted_addrs,
        ),
    );
    tokio::join!(tell(visitor, for_visitor), tell(&owner, for_client));

    let Ok(Ok(success)) = timeout(wait, report).await else {
        return;
    };
    tracing::info!(
        run_id = %owner.run_id, proxy = %m.proxy_name,
        "sid [{sid}] report make hole success: {success}, mode {}, index {}", plan.mode, plan.index
    );
    if success {
        lock(&shared.nat_holes.records).reward(&pair, &plan);
    }
}

/// Tells a peer what to do.
async fn tell(peer: &Handle, resp: NatHoleResp) {
    let DetectBehavior { role, .. } = &resp.detect_behavior;
    if role == "sender" {
        sleep(SENDER_DELAY).await;
    }
    peer.send(Message::NatHoleResp(Box::new(resp))).await;
}

/// Finds out what client and visitor (in this order) shall do. The error is the text for both.
fn analyse(
    shared: &Shared,
    visitor: &NatHoleVisitor,
    client: &NatHoleClient,
) -> Result<(Plan, [Peer; 2], Pair), String> {
    let of_client = peer(&client.mapped_addrs, &client.assisted_addrs)
        .map_err(|e| format!("classify client nat feature error: {e}"))?;
    let of_visitor = peer(&visitor.mapped_addrs, &visitor.assisted_addrs)
        .map_err(|e| format!("classify visitor nat feature error: {e}"))?;
    let next = lock(&shared.nat_holes.records).next(Instant::now(), &of_client, &of_visitor);
    let (plan, pair) = next.ok_or_else(|| ClassifyError::TooFew.to_string())?;
    Ok((plan, [of_client, of_visitor], pair))
}

fn peer(mapped: &[String], assisted: &[String]) -> Result<Peer, ClassifyError> {
    let mapped = parse(mapped)?;
    let local: Vec<IpAddr> = addresses(assisted).map(|a| a.ip()).collect();
    let feature = classify(&mapped, &local)?;
    Ok(Peer { mapped, feature })
}

/// Those that can be read, and no more than anybody needs: the peer is told them with others in one message.
fn addresses(texts: &[String]) -> impl Iterator<Item = SocketAddr> {
    let addresses = texts.iter().filter_map(|text| text.parse().ok());
    addresses.take(MAX_ADDRESSES)
}

/// As the other peer is told them.
fn deduplicated(texts: &[String]) -> Vec<String> {
    let mut texts: Vec<_> = addresses(texts).map(|a| a.to_string()).collect();
    texts.dedup();
    texts
}
