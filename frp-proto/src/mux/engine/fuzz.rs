//! Arbitrary input against one engine.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::batch::Batch;
use super::super::stream::WINDOW;
use super::super::{Config, Role};
use super::clock::LATE;
use super::receive::CONTROL;
use super::send::STREAM_QUEUE;
use super::{BACKLOG, Engine, Fault};

/// Streams in the fuzzed session.
const STREAMS: usize = 300;

/// Runs `data` as a script: a byte that says what the application does and how the time goes on, a byte with the length of
/// a piece, the piece as input of the engine, and so on.
pub(crate) fn run(mut data: &[u8]) {
    let mut application = Application::new();
    while let [action, n, rest @ ..] = data {
        let (piece, rest) = rest.split_at(usize::from(*n).min(rest.len()));
        data = rest;
        application.act(*action);
        if application.receive(piece).is_err() {
            break;
        }
    }
    application.leave();
}

/// The engine's user.
struct Application {
    engine: Engine,
    now: Instant,
    /// Streams that it holds; it turns to each in turn.
    held: VecDeque<u32>,
    opened: usize,
    input: Bytes,
}

impl Application {
    fn new() -> Self {
        let config = Config {
            max_streams: STREAMS,
            ..Config::default()
        };
        let now = Instant::now();
        Self {
            engine: Engine::new(Role::Server, config, now),
            now,
            held: VecDeque::new(),
            opened: 0,
            input: Bytes::new(),
        }
    }

    fn act(&mut self, action: u8) {
        // The time stands still, goes on by up to a minute, or jumps back.
        match action >> 5 {
            0..=3 => {}
            4 => self.now = self.now.checked_sub(LATE).unwrap_or(self.now),
            step => self.now += Duration::from_millis(40_u64.pow(u32::from(step) - 4)),
        }
        let waker = Waker::noop();
        let (engine, now) = (&mut self.engine, self.now);
        match action & 7 {
            0 => {
                if let Poll::Ready(Some(id)) = engine.accept(waker) {
                    self.held.push_back(id);
                }
            }
            1 => {
                if self.opened < BACKLOG
                    && let Ok(id) = engine.open(now)
                {
                    self.opened += 1;
                    self.held.push_back(id);
                }
            }
            7 => self.send(),
            action => self.use_stream(action),
        }
    }

    /// Does something with the stream whose turn it is.
    fn use_stream(&mut self, action: u8) {
        let Some(&id) = self.held.front() else {
            return;
        };
        self.held.rotate_left(1);
        let waker = Waker::noop();
        let engine = &mut self.engine;
        match action {
            2 => _ = engine.read(id, 1000, waker),
            3 => _ = engine.write(id, &[7; 1000], waker),
            4 => {
                let mut body = Bytes::from(vec![7; 100_000]);
                let _ = engine.write_chunk(id, &mut body, waker);
            }
            5 => _ = engine.shutdown(id),
            _ => {
                engine.drop_stream(id, self.now);
                self.held.pop_back();
            }
        }
    }

    fn send(&mut self) {
        self.engine.take_output(&mut Batch::new(true));
    }

    fn receive(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.input = [&self.input, piece].concat().into();
        if !self.engine.wants_input() {
            self.send();
        }
        let result = self
            .engine
            .tick(self.now)
            .and_then(|()| self.engine.receive(&mut self.input, self.now));
        self.opened -= self.engine.take_effects().opens;
        self.engine.check();
        if let Err(fault) = &result {
            self.engine.end(fault.clone());
            self.engine.check();
        }
        result
    }

    /// Drops all; nothing but what the peer has to finish may be left.
    fn leave(mut self) {
        for id in self.held {
            self.engine.drop_stream(id, self.now);
        }
        self.engine.stop_accepting();
        self.engine.check();
        assert_eq!(self.engine.streams.len(), self.engine.lingering.len());
    }
}

impl Engine {
    /// Panics if a bound or an invariant does not hold.
    fn check(&self) {
        assert!(self.streams.len() <= STREAMS);
        assert!(self.backlog.as_ref().is_none_or(|b| b.len() <= BACKLOG));
        assert!(self.unacknowledged.len() + self.spent_opens <= BACKLOG);
        assert!(self.control.len() <= CONTROL + 3 * STREAMS);
        let mut queued = 0;
        for (id, stream) in &self.streams {
            queued += stream.queue.len();
            assert!(stream.queue.len() <= STREAM_QUEUE);
            assert!(stream.received.len() + stream.receive_window as usize <= WINDOW as usize);
            assert!(
                stream
                    .orphaned
                    .is_none_or(|since| self.lingering.contains(&(since, *id)))
            );
            assert!(stream.queue.is_empty() || stream.scheduled);
        }
        assert_eq!(queued, self.queued);
    }
}
