use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::batch::{Batch, SLICES};
use super::super::frame::HEADER;
use super::super::stream::WINDOW;
use super::clock::CLOSE_TIMEOUT;
use super::receive::{CONTROL, DISCARD};
use super::send::{STREAM_QUEUE, STREAM_QUEUE_BUSY};
use super::*;
use crate::testing::{hex, unhex};

/// An engine with its time and output.
struct Peer {
    engine: Engine,
    now: Instant,
}

impl Peer {
    fn new(role: Role) -> Self {
        Self::with_config(role, Config::default())
    }

    fn with_config(role: Role, config: Config) -> Self {
        let now = Instant::now();
        Self {
            engine: Engine::new(role, config, now),
            now,
        }
    }

    /// A server that has accepted stream 1; its acknowledgement is taken.
    fn accepted() -> Self {
        let mut peer = Self::new(Role::Server);
        peer.receive("0001000100000001005c0000").unwrap();
        assert_eq!(peer.accept(), Some(1));
        assert_eq!(peer.output(), "0001000200000001005c0000");
        peer
    }

    fn receive(&mut self, hex: &str) -> Result<(), Fault> {
        let mut data = unhex(hex).into();
        let result = self.engine.receive(&mut data, self.now);
        assert!(result.is_err() || data.is_empty());
        result
    }

    fn receive_data(&mut self, stream: u32, n: usize) -> Result<(), Fault> {
        let mut data = unhex(&format!("00000000{stream:08x}{n:08x}"));
        data.resize(HEADER + n, 7);
        self.engine.receive(&mut data.into(), self.now)
    }

    fn accept(&mut self) -> Option<u32> {
        match self.engine.accept(Waker::noop()) {
            Poll::Ready(stream) => stream,
            Poll::Pending => None,
        }
    }

    fn read(&mut self, id: u32) -> Poll<Result<Bytes, StreamError>> {
        self.engine.read(id, usize::MAX, Waker::noop())
    }

    fn write(&mut self, id: u32, data: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.engine.write(id, data, Waker::noop())
    }

    fn output(&mut self) -> String {
        hex(&output(&mut self.engine))
    }

    fn tick_after(&mut self, seconds: u64) -> Result<(), Fault> {
        self.now += Duration::from_secs(seconds);
        self.engine.tick(self.now)
    }
}

/// All that the engine has to send.
fn output(engine: &mut Engine) -> Vec<u8> {
    let mut bytes = Vec::new();
    while engine.has_output() {
        let mut batch = Batch::new(true);
        engine.take_output(&mut batch);
        while !batch.is_empty() {
            let before = bytes.len();
            let mut slices = [io::IoSlice::new(&[]); SLICES];
            batch.slices(&mut slices);
            for slice in slices {
                bytes.extend_from_slice(&slice);
            }
            batch.advance(bytes.len() - before);
        }
    }
    bytes
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn captured_session() {
    let mut client = Peer::new(Role::Client);
    let now = client.now;
    assert_eq!(client.engine.open(now), Ok(1));
    assert_eq!(client.output(), "0001000100000001005c0000");
    client.receive("0001000200000001005c0000").unwrap();
    let login = "ab".repeat(57);
    client
        .receive(&format!("000000000000000100000039{login}"))
        .unwrap();
    assert!(matches!(client.read(1), Poll::Ready(Ok(b)) if hex(&b) == login));
    assert_eq!(client.engine.open(now), Ok(3));
    assert_eq!(client.output(), "0001000100000003005c0000");
    client.engine.shutdown(3).unwrap();
    client.engine.shutdown(3).unwrap();
    assert_eq!(client.output(), "000100040000000300000000");
    client.receive("000200010000000000000000").unwrap();
    assert_eq!(client.output(), "000200020000000000000000");
    client.tick_after(30).unwrap();
    assert_eq!(client.output(), "000200010000000000000000");

    let mut server = Peer::accepted();
    assert!(matches!(server.write(1, &[0xab; 57]), Poll::Ready(Ok(57))));
    assert_eq!(server.output(), format!("000000000000000100000039{login}"));
}

#[test]
fn a_stream_is_acknowledged_when_accepted_and_not_before() {
    let mut server = Peer::new(Role::Server);
    server.receive("0001000100000001005c0000").unwrap();
    assert_eq!(server.output(), "");
    assert_eq!(server.accept(), Some(1));
    assert_eq!(server.output(), "0001000200000001005c0000");
}

#[test]
fn violations_end_the_session() {
    for (input, fault) in [
        (
            "474554202f20485454502f31",
            Fault::Frame(FrameError::Version(0x47)),
        ),
        (
            "000400000000000100000000",
            Fault::Frame(FrameError::Kind(4)),
        ),
        ("000100010000000100000000", Fault::DuplicateStream(1)),
        ("000000000000000100600001", Fault::Window),
        (
            "000100040000000100000000 000100040000000100000000",
            Fault::SecondFin(1),
        ),
    ] {
        let mut server = Peer::accepted();
        assert_eq!(server.receive(input), Err(fault.clone()));
        assert!(server.write(1, b"never sent").is_ready());
        server.engine.end(fault.clone());
        assert_eq!(server.output(), "000300000000000000000001", "{fault}");
        assert_eq!(server.engine.open(server.now), Err(fault));
    }
    let mut server = Peer::accepted();
    let fault = server.receive("000300000000000000000002").unwrap_err();
    assert_eq!(fault, Fault::GoAway(2));
    server.engine.end(fault);
    assert_eq!(server.output(), "");
}

#[test]
fn before_the_acknowledgement_the_initial_window_holds() {
    let mut server = Peer::new(Role::Server);
    server.receive("0001000100000001005c0000").unwrap();
    server.receive_data(1, 256 * 1024).unwrap();
    assert_eq!(server.receive_data(1, 1), Err(Fault::Window));
}

#[test]
fn a_frame_may_fill_the_window() {
    let mut server = Peer::accepted();
    let window = WINDOW as usize;
    server.receive_data(1, window).unwrap();
    assert_eq!(server.receive_data(1, 1), Err(Fault::Window));
    let mut read = 0;
    while let Poll::Ready(Ok(chunk)) = server.engine.read(1, 1 << 20, Waker::noop()) {
        read += chunk.len();
        // One update, at half of the window, and then one for the other half.
        let expected = if read % (window / 2) == 0 {
            "000100000000000100300000"
        } else {
            ""
        };
        assert_eq!(server.output(), expected);
    }
    assert_eq!(read, window);
}

#[test]
fn unknown_streams_are_ignored() {
    let mut server = Peer::accepted();
    server
        .receive("000000000000000900000003616263 0001000000000009ffffffff 000100040000000900000000")
        .unwrap();
    server.receive("000100080000000900000000").unwrap();
    assert_eq!(server.output(), "");
}

#[test]
fn backlog_and_stream_limit_reset_what_exceeds_them() {
    let mut server = Peer::new(Role::Server);
    for id in 0..BACKLOG {
        server
            .receive(&format!("00010001{:08x}005c0000", 2 * id + 1))
            .unwrap();
    }
    server.receive("0001000100000301005c0000").unwrap();
    assert_eq!(server.output(), "000100080000030100000000");

    let config = Config {
        max_streams: 1,
        ..Config::default()
    };
    let mut server = Peer::with_config(Role::Server, config);
    server.receive("0001000100000001005c0000").unwrap();
    server.receive("0001000100000003005c0000").unwrap();
    assert_eq!(server.output(), "000100080000000300000000");
    assert_eq!(server.engine.open(server.now), Err(Fault::TooMany(1)));

    let mut server = Peer::new(Role::Server);
    server.receive("0001000100000001005c0000").unwrap();
    server.engine.stop_accepting();
    server.receive("0001000100000003005c0000").unwrap();
    assert_eq!(
        server.output(),
        "000100080000000100000000000100080000000300000000"
    );
}

#[test]
fn reset_streams_do_not_fill_the_backlog() {
    let mut server = Peer::new(Role::Server);
    for id in 0..10_000 {
        let id = 2 * id + 1;
        server
            .receive(&format!(
                "00010001{id:08x}005c0000 00010008{id:08x}00000000"
            ))
            .unwrap();
    }
    assert_eq!(server.output(), "");
    assert_eq!((server.accept(), server.engine.streams.len()), (None, 0));
}

#[test]
fn a_flood_of_pings_stops_the_reading() {
    let mut server = Peer::new(Role::Server);
    let pings = "000200010000000000000000".repeat(CONTROL);
    assert!(server.engine.wants_input());
    server.receive(&pings).unwrap();
    assert!(!server.engine.wants_input());
    assert_eq!(server.output().len(), pings.len());
    assert!(server.engine.wants_input());
}

#[test]
fn halves_end_one_by_one() {
    let mut server = Peer::accepted();
    // The FIN may ride on data.
    server.receive("000000040000000100000003616263").unwrap();
    assert!(matches!(server.read(1), Poll::Ready(Ok(b)) if b == "abc"));
    assert!(matches!(server.read(1), Poll::Ready(Ok(b)) if b.is_empty()));
    assert!(matches!(server.write(1, b"x"), Poll::Ready(Ok(1))));
    server.engine.shutdown(1).unwrap();
    assert!(matches!(
        server.write(1, b"x"),
        Poll::Ready(Err(StreamError::Finished))
    ));
    server.engine.drop_stream(1, server.now);
    assert_eq!(
        server.output(),
        "00000000000000010000000178000100040000000100000000"
    );
    assert!(server.engine.streams.is_empty());
}

#[test]
fn drop_without_shutdown_resets() {
    let mut server = Peer::accepted();
    assert!(server.write(1, b"discarded").is_ready());
    server.engine.drop_stream(1, server.now);
    assert_eq!(server.output(), "000100080000000100000000");
    assert_eq!(server.engine.queued, 0);
    server.receive_data(1, 10).unwrap();
}

#[test]
fn drop_after_shutdown_waits_for_the_peer() {
    let mut server = Peer::accepted();
    server.receive_data(1, 10).unwrap();
    assert!(server.write(1, b"x").is_ready());
    server.engine.shutdown(1).unwrap();
    server.engine.drop_stream(1, server.now);
    assert_eq!(
        server.output(),
        "00000000000000010000000178000100040000000100000000"
    );
    server.receive("000100040000000100000000").unwrap();
    assert!(server.engine.streams.is_empty() && server.engine.lingering.is_empty());
    assert_eq!(server.output(), "");

    // A peer that goes on sending, and one that never finishes.
    for endless in [true, false] {
        let mut server = Peer::accepted();
        server.engine.shutdown(1).unwrap();
        server.engine.drop_stream(1, server.now);
        server.output();
        server.receive_data(1, DISCARD).unwrap();
        assert_eq!(server.output(), "");
        if endless {
            server.receive_data(1, 1).unwrap();
            assert_eq!(server.output(), "000100080000000100000000");
        } else {
            server.engine.next_ping += CLOSE_TIMEOUT;
            server.tick_after(299).unwrap();
            assert_eq!(server.output(), "");
            server.tick_after(1).unwrap();
            assert_eq!(server.output(), "000100080000000100000000");
        }
        assert!(server.engine.streams.is_empty() && server.engine.lingering.is_empty());
    }
}

#[test]
fn reset_by_the_peer_leaves_what_is_received() {
    let mut server = Peer::accepted();
    server.receive("000000000000000100000003616263").unwrap();
    assert!(server.write(1, b"discarded").is_ready());
    server.receive("000100080000000100000000").unwrap();
    assert!(matches!(server.read(1), Poll::Ready(Ok(b)) if b == "abc"));
    assert!(matches!(
        server.read(1),
        Poll::Ready(Err(StreamError::Reset))
    ));
    assert!(matches!(
        server.write(1, b"x"),
        Poll::Ready(Err(StreamError::Reset))
    ));
    assert_eq!(server.engine.shutdown(1), Err(StreamError::Reset));
    server.engine.drop_stream(1, server.now);
    assert_eq!(server.output(), "");
    assert!(server.engine.streams.is_empty());
}

#[test]
fn the_window_and_the_queue_hold_a_writer_back() {
    let mut client = Peer::new(Role::Client);
    client.engine.open(client.now).unwrap();
    let waker = Arc::new(Counter::default());
    let data = vec![0; WINDOW as usize];
    let write = |client: &mut Peer| {
        let waker = waker.clone().into();
        client
            .engine
            .write_chunk(1, &mut Bytes::from(data.clone()), &waker)
    };
    let woken = |client: &mut Peer| {
        for waker in client.engine.take_effects().wakers {
            waker.wake();
        }
        waker.0.swap(0, Ordering::Relaxed)
    };
    assert!(write(&mut client).is_ready());
    assert_eq!(client.engine.queued, STREAM_QUEUE);
    assert!(write(&mut client).is_pending());
    client.output();
    assert!(write(&mut client).is_pending(), "the window is used up");
    assert_eq!(woken(&mut client), 0);
    client.receive("0001000200000001005c0000").unwrap();
    assert_eq!(woken(&mut client), 1);
    assert!(write(&mut client).is_ready());
    assert!(write(&mut client).is_pending(), "the queue is full");
    client.output();
    assert_eq!(woken(&mut client), 1);
}

#[test]
fn streams_take_turns_and_none_is_shut_out_of_a_full_queue() {
    let mut client = Peer::new(Role::Client);
    let data = vec![0; STREAM_QUEUE];
    for _ in 0..10 {
        let id = client.engine.open(client.now).unwrap();
        assert!(client.write(id, &data).is_ready());
        client.engine.shutdown(id).unwrap();
    }
    let full = 4 * STREAM_QUEUE + 6 * STREAM_QUEUE_BUSY;
    assert_eq!(client.engine.queued, full);
    let bytes = output(&mut client.engine);
    let mut order = Vec::new();
    let mut rest = &bytes[..];
    while let Some((&header, tail)) = rest.split_first_chunk() {
        let header = Header::decode(header).unwrap();
        rest = tail;
        if header.kind == Kind::Data {
            order.push(header.stream);
            rest = &rest[header.length as usize..];
        }
    }
    assert_eq!(order[..12], [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 1, 3]);
}

#[test]
fn go_away_without_an_error_only_stops_opens() {
    let mut server = Peer::accepted();
    server.receive("000300000000000000000000").unwrap();
    assert!(server.engine.take_effects().no_opens);
    assert_eq!(server.engine.open(server.now), Err(Fault::RemoteGoAway));
    assert!(server.write(1, b"x").is_ready());
    assert_eq!(server.engine.ended(), None);
}

#[test]
fn ids_are_used_once_and_run_out() {
    let mut client = Peer::new(Role::Client);
    // A peer that numbers its streams as we do must not take ids that we shall use.
    client.receive("0001000100000005005c0000").unwrap();
    assert_eq!(client.engine.open(client.now), Ok(7));
    client.engine.next_id = u32::MAX - 2;
    assert_eq!(client.engine.open(client.now), Ok(u32::MAX - 2));
    assert_eq!(client.engine.open(client.now), Err(Fault::Exhausted));
}

#[test]
fn keepalive() {
    let mut server = Peer::accepted();
    server.tick_after(29).unwrap();
    assert_eq!(server.output(), "");
    server.tick_after(1).unwrap();
    assert_eq!(server.output(), "000200010000000000000000");
    server.receive("000200020000000000000000").unwrap();
    server.tick_after(30).unwrap();
    assert_eq!(server.output(), "000200010000000000000001");
    // The answer to an older ping does not count, but it is a sign of life.
    server.tick_after(9).unwrap();
    server.receive("000200020000000000000000").unwrap();
    server.tick_after(9).unwrap();
    assert_eq!(server.tick_after(1), Err(Fault::Keepalive));
}

#[test]
fn a_transport_that_takes_nothing_ends_the_session() {
    let mut server = Peer::accepted();
    server.engine.output_blocked(server.now);
    server.tick_after(9).unwrap();
    server.engine.output_blocked(server.now);
    assert_eq!(server.tick_after(1), Err(Fault::Write));
    server.engine.output_progress(server.now);
    server.tick_after(1).unwrap();
}

#[test]
fn a_slow_line_is_not_a_lost_peer() {
    let mut server = Peer::accepted();
    server.tick_after(30).unwrap();
    for _ in 0..10 {
        server.engine.output_blocked(server.now);
        server.tick_after(9).unwrap();
        server.engine.output_progress(server.now);
    }
    server.tick_after(9).unwrap();
    assert_eq!(server.tick_after(1), Err(Fault::Keepalive));
}

#[test]
fn an_open_that_is_not_acknowledged_ends_the_session() {
    let config = Config {
        keepalive_interval: Duration::from_mins(5),
        ..Config::default()
    };
    let mut client = Peer::with_config(Role::Client, config);
    client.engine.open(client.now).unwrap();
    client.tick_after(74).unwrap();
    assert_eq!(client.tick_after(1), Err(Fault::Open));
    client.receive("000100020000000100000000").unwrap();
    client.tick_after(1).unwrap();
}

#[test]
fn opens_are_given_back_once() {
    let mut client = Peer::new(Role::Client);
    let now = client.now;
    for id in [1, 3, 5] {
        assert_eq!(client.engine.open(now), Ok(id));
    }
    client.receive("0001000200000001005c0000").unwrap();
    client.receive("0001000200000001005c0000").unwrap();
    client.receive("000100080000000300000000").unwrap();
    assert_eq!(client.engine.take_effects().opens, 2);
    client.engine.drop_stream(1, now);
    client.engine.drop_stream(3, now);
    client.engine.drop_stream(5, now);
    assert_eq!(
        client.engine.take_effects().opens,
        0,
        "the frames are not sent"
    );
    client.output();
    assert_eq!(client.engine.take_effects().opens, 1);
}

#[test]
fn a_jump_of_the_clock_asks_before_it_judges() {
    for jump in [3600, -3600_i64] {
        let mut client = Peer::new(Role::Client);
        client.now += Duration::from_hours(2);
        client.engine = Engine::new(Role::Client, Config::default(), client.now);
        client.engine.open(client.now).unwrap();
        client.tick_after(30).unwrap();
        client.engine.output_blocked(client.now);
        client.output();
        let by = Duration::from_secs(jump.unsigned_abs());
        client.now = if jump > 0 {
            client.now + by
        } else {
            client.now.checked_sub(by).unwrap()
        };
        client.tick_after(0).unwrap();
        assert_eq!(client.output(), "000200010000000000000001");
        client.engine.output_progress(client.now);
        client.tick_after(9).unwrap();
        assert_eq!(client.tick_after(1), Err(Fault::Keepalive));
    }
}

#[test]
fn the_driver_is_woken_once_and_only_for_its_work() {
    let mut server = Peer::accepted();
    let waker = Arc::new(Counter::default());
    let park = |server: &mut Peer| server.engine.park(&waker.clone().into());
    let woken = |server: &mut Peer| server.engine.take_effects().wakers.len();
    park(&mut server);
    assert!(server.write(1, b"x").is_ready() && server.write(1, b"y").is_ready());
    assert_eq!(woken(&mut server), 1);
    server.engine.output_blocked(server.now);
    park(&mut server);
    assert!(server.write(1, b"z").is_ready());
    assert_eq!(woken(&mut server), 0, "it waits for the transport");
    server.engine.end(Fault::Closed);
    assert_eq!(woken(&mut server), 1);
    assert_eq!(server.output(), "00000000000000010000000378797a");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_input_breaks_a_bound(data in proptest::collection::vec(frame(), 0..200)) {
        fuzz::run(&data.concat());
    }

    #[test]
    fn the_division_of_the_input_does_not_matter(
        cuts in proptest::collection::vec(1..40_usize, 1..40),
    ) {
        let input = unhex(
            "0001000100000001005c0000 00000000000000010000000a30313233343536373839
             000200010000000000000007 0000000400000001000000026162 000300000000000000000000",
        );
        let mut server = Peer::new(Role::Server);
        let mut data = Bytes::new();
        let mut rest = &input[..];
        for n in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*n).min(rest.len()));
            rest = tail;
            data = [&data, piece].concat().into();
            server.engine.receive(&mut data, server.now).unwrap();
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(data.is_empty() && server.engine.gone_away);
        prop_assert_eq!(server.accept(), Some(1));
        prop_assert!(matches!(server.read(1), Poll::Ready(Ok(b)) if b == "0123456789ab"));
        prop_assert!(matches!(server.read(1), Poll::Ready(Ok(b)) if b.is_empty()));
    }
}

/// A step of the fuzzed session that is often a valid frame.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let header = (
        0..4_u8,
        0..16_u8,
        0..12_u8,
        prop_oneof![Just(0_u32), 1..200_u32, any::<u32>()],
    );
    (any::<u8>(), header, 0..100_u8).prop_map(|(action, (kind, bits, stream, length), junk)| {
        let mut piece = vec![0, kind, 0, bits, 0, 0, 0, stream];
        piece.extend(length.to_be_bytes());
        if kind == 0 && length < 200 {
            piece.resize(HEADER + length as usize, 7);
        }
        if junk == 0 {
            piece.truncate(5);
        }
        [vec![action, piece.len() as u8], piece].concat()
    })
}
