//! The route table of a vhost port (server.md §7.2): (domain, user, location) → endpoint.
//!
//! A lookup costs a hash of the domain and a search in the ordered locations of that domain, however many routes there are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Routes of one port. Cheap to clone: all clones are the same table.
pub(crate) struct Router<E>(Arc<RwLock<Table<E>>>);

/// By domain, in the order of users and locations. Nearly all domains have one route.
type Table<E> = HashMap<Arc<str>, Vec<Spot<E>>>;

struct Spot<E> {
    user: Box<str>,
    location: Box<[u8]>,
    endpoint: Arc<E>,
}

impl<E> Spot<E> {
    fn key(&self) -> (&str, &[u8]) {
        (&self.user, &self.location)
    }
}

/// A route; dropping it removes it.
pub(crate) struct Claim<E> {
    router: Router<E>,
    domain: Arc<str>,
    user: Box<str>,
    location: Box<[u8]>,
}

/// Somebody has the route already. `Display` is the text for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("router config conflict")]
pub(crate) struct Conflict;

impl<E> Router<E> {
    /// Adds a route. `domain` may begin with `*.`, or be `*`; it is compared without regard to case. An empty `user` stands
    /// for all users, an empty `location` for all paths.
    pub(crate) fn claim(
        &self,
        domain: &str,
        user: &str,
        location: &str,
        endpoint: Arc<E>,
    ) -> Result<Claim<E>, Conflict> {
        let domain: Arc<str> = domain.to_lowercase().into();
        let mut table = self.write();
        let spots = table.entry(domain.clone()).or_default();
        let key = (user, location.as_bytes());
        let Err(at) = spots.binary_search_by(|spot| spot.key().cmp(&key)) else {
            return Err(Conflict);
        };
        if spots.is_empty() {
            spots.reserve_exact(1);
        }
        let spot = Spot {
            user: user.into(),
            location: location.as_bytes().into(),
            endpoint,
        };
        spots.insert(at, spot);
        Ok(Claim {
            router: self.clone(),
            domain,
            user: user.into(),
            location: location.as_bytes().into(),
        })
    }

    /// The endpoint for a request: the exact domain, then wildcards from the most to the least specific. `host` is in lower
    /// case; `path` is decoded.
    pub(crate) fn find(&self, host: &str, path: &[u8], user: &str) -> Option<Arc<E>> {
        let table = self.read();
        let lookup = |domain: &str| {
            let spots = table.get(domain)?;
            let of = |user: &str| longest(spots, user, path);
            let own = if user.is_empty() { None } else { of(user) };
            own.or_else(|| of("")).cloned()
        };
        if let Some(found) = lookup(host) {
            return Some(found);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.')
            && parent.contains('.')
        {
            if let Some(found) = lookup(&format!("*.{parent}")) {
                return Some(found);
            }
            rest = parent;
        }
        lookup("*")
    }

    fn read(&self) -> RwLockReadGuard<'_, Table<E>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table<E>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest location of `user` that `path` begins with.
fn longest<'a, E>(spots: &'a [Spot<E>], user: &str, path: &[u8]) -> Option<&'a Arc<E>> {
    let mut bound = path;
    loop {
        let below = spots.partition_point(|spot| spot.key() <= (user, bound));
        let spot = spots[..below].last().filter(|spot| *spot.user == *user)?;
        let location = &spot.location;
        let pairs = location.iter().zip(bound);
        let common = pairs.take_while(|(a, b)| a == b).count();
        if common == location.len() {
            return Some(&spot.endpoint);
        }
        // Everything between a prefix of `bound` and `bound` begins with that prefix, so it is within what is common.
        bound = &bound[..common];
    }
}

impl<E> Drop for Claim<E> {
    fn drop(&mut self) {
        let mut table = self.router.write();
        let Some(spots) = table.get_mut(&self.domain) else {
            return;
        };
        let key = (&*self.user, &*self.location);
        if let Ok(at) = spots.binary_search_by(|spot| spot.key().cmp(&key)) {
            spots.remove(at);
        }
        if spots.is_empty() {
            table.remove(&self.domain);
        }
    }
}

impl<E> Default for Router<E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<E> Clone for Router<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str, &str)]) -> (Router<usize>, Vec<Claim<usize>>) {
        let router = Router::default();
        let claims = routes
            .iter()
            .enumerate()
            .map(|(i, (domain, user, location))| {
                router.claim(domain, user, location, Arc::new(i)).unwrap()
            })
            .collect();
        (router, claims)
    }

    fn find(router: &Router<usize>, host: &str, path: &str, user: &str) -> Option<usize> {
        router.find(host, path.as_bytes(), user).map(|e| *e)
    }

    #[test]
    fn the_longest_location_wins_and_knows_no_segments() {
        let (router, _claims) = table(&[
            ("a.test", "", "/"),
            ("a.test", "", "/foo"),
            ("a.test", "", "/foo/bar"),
            ("a.test", "", "/foz"),
            ("b.test", "", "/only"),
        ]);
        for (path, expected) in [
            ("/", Some(0)),
            ("/fo", Some(0)),
            ("/foo", Some(1)),
            ("/foobar", Some(1)),
            ("/foo/ba", Some(1)),
            ("/foo/bar", Some(2)),
            ("/foo/barz", Some(2)),
            ("/fop", Some(0)),
            ("/fox", Some(0)),
            ("/foz/x", Some(3)),
            ("/FOO", Some(0)),
            ("", None),
        ] {
            assert_eq!(find(&router, "a.test", path, ""), expected, "{path}");
        }
        assert_eq!(find(&router, "b.test", "/else", ""), None);
    }

    #[test]
    fn wildcards_go_from_specific_to_general() {
        let (router, _claims) = table(&[
            ("x.y.wild.test", "", "/exact"),
            ("*.y.wild.test", "", "/y"),
            ("*.wild.test", "", ""),
            ("*.test", "", ""),
        ]);
        assert_eq!(find(&router, "x.y.wild.test", "/exact", ""), Some(0));
        assert_eq!(find(&router, "x.y.wild.test", "/y", ""), Some(1));
        assert_eq!(find(&router, "x.y.wild.test", "/", ""), Some(2));
        assert_eq!(find(&router, "wild.test", "/", ""), None);
        assert_eq!(find(&router, "", "/", ""), None);
        let _all = router.claim("*", "", "", Arc::new(9)).unwrap();
        assert_eq!(find(&router, "wild.test", "/", ""), Some(9));
        assert_eq!(find(&router, "", "/", ""), Some(9));
    }

    #[test]
    fn a_users_own_routes_come_before_those_for_all() {
        let (router, _claims) = table(&[("a.test", "", ""), ("A.test", "ann", "/x")]);
        assert_eq!(find(&router, "a.test", "/x", "ann"), Some(1));
        assert_eq!(find(&router, "a.test", "/y", "ann"), Some(0));
        assert_eq!(find(&router, "a.test", "/x", "bob"), Some(0));
        assert_eq!(find(&router, "a.test", "/x", ""), Some(0));
    }

    #[test]
    fn a_route_is_held_until_its_claim_is_dropped() {
        let router = Router::default();
        let claim = router.claim("a.test", "", "/", Arc::new(0)).unwrap();
        assert!(router.claim("A.TEST", "", "/", Arc::new(1)).is_err());
        assert_eq!(find(&router, "a.test", "/", ""), Some(0));
        assert!(router.claim("a.test", "u", "/", Arc::new(1)).is_ok());
        drop(claim);
        assert_eq!(find(&router, "a.test", "/", ""), None);
        assert!(router.read().is_empty());
        assert!(router.claim("a.test", "", "/", Arc::new(1)).is_ok());
    }
}
