//! What happens, told to who listens: logins, logouts, proxies that come and go or are pushed (`GET /api/v2/events`).
//!
//! An event is made only when somebody listens. Listeners share one bounded queue, so none of them can hold up the server or
//! its memory: who falls behind is told so and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};

/// Events that a listener may be behind; each is some 200 bytes.
const QUEUE: usize = 1024;
/// Listeners at a time; each holds a connection of the admin server.
const MAX_LISTENERS: usize = 64;
/// How often a listener hears that the connection lives when nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pieces that may wait for the connection of one listener.
pub(crate) const PIECES: usize = 16;

/// Something that has happened.
#[derive(Debug, Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Event<'a> {
    /// A client has logged in.
    Login {
        #[serde(rename = "runID")]
        run_id: &'a str,
        user: &'a str,
        #[serde(rename = "clientID")]
        client_id: &'a str,
        version: &'a str,
        hostname: &'a str,
        #[serde(rename = "clientIP")]
        client_ip: String,
    },
    /// Its session has ended.
    Logout {
        #[serde(rename = "runID")]
        run_id: &'a str,
        user: &'a str,
        #[serde(rename = "clientID")]
        client_id: &'a str,
    },
    /// Users can reach a proxy; a client with health checks has found its service healthy.
    ProxyUp {
        name: &'a str,
        kind: &'a str,
        #[serde(rename = "runID")]
        run_id: &'a str,
        remote_addr: &'a str,
    },
    /// They no longer can: it was closed, its client has gone, or health checks of its service have failed.
    ProxyDown {
        name: &'a str,
        kind: &'a str,
        #[serde(rename = "runID")]
        run_id: &'a str,
    },
    /// A client has taken a pushed proxy.
    PushAccepted {
        name: &'a str,
        kind: &'a str,
        client: &'a str,
        #[serde(rename = "runID")]
        run_id: &'a str,
    },
    /// It has not.
    PushRefused {
        name: &'a str,
        kind: &'a str,
        client: &'a str,
        #[serde(rename = "runID")]
        run_id: &'a str,
        error: &'a str,
    },
    /// It serves a pushed proxy no longer.
    PushRemoved {
        name: &'a str,
        client: &'a str,
        #[serde(rename = "runID")]
        run_id: &'a str,
    },
}

/// Who listens.
pub(crate) struct Events {
    sender: broadcast::Sender<Bytes>,
    listeners: Arc<Semaphore>,
    last_id: AtomicU64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(QUEUE),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            last_id: AtomicU64::new(0),
        }
    }
}

impl Events {
    /// Tells who listens. `event` is not called when nobody does.
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        // Without a listener left there is nobody to tell.
        let _ = self.sender.send(written(id, now(), &event()));
    }

    /// A new listener; `None` when there are too many.
    pub(crate) fn listen(&self) -> Option<Listener> {
        Some(Listener {
            _place: self.listeners.clone().try_acquire_owned().ok()?,
            events: self.sender.subscribe(),
        })
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// An event in the form of Server-Sent Events.
fn written(id: u64, time: u64, event: &Event<'_>) -> Bytes {
    #[derive(Serialize)]
    struct Timed<'a> {
        time: u64,
        #[serde(flatten)]
        event: &'a Event<'a>,
    }
    let name = match event {
        Event::Login { .. } => "login",
        Event::Logout { .. } => "logout",
        Event::ProxyUp { .. } => "proxy_up",
        Event::ProxyDown { .. } => "proxy_down",
        Event::PushAccepted { .. } => "push_accepted",
        Event::PushRefused { .. } => "push_refused",
        Event::PushRemoved { .. } => "push_removed",
    };
    // Strings and numbers can always be written.
    let data = serde_json::to_string(&Timed { time, event }).unwrap_or_default();
    format!("id: {id}\nevent: {name}\ndata: {data}\n\n").into()
}

/// See [`Events::listen`].
pub(crate) struct Listener {
    events: broadcast::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// Passes events on until the connection at the other end of `pieces` is gone, or it falls too far behind.
    pub(crate) async fn pass_on(mut self, pieces: mpsc::Sender<Bytes>) {
        use broadcast::error::RecvError;
        let hello = Bytes::from_static(b": frps\n\n");
        if pieces.send(hello).await.is_err() {
            return;
        }
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(KEEP_ALIVE, self.events.recv()) => next,
                () = pieces.closed() => return,
            };
            let (piece, last) = match next {
                Ok(Ok(event)) => (event, false),
                Ok(Err(RecvError::Lagged(missed))) => {
                    let note = format!("event: dropped\ndata: {{\"missed\":{missed}}}\n\n");
                    (note.into(), true)
                }
                Ok(Err(RecvError::Closed)) => return,
                Err(_) => (Bytes::from_static(b": alive\n\n"), false),
            };
            if pieces.send(piece).await.is_err() || last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(name: &str) -> Event<'_> {
        Event::ProxyDown {
            name,
            kind: "tcp",
            run_id: "r",
        }
    }

    #[test]
    fn an_event_is_one_of_the_standard_s() {
        assert_eq!(
            written(7, 1_000, &down("a\nb")),
            "id: 7\nevent: proxy_down\ndata: {\"time\":1000,\"type\":\"proxy_down\",\"name\":\"a\\nb\",\"kind\":\"tcp\",\"runID\":\"r\"}\n\n"
        );
    }

    #[test]
    fn nobody_listens_and_nothing_is_made() {
        Events::default().tell(|| panic!("made"));
    }

    #[test]
    fn listeners_are_bounded() {
        let events = Events::default();
        let all: Vec<_> = (0..MAX_LISTENERS)
            .map(|_| events.listen().unwrap())
            .collect();
        assert!(events.listen().is_none());
        drop(all);
        assert!(events.listen().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_falls_behind_is_told_and_dropped() {
        let events = Events::default();
        let (sender, mut pieces) = mpsc::channel(1);
        let listener = tokio::spawn(events.listen().unwrap().pass_on(sender));
        assert_eq!(pieces.recv().await.unwrap(), ": frps\n\n");
        assert_eq!(pieces.recv().await.unwrap(), ": alive\n\n");
        for _ in 0..QUEUE + 10 {
            events.tell(|| down("a"));
        }
        let mut last = Bytes::new();
        while let Some(piece) = pieces.recv().await {
            last = piece;
        }
        assert!(
            last.starts_with(b"event: dropped\ndata: {\"missed\":"),
            "{last:?}"
        );
        listener.await.unwrap();
    }

    #[tokio::test]
    async fn a_listener_ends_with_its_connection() {
        let events = Events::default();
        let (sender, pieces) = mpsc::channel(1);
        let listener = tokio::spawn(events.listen().unwrap().pass_on(sender));
        drop(pieces);
        listener.await.unwrap();
    }
}
