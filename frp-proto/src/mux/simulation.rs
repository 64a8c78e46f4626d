//! Two engines on a simulated network and clock.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::batch::{Batch, SLICES};
use super::engine::{BACKLOG, Engine, Fault};
use super::stream::{StreamError, WINDOW};
use super::{Config, Role};

const CLIENT: usize = 0;
const SERVER: usize = 1;
/// Bytes that the network holds in one direction.
const PIPE: usize = 4 * 1024 * 1024;

/// One end with what is on its way to it.
struct Side {
    engine: Engine,
    inbox: VecDeque<(Instant, Vec<u8>)>,
    input: Bytes,
    batch: Batch,
    opens: usize,
}

/// Both ends, the network and the clock.
struct Pair {
    now: Instant,
    latency: Duration,
    /// What is sent gets lost.
    cut: bool,
    sides: [Side; 2],
}

impl Pair {
    fn new(latency: Duration) -> Self {
        let now = Instant::now();
        let side = |role| Side {
            engine: Engine::new(role, Config::default(), now),
            inbox: VecDeque::new(),
            input: Bytes::new(),
            batch: Batch::new(true),
            opens: BACKLOG,
        };
        Self {
            now,
            latency,
            cut: false,
            sides: [side(Role::Client), side(Role::Server)],
        }
    }

    /// Opens a stream, if an open is free.
    fn open(&mut self, side: usize) -> Option<u32> {
        let now = self.now;
        let side = &mut self.sides[side];
        side.opens = side.opens.checked_sub(1)?;
        Some(side.engine.open(now).unwrap())
    }

    fn accept(&mut self, side: usize) -> Option<u32> {
        match self.sides[side].engine.accept(Waker::noop()) {
            Poll::Ready(id) => id,
            Poll::Pending => None,
        }
    }

    /// A stream that is open at both ends.
    fn stream(&mut self) -> u32 {
        let id = self.open(CLIENT).unwrap();
        self.run_until(|pair| pair.accept(SERVER) == Some(id));
        self.settle();
        id
    }

    fn read(&mut self, side: usize, id: u32, max: usize) -> Poll<Result<Bytes, StreamError>> {
        self.sides[side].engine.read(id, max, Waker::noop())
    }

    /// Reads what is there; `None` at the end.
    fn read_all(&mut self, side: usize, id: u32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.read(side, id, usize::MAX) {
                Poll::Ready(chunk) => match chunk.unwrap() {
                    chunk if chunk.is_empty() => return (!bytes.is_empty()).then_some(bytes),
                    chunk => bytes.extend_from_slice(&chunk),
                },
                Poll::Pending => return Some(bytes),
            }
        }
    }

    /// Queues from the front of `data` what there is room for.
    fn write(&mut self, side: usize, id: u32, data: &mut Bytes) {
        let engine = &mut self.sides[side].engine;
        while !data.is_empty()
            && let Poll::Ready(result) = engine.write_chunk(id, data, Waker::noop())
        {
            result.unwrap();
        }
    }

    fn fault(&self, side: usize) -> Option<&Fault> {
        self.sides[side].engine.ended()
    }

    /// Does all that can be done now.
    fn exchange(&mut self) {
        for i in [CLIENT, SERVER] {
            let side = &mut self.sides[i];
            if side.engine.ended().is_none()
                && let Err(fault) = side.work(self.now)
            {
                side.engine.end(fault);
            }
            self.transmit(i);
        }
    }

    /// What the network takes from a side now.
    fn room(&self, from: usize) -> usize {
        let in_flight = self.sides[1 - from].inbox.iter().map(|(_, b)| b.len());
        PIPE.saturating_sub(in_flight.sum())
    }

    fn can_transmit(&self, from: usize) -> bool {
        let side = &self.sides[from];
        let output = side.engine.has_output() || !side.batch.is_empty();
        output && side.engine.ended().is_none() && self.room(from) > 0
    }

    fn transmit(&mut self, from: usize) {
        let arrival = self.now + self.latency;
        let in_flight: usize = self.sides[1 - from]
            .inbox
            .iter()
            .map(|(_, b)| b.len())
            .sum();
        let mut room = PIPE.saturating_sub(in_flight);
        loop {
            let side = &mut self.sides[from];
            side.engine.take_output(&mut side.batch);
            if side.batch.is_empty() {
                return;
            }
            if room == 0 {
                side.engine.output_blocked(self.now);
                return;
            }
            side.engine.output_progress(self.now);
            let mut slices = [IoSlice::new(&[]); SLICES];
            side.batch.slices(&mut slices);
            let mut bytes = slices.map(|s| s.to_vec()).concat();
            bytes.truncate(room);
            room -= bytes.len();
            side.batch.advance(bytes.len());
            if !self.cut {
                self.sides[1 - from].inbox.push_back((arrival, bytes));
            }
        }
    }

    /// Goes on to the next moment at which something happens.
    fn advance(&mut self) {
        let next = self
            .sides
            .iter()
            .filter(|side| side.engine.ended().is_none())
            .flat_map(|side| {
                let arrival = side.inbox.front().map(|(at, _)| *at);
                [Some(side.engine.deadline()), arrival]
            })
            .flatten()
            .min()
            .expect("somebody is alive");
        self.now = self.now.max(next);
    }

    fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_000_000 {
            self.exchange();
            if done(self) {
                return;
            }
            // What can leave now does so before the time goes on.
            if !(self.can_transmit(CLIENT) || self.can_transmit(SERVER)) {
                self.advance();
            }
        }
        panic!("it never happens");
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.sides.iter().any(|s| s.engine.ended().is_none()) {
            self.exchange();
            self.advance();
        }
    }

    /// Waits until nothing is on its way.
    fn settle(&mut self) {
        self.run_until(|pair| {
            pair.sides
                .iter()
                .all(|s| s.inbox.is_empty() && s.batch.is_empty() && !s.engine.has_output())
        });
    }
}

impl Side {
    fn work(&mut self, now: Instant) -> Result<(), Fault> {
        while let Some((at, _)) = self.inbox.front()
            && *at <= now
            && self.engine.wants_input()
        {
            if let Some((_, bytes)) = self.inbox.pop_front() {
                self.input = [&self.input[..], &bytes].concat().into();
                self.engine.receive(&mut self.input, now)?;
            }
        }
        if self.engine.deadline() <= now {
            self.engine.tick(now)?;
        }
        self.opens += self.engine.take_effects().opens;
        Ok(())
    }
}

#[test]
fn a_long_way_is_used_as_far_as_the_window_allows() {
    let mut pair = Pair::new(Duration::from_millis(50));
    let id = pair.stream();
    let start = pair.now;
    let mut data = Bytes::from(vec![7; 64 << 20]);
    let mut received = 0;
    pair.run_until(|pair| {
        pair.write(CLIENT, id, &mut data);
        received += pair.read_all(SERVER, id).unwrap().len();
        received == 64 << 20
    });
    // 6 MiB a round trip of 100 ms would be 1.1 s; the pipe and the late updates cost some.
    let elapsed = pair.now - start;
    assert!(elapsed < Duration::from_millis(2200), "{elapsed:?}");
}

#[test]
fn a_lost_peer_is_noticed_by_both() {
    for busy in [false, true] {
        let mut pair = Pair::new(Duration::from_millis(10));
        let id = pair.stream();
        if busy {
            pair.write(CLIENT, id, &mut Bytes::from(vec![0; WINDOW as usize]));
        }
        pair.cut = true;
        let start = pair.now;
        pair.run_until(|pair| pair.fault(CLIENT).is_some() && pair.fault(SERVER).is_some());
        assert!(pair.now - start <= Duration::from_secs(41));
        assert_eq!(pair.fault(CLIENT), Some(&Fault::Keepalive));
        assert!(matches!(
            pair.read(SERVER, id, 1),
            Poll::Ready(Err(StreamError::Session))
        ));
    }
}

#[test]
fn a_slow_reader_bounds_its_own_stream_only() {
    let mut pair = Pair::new(Duration::from_millis(5));
    let (slow, fast) = (pair.stream(), pair.stream());
    let mut slow_data = Bytes::from(vec![1; 100 << 20]);
    let mut fast_data = Bytes::from(vec![2; 100 << 20]);
    let start = pair.now;
    let (mut slow_read, mut fast_read) = (0, 0);
    pair.run_until(|pair| {
        eprintln!(
            "{:?} {:?} {:?}",
            pair.now - start,
            pair.fault(CLIENT),
            pair.fault(SERVER)
        );
        pair.write(CLIENT, slow, &mut slow_data);
        pair.write(CLIENT, fast, &mut fast_data);
        let second = (pair.now - start).as_secs() as usize;
        if slow_read < second * 1024
            && let Poll::Ready(Ok(chunk)) = pair.read(SERVER, slow, 1024)
        {
            slow_read += chunk.len();
        }
        fast_read += pair.read_all(SERVER, fast).unwrap().len();
        fast_read == 100 << 20
    });
    assert!(pair.now - start < Duration::from_secs(2));
    assert_eq!((100 << 20) - slow_data.len(), WINDOW as usize);
}

#[test]
fn ten_thousand_streams_come_and_go() {
    let mut pair = Pair::new(Duration::from_millis(1));
    let mut words: HashMap<u32, Vec<u8>> = HashMap::new();
    let (mut opened, mut done) = (0, 0);
    pair.run_until(|pair| {
        while opened < 10_000
            && let Some(id) = pair.open(CLIENT)
        {
            opened += 1;
            pair.write(CLIENT, id, &mut Bytes::from(vec![id as u8; 300]));
            let engine = &mut pair.sides[CLIENT].engine;
            engine.shutdown(id).unwrap();
            engine.drop_stream(id, pair.now);
        }
        while let Some(id) = pair.accept(SERVER) {
            words.insert(id, Vec::new());
        }
        let ids: Vec<u32> = words.keys().copied().collect();
        for id in ids {
            if let Some(bytes) = pair.read_all(SERVER, id) {
                words.get_mut(&id).unwrap().extend(bytes);
                continue;
            }
            assert_eq!(words.remove(&id).unwrap(), [id as u8; 300]);
            let engine = &mut pair.sides[SERVER].engine;
            engine.shutdown(id).unwrap();
            engine.drop_stream(id, pair.now);
            done += 1;
        }
        done == 10_000
    });
    pair.settle();
    assert_eq!(
        pair.sides.each_ref().map(|s| s.engine.stream_count()),
        [0, 0]
    );
    assert_eq!(pair.sides[CLIENT].opens, BACKLOG);
}

#[test]
fn ten_thousand_idle_streams_stay() {
    let mut pair = Pair::new(Duration::from_millis(1));
    let mut ids = Vec::new();
    let mut accepted = 0;
    pair.run_until(|pair| {
        while ids.len() < 10_000
            && let Some(id) = pair.open(CLIENT)
        {
            ids.push(id);
        }
        while pair.accept(SERVER).is_some() {
            accepted += 1;
        }
        accepted == 10_000
    });
    pair.run_for(Duration::from_mins(10));
    for id in ids {
        pair.write(SERVER, id, &mut Bytes::from_static(b"x"));
        pair.run_until(|pair| pair.read_all(CLIENT, id).is_some_and(|b| b == b"x"));
    }
}

#[test]
fn healthy_sessions_survive_jumps_of_the_clock() {
    let hour = Duration::from_hours(1);
    // Idle; with a ping on its way; with an open on its way.
    for case in 0..3 {
        for forward in [true, false] {
            let mut pair = Pair::new(Duration::from_secs(2));
            pair.now += 2 * hour;
            let now = pair.now;
            for (side, role) in [(CLIENT, Role::Client), (SERVER, Role::Server)] {
                pair.sides[side].engine = Engine::new(role, Config::default(), now);
            }
            let id = pair.stream();
            if case == 1 {
                pair.run_for(Duration::from_secs(30));
            } else if case == 2 {
                assert!(pair.open(CLIENT).is_some());
                pair.exchange();
            }
            pair.now = if forward {
                pair.now + hour
            } else {
                pair.now.checked_sub(hour).unwrap()
            };
            for side in &mut pair.sides {
                side.engine.tick(pair.now).unwrap();
                for (at, _) in &mut side.inbox {
                    *at = pair.now + Duration::from_secs(2);
                }
            }
            pair.run_until(|pair| case != 2 || pair.accept(SERVER).is_some());
            pair.run_for(Duration::from_mins(10));
            assert_eq!((pair.fault(CLIENT), pair.fault(SERVER)), (None, None));
            pair.write(CLIENT, id, &mut Bytes::from_static(b"x"));
            pair.run_until(|pair| pair.read_all(SERVER, id).is_some_and(|b| b == b"x"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the order of writing and reading, each stream gives back what went in, and its end.
    #[test]
    fn streams_are_faithful(
        steps in proptest::collection::vec((0..8_usize, 0..2_usize, 1..400_000_usize), 1..200),
    ) {
        let mut pair = Pair::new(Duration::from_millis(3));
        let ids: Vec<u32> = (0..8).map(|_| pair.stream()).collect();
        // How much was written, by stream and writer, and how much was read of it.
        let mut written = [[0_usize; 2]; 8];
        let mut read = [[0_usize; 2]; 8];
        let pattern = Bytes::from((0..251).collect::<Vec<u8>>().repeat(40_000));
        let piece = |i: usize, side: usize, at: usize, n: usize| {
            pattern.slice((at + 31 * i + side) % 251..).slice(..n)
        };
        for (i, side, n) in steps {
            let mut data = piece(i, side, written[i][side], n);
            pair.write(side, ids[i], &mut data);
            written[i][side] += n - data.len();
            pair.exchange();
            let (j, from) = ((i + n) % 8, n % 2);
            if let Poll::Ready(Ok(chunk)) = pair.read(1 - from, ids[j], n) {
                prop_assert!(chunk == piece(j, from, read[j][from], chunk.len()));
                read[j][from] += chunk.len();
            }
            if n % 3 == 0 {
                pair.advance();
            }
        }
        for (i, &id) in ids.iter().enumerate() {
            for side in [CLIENT, SERVER] {
                pair.sides[side].engine.shutdown(id).unwrap();
                let mut rest = Vec::new();
                pair.run_until(|pair| match pair.read_all(1 - side, id) {
                    Some(bytes) => {
                        rest.extend(bytes);
                        false
                    }
                    None => true,
                });
                prop_assert!(rest == piece(i, side, read[i][side], rest.len()));
                prop_assert_eq!(read[i][side] + rest.len(), written[i][side]);
            }
        }
    }
}
