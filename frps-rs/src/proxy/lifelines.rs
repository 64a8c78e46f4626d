//! How administrators end connections that users of a proxy have: all of them, or the oldest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Context;

/// The connections of a proxy that last, as far as somebody may want to end them.
pub(super) struct Lifelines(Mutex<Open>);

struct Open {
    /// Ends all of them.
    all: CancellationToken,
    /// Those of a group's member, the oldest first.
    each: BTreeMap<u64, CancellationToken>,
    next: u64,
}

impl Lifelines {
    /// `all` ends those that begin from now on.
    pub(super) fn new(all: CancellationToken) -> Self {
        Self(Mutex::new(Open {
            all,
            each: BTreeMap::new(),
            next: 0,
        }))
    }

    /// Ends all that there are; `next` ends those that begin from now on.
    pub(super) fn end_all(&self, next: CancellationToken) {
        let all = std::mem::replace(&mut self.lock().all, next);
        all.cancel();
    }

    /// Cancelled when connections that begin now are to end.
    pub(super) fn all(&self) -> CancellationToken {
        self.lock().all.clone()
    }

    /// Ends the oldest connection.
    pub(super) fn end_oldest(&self) {
        let oldest = self.lock().each.pop_first();
        if let Some((_, line)) = oldest {
            line.cancel();
        }
    }

    /// How many connections can be ended one by one.
    pub(super) fn len(&self) -> u32 {
        self.lock().each.len().try_into().unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Each change is one of the map, or a token that is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a connection: cancelled when it is to end. One to a member of a group counts as open until this is dropped.
pub(crate) struct Lifeline {
    /// Where it stands among those of a group's member.
    place: Option<(Arc<Context>, u64)>,
    token: CancellationToken,
}

impl Lifeline {
    /// For a connection that begins now.
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        if !context.offer.is_grouped() {
            // Nobody could take it over.
            let (place, token) = (None, context.lifelines.all());
            return Self { place, token };
        }
        let mut open = context.lifelines.lock();
        let at = open.next;
        open.next += 1;
        let token = open.all.child_token();
        open.each.insert(at, token.clone());
        drop(open);
        let place = Some((context.clone(), at));
        Self { place, token }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some((context, at)) = &self.place {
            context.lifelines.lock().each.remove(at);
        }
    }
}
