//! The visitors of one session (client.md §13.1): which exist, which have started, and attempts to start the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Visitor;
use crate::work::Context;

/// Time between attempts to start what could not be started.
const RETRY: Duration = Duration::from_secs(10);

/// Visitors by name. They are started by [`Manager::run`].
#[derive(Default)]
pub(crate) struct Manager {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    visitors: BTreeMap<String, Entry>,
    /// Removed ones, which may still hold their ports.
    ending: Vec<JoinHandle<()>>,
}

struct Entry {
    visitor: Arc<Visitor>,
    status: Status,
    running: Option<Running>,
}

/// Where a visitor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not started yet.
    New,
    /// Users can come.
    Running,
    /// It could not be started, for this reason.
    StartError(String),
}

/// A started visitor; dropping it ends it.
struct Running {
    task: JoinHandle<()>,
    _cancel: DropGuard,
}

impl Manager {
    /// Takes a full new set: who is not in it or has changed ends, who is new starts, the others go on undisturbed.
    pub(crate) fn update(&self, run_id: &str, visitors: &[Arc<Visitor>]) {
        let mut state = self.lock();
        let State {
            visitors: entries,
            ending,
        } = &mut *state;
        let mut removed = Vec::new();
        entries.retain(|name, entry| {
            let kept = visitors.contains(&entry.visitor);
            if !kept {
                removed.push(name.clone());
                ending.extend(entry.running.take().map(|r| r.task));
            }
            kept
        });
        let mut added = Vec::new();
        for visitor in visitors {
            if !entries.contains_key(&visitor.name) {
                added.push(visitor.name.clone());
                let entry = Entry {
                    visitor: visitor.clone(),
                    status: Status::New,
                    running: None,
                };
                entries.insert(visitor.name.clone(), entry);
            }
        }
        drop(state);
        for (what, mut names) in [("removed", removed), ("added", added)] {
            if !names.is_empty() {
                names.sort_unstable();
                tracing::info!(run_id = %run_id, "visitor {what}: [{}]", names.join(" "));
                self.changed.notify_one();
            }
        }
    }

    /// All visitors in the order of their names, and where they stand.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "asked by the interface that shows and changes visitors"
        )
    )]
    pub(crate) fn states(&self) -> Vec<(String, Status)> {
        let state = self.lock();
        let states = state.visitors.iter();
        states
            .map(|(name, entry)| (name.clone(), entry.status.clone()))
            .collect()
    }

    /// Starts visitors, at once when they are new and then again and again until they have started. Never ends.
    pub(crate) async fn run(&self, context: &Arc<Context>) {
        let mut retry = false;
        loop {
            self.ended().await;
            for visitor in self.waiting(retry) {
                if retry {
                    tracing::info!(run_id = %context.run_id, "try to start visitor [{}]", visitor.name);
                }
                self.start(context, visitor).await;
            }
            retry = tokio::select! {
                () = self.changed.notified() => false,
                () = sleep(RETRY) => true,
            };
        }
    }

    /// Ends all visitors; when this returns their ports are free.
    pub(crate) async fn close(&self) {
        let visitors = std::mem::take(&mut self.lock().visitors);
        let running = visitors.into_values().filter_map(|e| e.running);
        let tasks: Vec<_> = running.map(|r| r.task).collect();
        self.lock().ending.extend(tasks);
        self.ended().await;
    }

    /// Waits for those that were told to end.
    async fn ended(&self) {
        let ending = std::mem::take(&mut self.lock().ending);
        for task in ending {
            // An error is a panic of the task, which has released its port by unwinding.
            let _ = task.await;
        }
    }

    /// Those to start: new ones, or with `retry` also those that could not be started.
    fn waiting(&self, retry: bool) -> Vec<Arc<Visitor>> {
        let state = self.lock();
        let waiting = state.visitors.values().filter(|entry| match entry.status {
            Status::New => true,
            Status::Running => false,
            Status::StartError(_) => retry,
        });
        waiting.map(|entry| entry.visitor.clone()).collect()
    }

    async fn start(&self, context: &Arc<Context>, visitor: Arc<Visitor>) {
        let entrance = visitor.listen().await;
        let (run_id, name) = (&context.run_id, visitor.name.clone());
        let mut state = self.lock();
        let Some(entry) = state
            .visitors
            .get_mut(&name)
            .filter(|entry| Arc::ptr_eq(&entry.visitor, &visitor))
        else {
            // The set has changed meanwhile.
            return;
        };
        match entrance {
            Ok(entrance) => {
                tracing::info!(run_id = %run_id, proxy = %name, "start visitor success");
                let cancel: CancellationToken = context.ended.child_token();
                let serve = super::serve(context.clone(), visitor, entrance, cancel.clone());
                entry.status = Status::Running;
                entry.running = Some(Running {
                    task: context.shared.tasks.spawn(serve),
                    _cancel: cancel.drop_guard(),
                });
            }
            Err(e) => {
                tracing::warn!(run_id = %run_id, proxy = %name, "start error: {e}");
                entry.status = Status::StartError(e);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert, remove or assignment: a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
