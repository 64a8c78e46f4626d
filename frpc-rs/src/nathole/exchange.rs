//! Questions to the server about holes, and its answers. They travel on the control connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frp_proto::msg::{Message, NatHoleReport, NatHoleResp};
use frp_proto::nathole::new_id;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::host;

/// For an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Questions that may wait for the control connection.
const QUEUE: usize = 64;
/// Holes that proxies make at a time; each may need 257 sockets.
const MAX_HOLES: usize = 64;

/// The exchanges of one session.
pub(crate) struct Exchanges {
    /// Who waits for the answer, by transaction id.
    waiting: Mutex<HashMap<String, oneshot::Sender<NatHoleResp>>>,
    questions: mpsc::Sender<Message>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    places: Arc<Semaphore>,
}

impl Default for Exchanges {
    fn default() -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        Self {
            waiting: Mutex::default(),
            questions,
            queue: tokio::sync::Mutex::new(queue),
            places: Arc::new(Semaphore::new(MAX_HOLES)),
        }
    }
}

/// Who waits for an answer; dropping it ends that.
struct Waiting<'a> {
    exchanges: &'a Exchanges,
    transaction_id: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.exchanges.lock().remove(self.transaction_id);
    }
}

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<NatHoleResp>>> {
        // Every change is one insert or remove: a panic elsewhere leaves the map whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to make a hole for a proxy; `None` if too many are being made.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Hands what is to be sent to the control connection, until that has ended.
    pub(crate) async fn forward(&self, outbox: &mpsc::Sender<Message>) {
        let mut queue = self.queue.lock().await;
        while let Some(message) = queue.recv().await {
            if outbox.send(message).await.is_err() {
                return;
            }
        }
    }

    /// Takes an answer; one that nobody waits for is dropped.
    pub(crate) fn answer(&self, resp: NatHoleResp) {
        if let Some(waiter) = self.lock().remove(&resp.transaction_id) {
            // An error means that it was waited for long enough.
            let _ = waiter.send(resp);
        }
    }

    /// Asks whether something may be done. The error is the text of the log.
    pub(crate) async fn check(
        &self,
        question: impl FnOnce(String) -> Message,
    ) -> Result<(), String> {
        match self.resp(question).await?.error {
            error if error.is_empty() => Ok(()),
            error => Err(error),
        }
    }

    /// Asks what to do; `question` is given the transaction id. The error is the text of the log.
    pub(crate) async fn ask(
        &self,
        question: impl FnOnce(String) -> Message,
    ) -> Result<NatHoleResp, String> {
        let resp = self.resp(question).await?;
        if !resp.error.is_empty() {
            return Err(format!("natHoleRespMsg get error info: {}", resp.error));
        }
        if resp.candidate_addrs.is_empty() {
            return Err("natHoleRespMsg get empty candidate addresses".into());
        }
        Ok(resp)
    }

    async fn resp(&self, question: impl FnOnce(String) -> Message) -> Result<NatHoleResp, String> {
        let transaction_id = new_id(host::unix_time()).map_err(|e| e.to_string())?;
        let (sender, answer) = oneshot::channel();
        self.lock().insert(transaction_id.clone(), sender);
        let _waiting = Waiting {
            exchanges: self,
            transaction_id: &transaction_id,
        };
        let exchange = async {
            self.questions
                .send(question(transaction_id.clone()))
                .await
                .ok()?;
            answer.await.ok()
        };
        let answer = timeout(ANSWER_LIMIT, exchange).await.ok().flatten();
        answer.ok_or_else(|| "get natHoleRespMsg error: context deadline exceeded".into())
    }

    /// Tells the server whether there is a hole. That is not worth waiting for.
    pub(crate) fn report(&self, sid: &str, success: bool) {
        let report = NatHoleReport {
            sid: sid.to_owned(),
            success,
        };
        let _ = self.questions.try_send(Message::NatHoleReport(report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frp_proto::msg::NatHoleVisitor;
    use tokio::time::Instant;

    fn question(transaction_id: String) -> Message {
        Message::NatHoleVisitor(NatHoleVisitor {
            transaction_id,
            ..NatHoleVisitor::default()
        })
    }

    /// What comes of a question that is answered like this.
    async fn ask(change: impl FnOnce(&mut NatHoleResp)) -> Result<NatHoleResp, String> {
        let exchanges = Exchanges::default();
        let (outbox, mut sent) = mpsc::channel(1);
        let answer = async {
            let Some(Message::NatHoleVisitor(m)) = sent.recv().await else {
                panic!("no question");
            };
            let mut resp = NatHoleResp {
                transaction_id: m.transaction_id,
                ..NatHoleResp::default()
            };
            change(&mut resp);
            exchanges.answer(resp.clone());
            // A second one meets nobody.
            exchanges.answer(resp);
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = exchanges.ask(question) => result,
            () = exchanges.forward(&outbox) => panic!("it goes on"),
            () = answer => panic!("it goes on"),
        };
        assert!(exchanges.lock().is_empty());
        result
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_question() {
        let resp = ask(|resp| resp.candidate_addrs = vec!["127.0.0.1:1".into()]).await;
        assert_eq!(resp.unwrap().candidate_addrs, ["127.0.0.1:1"]);
        assert_eq!(
            ask(|resp| resp.error = "no".into()).await.unwrap_err(),
            "natHoleRespMsg get error info: no"
        );
        assert_eq!(
            ask(|_| {}).await.unwrap_err(),
            "natHoleRespMsg get empty candidate addresses"
        );
        let start = Instant::now();
        assert_eq!(
            ask(|resp| resp.transaction_id.push('x')).await.unwrap_err(),
            "get natHoleRespMsg error: context deadline exceeded"
        );
        assert_eq!(start.elapsed(), ANSWER_LIMIT);
    }
}
