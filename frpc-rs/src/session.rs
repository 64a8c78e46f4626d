//! One control session (client.md §4): it owns its timers, its proxies, its visitors and its
//! idle work connections, and they end with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frp_proto::msg::handshake::{ControlReader, ControlWriter};
use frp_proto::msg::{Message, Ping, Pong};
use frp_proto::net::Conn;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::connector::Link;
use crate::proxy::manager::Manager;
use crate::proxy::state::CHECK_INTERVAL;
use crate::pushed::{self, What};
use crate::{Shared, work};

/// Messages that may wait for the server; a full queue blocks who sends.
const OUTBOX: usize = 100;
/// Pause after a Ping that could not be signed; doubled each time, up to the interval of Pings.
const PING_RETRY: Duration = Duration::from_secs(2);
/// For the last messages of an orderly stop, and for frps to take them.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

type Reader = ControlReader<ReadHalf<Conn>>;
type Writer = ControlWriter<WriteHalf<Conn>>;

/// A logged-in session.
pub(crate) struct Session {
    work: Arc<work::Context>,
    reader: Reader,
    writer: Writer,
    last_pong: Mutex<Instant>,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        run_id: Arc<str>,
        link: Link,
        reader: Reader,
        writer: Writer,
    ) -> Self {
        let ended = shared.stop.child_token();
        Self {
            work: Arc::new(work::Context::new(shared, run_id, link, ended)),
            reader,
            writer,
            last_pong: Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn run_id(&self) -> &Arc<str> {
        &self.work.run_id
    }

    /// Runs to the end of the session: the connection's, a missed heartbeat, or the client's stop, after which the proxies
    /// are closed in order. Dropping the future ends the session at once.
    pub(crate) async fn run(self) {
        let Self {
            work,
            mut reader,
            writer,
            last_pong,
        } = self;
        let ended = work.ended.clone().drop_guard();
        let online = Online::begin(&work);
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let mut write = Box::pin(write(queue, writer));
        let stopping = tokio::select! {
            biased;
            () = work.shared.stop.cancelled() => true,
            () = read(&work, &mut reader, &outbox, &last_pong) => false,
            () = &mut write => false,
            () = tell(&work, &outbox) => false,
            () = ping(&work, &outbox) => false,
            () = follow_visitors(&work) => false,
            () = work.exchanges.forward(&outbox) => false,
            () = work.visitors.run(&work) => false,
            () = pong_timeout(work.shared.settings.heartbeat_timeout, &last_pong) => {
                tracing::warn!(run_id = %work.run_id, "heartbeat timeout");
                false
            }
        };
        drop(ended);
        work.visitors.close().await;
        let last_words = work.shared.with_proxies(Manager::close);
        drop(online);
        if stopping {
            let farewell = async {
                let queue = async {
                    for message in last_words {
                        // An error means that the writer has ended, and then there is nobody to tell.
                        let _ = outbox.send(message).await;
                    }
                    drop(outbox);
                };
                tokio::join!(queue, &mut write);
                // Frps closes when it has taken all; what it still sends meets nobody.
                while let Ok(Some(_)) = reader.read().await {}
            };
            let _ = timeout(FAREWELL_LIMIT, farewell).await;
        }
        work.link.close();
        tracing::debug!(run_id = %work.run_id, "control message dispatcher exited");
    }
}

/// Sends what is queued, several messages with one write when they have gathered. Ends the connection's write side when
/// nobody can queue any more, and ends without that when the connection fails.
async fn write(mut queue: mpsc::Receiver<Message>, mut writer: Writer) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, OUTBOX).await > 0 {
        if writer.write_all(&batch).await.is_err() {
            return;
        }
        batch.clear();
    }
    // The connection may be broken already, and is dropped next.
    let _ = writer.shutdown().await;
}

/// Handles the server's messages in their order, until the connection ends or the server refuses a heartbeat.
async fn read(
    work: &Arc<work::Context>,
    reader: &mut Reader,
    outbox: &mpsc::Sender<Message>,
    last_pong: &Mutex<Instant>,
) {
    let run_id = &work.run_id;
    loop {
        match reader.read().await {
            Ok(Some(Message::ReqWorkConn)) => work::start(work),
            Ok(Some(Message::NewProxyResp(resp))) => {
                let now = Instant::now();
                work.shared.with_proxies(|m| m.answer(now, &resp));
            }
            Ok(Some(Message::Pong(Pong { error }))) => {
                if !error.is_empty() {
                    tracing::error!(run_id = %run_id, "pong message contains error: {error}");
                    return;
                }
                *last_pong.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                tracing::debug!(run_id = %run_id, "receive heartbeat from server");
            }
            Ok(Some(Message::NatHoleResp(resp))) => work.exchanges.answer(*resp),
            Ok(Some(Message::PushProxy(m))) => pushed::queue(work, outbox, What::Push(m)),
            Ok(Some(Message::RemoveProxy(m))) => pushed::queue(work, outbox, What::Remove(m)),
            // Known messages that frpc has no use for are ignored (wire.md §2.2).
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(e) => {
                tracing::debug!(run_id = %run_id, "control connection: {e}");
                return;
            }
        }
    }
}

/// The proxies know of this session as long as it lives.
struct Online<'a>(&'a work::Context);

impl<'a> Online<'a> {
    fn begin(work: &'a work::Context) -> Self {
        let (run_id, now) = (work.run_id.clone(), Instant::now());
        work.shared.with_proxies(|m| m.begin(run_id, now));
        work.shared.metrics.connected(true);
        Self(work)
    }
}

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.shared.with_proxies(Manager::end);
        self.0.shared.metrics.connected(false);
    }
}

/// Tells the server of proxies when that is due. Ends when the writer has ended.
async fn tell(work: &work::Context, outbox: &mpsc::Sender<Message>) {
    let changed = work.shared.with_proxies(|m| m.changed());
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = check.tick() => {}
            () = changed.notified() => {}
        }
        for message in work.shared.with_proxies(|m| m.due(Instant::now())) {
            if outbox.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// Hands the set of visitors on, now and whenever it has changed. Never ends.
async fn follow_visitors(work: &work::Context) {
    let mut set = work.shared.visitors.subscribe();
    loop {
        let visitors = set.borrow_and_update().clone();
        work.visitors.update(&work.run_id, &visitors);
        if set.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Sends a Ping at once and then in every interval; without an interval never. Ends when the writer has ended.
async fn ping(work: &work::Context, outbox: &mpsc::Sender<Message>) {
    let settings = &work.shared.settings;
    let Some(period) = settings.heartbeat_interval else {
        return std::future::pending().await;
    };
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = PING_RETRY;
    loop {
        due.tick().await;
        let mut ping = Ping::default();
        if settings.scopes.heartbeats {
            match work.shared.auth.later().await {
                Ok((timestamp, key)) => {
                    (ping.timestamp, ping.privilege_key) = (timestamp, key);
                    pause = PING_RETRY;
                }
                Err(e) => {
                    tracing::warn!(run_id = %work.run_id, "error during ping authentication: {e}, skip sending ping message");
                    due.reset_after(pause.min(period));
                    pause *= 2;
                    continue;
                }
            }
        }
        tracing::debug!(run_id = %work.run_id, "send heartbeat to server");
        if outbox.send(Message::Ping(ping)).await.is_err() {
            return;
        }
    }
}

/// Ends when the last good Pong is older than `limit`; never without a limit.
async fn pong_timeout(limit: Option<Duration>, last_pong: &Mutex<Instant>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let deadline = *last_pong.lock().unwrap_or_else(PoisonError::into_inner) + limit;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    mod push;

    use super::*;
    use frp_proto::auth::token_key;
    use frp_proto::config::raw::client::ClientConfig;
    use frp_proto::msg::handshake::{self, Side};
    use frp_proto::msg::{CloseProxy, NewProxyResp, Version};
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    /// A session with frps's side of its control connection.
    struct Served {
        session: JoinHandle<()>,
        stop: CancellationToken,
        reader: ControlReader<ReadHalf<DuplexStream>>,
        writer: ControlWriter<WriteHalf<DuplexStream>>,
    }

    fn serve(change: impl FnOnce(&mut ClientConfig)) -> Served {
        let mut config = ClientConfig {
            proxies: vec![crate::proxy::tests::config("web", 1)],
            ..ClientConfig::default()
        };
        config.transport.tcp_mux = Some(false);
        config.transport.tls.enable = Some(false);
        change(&mut config);
        let stop = CancellationToken::new();
        let resources = crate::Resources::default();
        let client = crate::Client::new(config, "secret".into(), resources, &stop).unwrap();
        let shared = client.service.shared().clone();
        tokio::spawn(pushed::serve(client.wishes, client.service));
        let (near, far) = duplex(64 * 1024);
        let near = Conn::Other(Box::new(near));
        let (reader, writer) =
            handshake::control(near, Side::Client, Version::V1, None, &shared.token).unwrap();
        let link = Link::Dialled(shared.ways.any());
        let session = Session::new(shared, "run".into(), link, reader, writer);
        let (reader, writer) =
            handshake::control(far, Side::Server, Version::V1, None, &"secret".into()).unwrap();
        Served {
            session: tokio::spawn(session.run()),
            stop,
            reader,
            writer,
        }
    }

    impl Served {
        async fn next(&mut self) -> Option<Message> {
            self.reader.read().await.unwrap()
        }

        async fn send(&mut self, message: Message) {
            self.writer.write(&message).await.unwrap();
        }

        async fn expect_announcement(&mut self) {
            match self.next().await {
                Some(Message::NewProxy(m)) => assert_eq!(m.proxy_name, "web"),
                other => panic!("{other:?}"),
            }
        }
    }

    fn heartbeats(c: &mut ClientConfig) {
        c.transport.heartbeat_interval = 30;
        c.transport.heartbeat_timeout = 90;
        c.proxies.clear();
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_sent_at_once_and_in_every_interval_and_pongs_keep_the_session() {
        let mut served = serve(heartbeats);
        let start = Instant::now();
        for i in 0..10 {
            assert_eq!(served.next().await, Some(Message::Ping(Ping::default())));
            assert_eq!(start.elapsed().as_secs(), 30 * i);
            served.send(Message::Pong(Pong::default())).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_without_pongs_ends_at_the_limit() {
        let mut served = serve(heartbeats);
        let start = Instant::now();
        while served.next().await.is_some() {}
        assert_eq!(start.elapsed().as_secs(), 90);
        served.session.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_signed_with_the_scope() {
        let mut served = serve(|c| {
            heartbeats(c);
            c.auth.additional_scopes = vec!["HeartBeats".into()];
        });
        match served.next().await {
            Some(Message::Ping(ping)) => {
                let token = "secret".into();
                assert_eq!(ping.privilege_key, token_key(&token, ping.timestamp));
                assert!(ping.timestamp > 0);
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_heartbeat_ends_the_session() {
        let mut served = serve(heartbeats);
        let error = "token in heartbeat doesn't match token from configuration".into();
        served.send(Message::Pong(Pong { error })).await;
        served.session.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_connection_ends_the_session() {
        let served = serve(|_| {});
        drop((served.reader, served.writer));
        served.session.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn proxies_are_announced_until_they_are_answered() {
        let mut served = serve(|_| {});
        let start = Instant::now();
        let mut expect_at = Vec::new();
        for _ in 0..3 {
            served.expect_announcement().await;
            expect_at.push(start.elapsed().as_secs());
        }
        assert_eq!(expect_at, [0, 21, 42]);
        // What frpc has no use for changes nothing.
        let stray = CloseProxy {
            proxy_name: "web".into(),
        };
        served.send(Message::CloseProxy(stray)).await;
        let resp = NewProxyResp {
            proxy_name: "web".into(),
            error: "port already used".into(),
            ..NewProxyResp::default()
        };
        served.send(Message::NewProxyResp(resp)).await;
        served.expect_announcement().await;
        assert_eq!(start.elapsed().as_secs(), 42 + 33);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_the_proxies_then_the_connection() {
        let mut served = serve(|_| {});
        served.expect_announcement().await;
        served.stop.cancel();
        let close = CloseProxy {
            proxy_name: "web".into(),
        };
        assert_eq!(served.next().await, Some(Message::CloseProxy(close)));
        assert_eq!(served.next().await, None);
        drop((served.reader, served.writer));
        served.session.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_server_that_takes_nothing() {
        let served = serve(|c| {
            let many = (0..2_000).map(|i| crate::proxy::tests::config(&format!("p{i}"), 1));
            c.proxies = many.collect();
        });
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        served.stop.cancel();
        served.session.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1) + FAREWELL_LIMIT);
    }
}
