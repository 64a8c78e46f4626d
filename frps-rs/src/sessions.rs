//! Who is logged in, by run id, and how a re-login replaces its predecessor (server.md §2.3).
//!
//! Nothing acts on a session by run id alone: an entry leaves the map only through the ticket of the very login that put
//! it there, so a replaced session cannot touch its successor. A successor waits for its predecessor's local
//! teardown, which never waits for the peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clients::Clients;
use crate::session::Handle;

/// All current sessions. Entries exist only after authentication.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    current: Mutex<Current>,
    clients: Clients,
}

#[derive(Default)]
struct Current {
    generations: u64,
    by_run_id: HashMap<Arc<str>, Entry>,
}

struct Entry {
    generation: u64,
    handle: Arc<Handle>,
}

/// The place of one login in the map; dropping it leaves the place, unless a successor has taken it.
pub(crate) struct Ticket {
    sessions: Sessions,
    run_id: Arc<str>,
    generation: u64,
}

impl Sessions {
    /// Makes `handle` the current session of its run id. The predecessor, if any, has been told to end; wait for its
    /// `done` before claiming anything it may hold.
    pub(crate) fn install(&self, handle: &Arc<Handle>) -> (Ticket, Option<Arc<Handle>>) {
        let mut current = self.lock();
        current.generations += 1;
        let generation = current.generations;
        let run_id = handle.run_id.clone();
        let entry = Entry {
            generation,
            handle: handle.clone(),
        };
        let predecessor = current.by_run_id.insert(run_id.clone(), entry);
        drop(current);
        let predecessor = predecessor.map(|e| e.handle);
        if let Some(old) = &predecessor {
            tracing::info!(run_id = %run_id, "replaced by client [{run_id}] (control ID {generation})");
            old.cancel.cancel();
        }
        (
            Ticket {
                sessions: self.clone(),
                run_id,
                generation,
            },
            predecessor,
        )
    }

    /// The running session of a run id; one that is still logging in does not count.
    pub(crate) fn find(&self, run_id: &str) -> Option<Arc<Handle>> {
        self.lock()
            .by_run_id
            .get(run_id)
            .map(|e| &e.handle)
            .filter(|h| h.is_running())
            .cloned()
    }

    /// The running sessions, in no order.
    pub(crate) fn running(&self) -> Vec<Arc<Handle>> {
        let current = self.lock();
        let handles = current.by_run_id.values().map(|e| &e.handle);
        handles.filter(|h| h.is_running()).cloned().collect()
    }

    /// Who they are. A login that takes the place of another keeps its client online: only with the last does it go offline.
    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Every change is one insert or remove: a panic elsewhere leaves the map whole.
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut current = self.sessions.lock();
        if current
            .by_run_id
            .get(&self.run_id)
            .is_some_and(|e| e.generation == self.generation)
        {
            current.by_run_id.remove(&self.run_id);
            // Under the lock, so that it cannot come after a new login of the same run id.
            self.sessions.clients().offline(&self.run_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_session_cannot_remove_its_successor() {
        let sessions = Sessions::default();
        let (old, new) = (Handle::for_test("r"), Handle::for_test("r"));
        let (old_ticket, none) = sessions.install(&old);
        assert!(none.is_none());
        let (_ticket, predecessor) = sessions.install(&new);
        assert!(Arc::ptr_eq(&predecessor.unwrap(), &old) && old.cancel.is_cancelled());
        new.set_running();
        drop(old_ticket);
        assert!(Arc::ptr_eq(&sessions.find("r").unwrap(), &new));
    }

    #[test]
    fn a_session_that_is_logging_in_is_not_found() {
        let sessions = Sessions::default();
        let handle = Handle::for_test("r");
        let (ticket, _) = sessions.install(&handle);
        assert!(sessions.find("r").is_none());
        handle.set_running();
        assert!(sessions.find("r").is_some());
        drop(ticket);
        assert!(sessions.find("r").is_none());
    }
}
