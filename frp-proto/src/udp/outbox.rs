//! [`Outbox`]: datagrams that wait to be sent over a byte stream, encoded already.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::msg::{Version, packet};

/// Bytes that may wait, encoded: about as many datagrams of 1,500 bytes as upstream's 1,024.
const QUEUE: usize = 2 * 1024 * 1024;
/// A buffer that has grown beyond this is given back when its bytes are sent.
const KEPT: usize = 256 * 1024;

/// A bounded queue of messages of one wire version.
pub struct Outbox {
    version: Version,
    queue: Mutex<Vec<u8>>,
    filled: Notify,
    taken: Notify,
}

impl Outbox {
    /// An empty queue.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            queue: Mutex::default(),
            filled: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Queues several messages at once. The queue is locked until the batch is dropped.
    pub fn batch(&self) -> Batch<'_> {
        let queue = self.lock();
        Batch {
            before: queue.len(),
            queue,
            outbox: self,
        }
    }

    /// Forgets what is queued.
    pub fn clear(&self) {
        self.lock().clear();
        self.taken.notify_waiters();
    }

    /// Waits until there is room: what waits for it in a socket is not lost as long as that has room of its own. Cancel safe.
    pub async fn room(&self) {
        loop {
            // Created first, so that what happens after the look wakes it.
            let taken = self.taken.notified();
            if self.lock().len() < QUEUE {
                return;
            }
            taken.await;
        }
    }

    /// Waits until something is queued. Cancel safe.
    pub async fn filled(&self) {
        while self.lock().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Sends what is queued and what will be, until the connection fails. Dropping the future loses at most what has left
    /// the queue.
    pub async fn send<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> io::Result<Infallible> {
        let mut batch = Vec::new();
        loop {
            self.filled().await;
            std::mem::swap(&mut *self.lock(), &mut batch);
            self.taken.notify_waiters();
            writer.write_all(&batch).await?;
            writer.flush().await?;
            if batch.capacity() > KEPT {
                batch = Vec::new();
            }
            batch.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Messages are appended whole or not at all, so a panic elsewhere leaves whole ones.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Access to an [`Outbox`], whose sender wakes up when this is dropped.
pub struct Batch<'a> {
    outbox: &'a Outbox,
    queue: MutexGuard<'a, Vec<u8>>,
    before: usize,
}

impl Batch<'_> {
    /// Queues a datagram of `remote` (see [`packet::encode`]). Whether it was: a full queue and a datagram too long for a
    /// message drop it.
    pub fn push(&mut self, content: &[u8], remote: &[u8]) -> bool {
        self.has_room()
            && packet::encode(self.outbox.version, content, remote, &mut self.queue).is_ok()
    }

    /// Whether there is room for another message.
    pub fn has_room(&self) -> bool {
        self.queue.len() < QUEUE
    }

    /// Queues a Ping.
    pub fn push_ping(&mut self) -> bool {
        self.has_room() && packet::encode_ping(self.outbox.version, &mut self.queue).is_ok()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if self.queue.len() > self.before {
            self.outbox.filled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    const REMOTE: &[u8] = br#"{"IP":"1.2.3.4","Port":5,"Zone":""}"#;

    #[tokio::test]
    async fn what_is_queued_together_is_written_together() {
        let outbox = Outbox::new(Version::V1);
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let mut batch = outbox.batch();
        assert!(batch.push(b"one", REMOTE) && batch.push(b"two", REMOTE) && batch.push_ping());
        drop(batch);
        let mut expected = Vec::new();
        packet::encode(Version::V1, b"one", REMOTE, &mut expected).unwrap();
        packet::encode(Version::V1, b"two", REMOTE, &mut expected).unwrap();
        packet::encode_ping(Version::V1, &mut expected).unwrap();
        let mut got = vec![0; 1_000];
        let read = async {
            let n = far.read(&mut got).await.unwrap();
            got.truncate(n);
        };
        tokio::select! {
            biased;
            sent = outbox.send(&mut near) => panic!("{sent:?}"),
            () = read => {}
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn a_full_queue_drops() {
        let outbox = Outbox::new(Version::V2);
        let content = [0; 1_000];
        let taken = (0..).take_while(|_| outbox.batch().push(&content, REMOTE));
        assert!((1_000..2_000).contains(&taken.count()));
        outbox.clear();
        assert!(outbox.batch().push(&content, REMOTE));
    }

    #[tokio::test]
    async fn who_waits_for_room_goes_on_when_the_queue_is_taken() {
        let outbox = Outbox::new(Version::V2);
        while outbox.batch().push(&[0; 1_000], REMOTE) {}
        assert!(!outbox.batch().has_room());
        let (mut near, _far) = tokio::io::duplex(1);
        tokio::select! {
            biased;
            () = outbox.room() => {}
            sent = outbox.send(&mut near) => panic!("{sent:?}"),
        }
        assert!(outbox.batch().has_room());
    }

    #[test]
    fn what_fits_no_message_is_dropped() {
        let v1 = Outbox::new(Version::V1);
        assert!(v1.batch().push(&[0; 7_600], REMOTE));
        assert!(!v1.batch().push(&[0; 7_700], REMOTE));
        assert!(
            Outbox::new(Version::V2)
                .batch()
                .push(&vec![0; 49_000], REMOTE)
        );
    }
}
