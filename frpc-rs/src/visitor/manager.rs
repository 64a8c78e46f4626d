//! The visitors of one session (client.md §13.1): which exist, which have started, and attempts to start the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Visitor;
use super::users::{Handover, User};
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
    handover: Option<Handover>,
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

    /// Hands a user to another visitor that serves byte streams; closed if too many wait there. The error is the text of the log.
    pub(crate) fn hand_over(&self, name: &str, user: User) -> Result<(), String> {
        let state = self.lock();
        let running = state.visitors.get(name).and_then(|e| e.running.as_ref());
        let Some(handover) = running.and_then(|r| r.handover.as_ref()) else {
            let why = format!("visitor [{name}] not found");
            user.refuse(&why);
            return Err(why);
        };
        handover.try_send(user).map_err(|failed| {
            let why = "connection queue is full";
            failed.into_inner().refuse(why);
            why.into()
        })
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
                () = sleep(RETRY), if self.is_incomplete() => true,
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

    /// Whether there is anything to try again.
    fn is_incomplete(&self) -> bool {
        let state = self.lock();
        let mut visitors = state.visitors.values();
        visitors.any(|entry| matches!(entry.status, Status::StartError(_)))
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
                let (handover, serve) =
                    super::serve(context.clone(), visitor, entrance, cancel.clone());
                entry.status = Status::Running;
                entry.running = Some(Running {
                    task: context.shared.tasks.spawn(serve),
                    handover,
                    _cancel: cancel.drop_guard(),
                });
            }
            Err(e) => {
                tracing::warn!(run_id = %run_id, proxy = %name, "{e}");
                entry.status = Status::StartError(e);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one insert, remove or assignment: a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::connector::Link;
    use crate::{Client, Resources};
    use frp_proto::config::raw::client::{ClientConfig, VisitorBase, VisitorConfig, VisitorKind};
    use std::net::{Ipv4Addr, TcpListener};
    use tokio::time::Instant;

    /// What visitors are started in.
    pub(in super::super) fn context() -> Arc<Context> {
        let (config, resources) = (ClientConfig::default(), Resources::default());
        let stop = CancellationToken::new();
        let client = Client::new(config, "secret".into(), resources, &stop).unwrap();
        let shared = client.service.shared().clone();
        let link = Link::Dialled(shared.ways.any());
        Arc::new(Context::new(shared, "run".into(), link, stop))
    }

    fn visitor(name: &str, bind_port: i64) -> Arc<Visitor> {
        let c = VisitorConfig {
            base: VisitorBase {
                name: name.into(),
                bind_addr: "127.0.0.1".into(),
                bind_port,
                ..VisitorBase::default()
            },
            kind: VisitorKind::Stcp,
        };
        Arc::new(Visitor::new("", &c))
    }

    /// A port that is free, and one that is taken.
    fn taken() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn settle() {
        sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_start_is_tried_again() {
        let (listener, port) = taken();
        let (context, start) = (context(), Instant::now());
        let visitors = [visitor("ok", -1), visitor("taken", port.into())];
        context.visitors.update("run", &visitors);
        let running = context.clone();
        let run = tokio::spawn(async move { running.visitors.run(&running).await });
        settle().await;
        let status = context.visitors.states();
        assert_eq!(status[0], ("ok".into(), Status::Running));
        assert!(matches!(&status[1].1, Status::StartError(e) if e.contains("in use")));
        drop(listener);
        while context.visitors.states()[1].1 != Status::Running {
            settle().await;
        }
        assert_eq!(start.elapsed().as_secs(), 10);
        context.visitors.close().await;
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        run.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_set_touches_only_what_changes() {
        let context = context();
        let ports: Vec<_> = [taken(), taken()].map(|(_, port)| port).into();
        let kept = visitor("kept", ports[0].into());
        let set = [kept.clone(), visitor("changed", ports[1].into())];
        context.visitors.update("run", &set);
        let running = context.clone();
        let run = tokio::spawn(async move { running.visitors.run(&running).await });
        settle().await;
        let user = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0]));
        let _user = user.await.unwrap();
        // The same port under another name: the old one must have let go.
        let set = [
            visitor("kept", ports[0].into()),
            visitor("new", ports[1].into()),
        ];
        context.visitors.update("run", &set);
        settle().await;
        let expected = ["kept", "new"].map(|name| (name.to_owned(), Status::Running));
        assert_eq!(context.visitors.states(), expected);
        let state = context.visitors.lock();
        assert!(Arc::ptr_eq(&state.visitors["kept"].visitor, &kept));
        drop(state);
        run.abort();
    }
}
