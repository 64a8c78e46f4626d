//! How administrators end connections that users of a proxy have: all of them, or the oldest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Context;

/// The connections of a proxy that last, as far as somebody may want to end them. There is nothing before the first one:
/// most proxies rest.
#[derive(Default)]
pub(super) struct Lifelines(Mutex<Option<Box<Open>>>);

#[derive(Default)]
struct Open {
    /// Ends all of them; absent while there was none since the last end.
    all: Option<CancellationToken>,
    /// Those of a group's member, the oldest first.
    each: BTreeMap<u64, CancellationToken>,
    next: u64,
}

impl Open {
    /// Ends those that begin now; so does `stop`.
    fn all(&mut self, stop: &CancellationToken) -> &CancellationToken {
        self.all.get_or_insert_with(|| stop.child_token())
    }
}

impl Lifelines {
    /// Ends all that there are, not those that begin from now on.
    pub(super) fn end_all(&self) {
        let all = self.lock().as_mut().and_then(|open| open.all.take());
        if let Some(all) = all {
            all.cancel();
        }
    }

    /// Cancelled when connections that begin now are to end, which is at `stop` at the latest.
    pub(super) fn all(&self, stop: &CancellationToken) -> CancellationToken {
        let mut open = self.lock();
        open.get_or_insert_default().all(stop).clone()
    }

    /// Ends the oldest connection.
    pub(super) fn end_oldest(&self) {
        let oldest = self.lock().as_mut().and_then(|open| open.each.pop_first());
        if let Some((_, line)) = oldest {
            line.cancel();
        }
    }

    /// How many connections can be ended one by one.
    pub(super) fn len(&self) -> u32 {
        let len = self.lock().as_ref().map_or(0, |open| open.each.len());
        len.try_into().unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Open>>> {
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
        let stop = &context.shared.stop;
        if !context.offer.is_grouped() {
            // Nobody could take it over.
            let (place, token) = (None, context.lifelines.all(stop));
            return Self { place, token };
        }
        let mut lines = context.lifelines.lock();
        let open = lines.get_or_insert_default();
        let at = open.next;
        open.next += 1;
        let token = open.all(stop).child_token();
        open.each.insert(at, token.clone());
        drop(lines);
        let place = Some((context.clone(), at));
        Self { place, token }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some((context, at)) = &self.place
            && let Some(open) = &mut *context.lifelines.lock()
        {
            open.each.remove(at);
        }
    }
}
