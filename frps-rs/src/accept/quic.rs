//! Clients that come over QUIC: every stream is a connection of its own, without TLS stage or mux (transports.md §8.2).

use std::sync::Arc;

use frp_proto::net::Conn;
use frp_proto::quic::{Connection, Handshake, Listener};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{IDLE_SESSION_LIMIT, PENDING_STREAMS, first_message};
use crate::Shared;
use crate::proxy::connect::Ends;

/// Accepts clients until the listener is closed.
pub(crate) async fn serve(shared: &Arc<Shared>, listener: &Listener) {
    while let Some(handshake) = listener.accept().await {
        let shared = shared.clone();
        let stop = shared.stop.clone();
        shared.tasks.clone().spawn(async move {
            stop.run_until_cancelled(greet(shared, handshake)).await;
        });
    }
}

async fn greet(shared: Arc<Shared>, handshake: Handshake) {
    let Ok(pending) = shared.pending.try_acquire() else {
        tracing::debug!("too many connections without a first message, quic connection refused");
        return;
    };
    match Box::pin(handshake.complete()).await {
        Ok(connection) => streams(&shared, &connection, pending).await,
        Err(e) => tracing::debug!("quic connection: {e}"),
    }
}

/// Serves the streams of one connection. `pending` is held until somebody has proved himself on one of them.
async fn streams(shared: &Arc<Shared>, connection: &Connection, pending: SemaphorePermit<'_>) {
    let peer = connection.peer();
    let ends = Ends {
        src: Some(peer),
        dst: None,
    };
    let trusted = CancellationToken::new();
    let slots = Arc::new(Semaphore::new(PENDING_STREAMS));
    let accept = async {
        while let Ok(stream) = connection.accept().await {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let conn = Conn::Other(Box::new(stream));
            let (shared, trusted) = (shared.clone(), trusted.clone());
            let stop = shared.stop.clone();
            shared.tasks.clone().spawn(async move {
                let first = first_message(&shared, conn, peer, ends, slot, &trusted);
                stop.run_until_cancelled(first).await;
            });
        }
    };
    let useless = async {
        if timeout(IDLE_SESSION_LIMIT, trusted.cancelled())
            .await
            .is_ok()
        {
            drop(pending);
            connection.trust();
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = accept => {}
        () = useless => tracing::debug!("quic connection of [{peer}] without a login closed"),
    }
    drop(connection.close());
}
