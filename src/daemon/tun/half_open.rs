//! Flows that wait for their channel, counted in all and by user, so that a flood of SYNs
//! takes neither memory nor other users' turns.
//!
//! Bounds: [`HALF_OPEN_MAX`] in all, [`HALF_OPEN_USER_MAX`] of one user; flows without a
//! user count as one user's. The table has an entry only where somebody waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::acting::Uid;
use super::limits::{HALF_OPEN_MAX, HALF_OPEN_USER_MAX};

/// Who waits.
#[derive(Default)]
struct Waiting {
    all: usize,
    by_user: HashMap<Uid, usize>,
}

/// The count; clones share it.
#[derive(Clone, Default)]
pub struct HalfOpen(Arc<Mutex<Waiting>>);

/// Counts one flow while it lives.
pub struct Place {
    counts: HalfOpen,
    user: Uid,
}

impl HalfOpen {
    /// A place for one more flow of a user; `None` at a bound.
    #[must_use]
    pub fn enter(&self, user: Uid) -> Option<Place> {
        self.with(|waiting| {
            let mine = waiting.by_user.get(&user).copied().unwrap_or(0);
            if waiting.all >= HALF_OPEN_MAX || mine >= HALF_OPEN_USER_MAX {
                return None;
            }
            waiting.all += 1;
            waiting.by_user.insert(user, mine + 1);
            Some(Place { counts: self.clone(), user })
        })
    }

    /// The counts, for a moment. A poisoned lock only means that another thread panicked between two plain stores.
    fn with<R>(&self, act: impl FnOnce(&mut Waiting) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let user = self.user;
        self.counts.with(|waiting| {
            waiting.all = waiting.all.saturating_sub(1);
            if let Some(mine) = waiting.by_user.get_mut(&user) {
                *mine = mine.saturating_sub(1);
                if *mine == 0 {
                    waiting.by_user.remove(&user);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_everything_is_given_back() {
        let counts = HalfOpen::default();
        let mut places: Vec<Place> = (0..HALF_OPEN_USER_MAX).map(|_| counts.enter(Some(7)).unwrap()).collect();
        assert!(counts.enter(Some(7)).is_none(), "a user has its own bound");
        places.extend((HALF_OPEN_USER_MAX..HALF_OPEN_MAX).map(|_| counts.enter(None).unwrap()));
        assert!(counts.enter(Some(8)).is_none(), "there is one for all");
        places.pop();
        assert!(counts.enter(Some(8)).is_some());
        drop(places);
        assert!(counts.with(|waiting| waiting.all == 0 && waiting.by_user.is_empty()));
    }
}
