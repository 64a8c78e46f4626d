//! Asking a client to serve a proxy, or to serve one no longer (docs/pushed-proxies.md).
//!
//! One question at a time: what the client has and what is remembered of it cannot get out of step. An answer nobody waits for
//! changes nothing, whoever sends it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use frp_proto::msg::{Message, PushResult};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::Handle;

/// Questions to one client.
pub(crate) struct Pushes {
    turn: Semaphore,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last_id: i64,
    /// Gets the answer to the question of `last_id`.
    answer: Option<oneshot::Sender<String>>,
}

/// The session has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Who may ask now.
pub(crate) struct Turn<'a> {
    session: &'a Handle,
    _permit: SemaphorePermit<'a>,
}

impl Default for Pushes {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: Mutex::default(),
        }
    }
}

impl Pushes {
    /// The client has answered.
    pub(crate) fn answer(&self, m: PushResult) {
        let mut waiting = self.lock();
        if m.id == waiting.last_id
            && let Some(answer) = waiting.answer.take()
        {
            // Who asked may have given up.
            let _ = answer.send(m.error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is one assignment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Waits until nobody else asks. Cancel safe.
    pub(crate) async fn push_turn(&self) -> Result<Turn<'_>, Gone> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(Gone),
            permit = self.pushes.turn.acquire() => Ok(Turn {
                session: self,
                _permit: permit.map_err(|_| Gone)?,
            }),
        }
    }
}

impl Turn<'_> {
    /// Asks, and waits for the answer without a limit: `Err` inside is the client's reason. When dropped meanwhile, the client
    /// may still do what it was asked.
    pub(crate) async fn ask(
        &self,
        question: impl FnOnce(i64) -> Message,
    ) -> Result<Result<(), String>, Gone> {
        let session = self.session;
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut waiting = session.pushes.lock();
            waiting.last_id += 1;
            waiting.answer = Some(sender);
            waiting.last_id
        };
        session.send(question(id)).await;
        tokio::select! {
            () = session.cancel.cancelled() => Err(Gone),
            error = answer => match error.map_err(|_| Gone)? {
                error if error.is_empty() => Ok(Ok(())),
                error => Ok(Err(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use frp_proto::msg::RemoveProxy;

    use super::*;

    fn question(id: i64) -> Message {
        Message::RemoveProxy(RemoveProxy {
            id,
            name: "x".into(),
        })
    }

    fn result(id: i64, error: &str) -> PushResult {
        PushResult {
            id,
            error: error.into(),
        }
    }

    #[tokio::test]
    async fn only_the_answer_that_is_waited_for_counts() {
        let (session, mut outbox) = Handle::for_push_test();
        // Nobody has asked.
        for id in [-1, 0, 1, i64::MAX] {
            session.pushes.answer(result(id, "unasked"));
        }
        let asker = session.clone();
        let asked = tokio::spawn(async move {
            let turn = asker.push_turn().await.unwrap();
            turn.ask(question).await
        });
        assert_eq!(outbox.recv().await, Some(question(1)));
        session.pushes.answer(result(0, "old"));
        session.pushes.answer(result(2, "not asked yet"));
        session.pushes.answer(result(1, "no"));
        session.pushes.answer(result(1, ""));
        assert_eq!(asked.await.unwrap(), Ok(Err("no".into())));
    }

    #[tokio::test]
    async fn an_answer_to_who_gave_up_is_not_taken_for_another_s() {
        let (session, mut outbox) = Handle::for_push_test();
        let turn = session.push_turn().await.unwrap();
        let given_up =
            tokio::time::timeout(std::time::Duration::from_millis(1), turn.ask(question));
        assert!(given_up.await.is_err());
        let asked = async {
            assert_eq!(outbox.recv().await, Some(question(1)));
            assert_eq!(outbox.recv().await, Some(question(2)));
            session.pushes.answer(result(1, "late"));
            session.pushes.answer(result(2, ""));
        };
        let (answer, ()) = tokio::join!(turn.ask(question), asked);
        assert_eq!(answer, Ok(Ok(())));
        session.cancel.cancel();
        assert_eq!(turn.ask(question).await, Err(Gone));
    }
}
