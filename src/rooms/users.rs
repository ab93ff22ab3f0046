//! Users known by name: those who keep no token and are told apart by who they say they are (the polling API).
//!
//! A room remembers the place of each, so that a poll asks the store only where the snapshot cannot tell; and because
//! they ask once a minute, their place is kept for them in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::room::policy::{Millis, Policy};
use crate::room::snapshot::Snapshot;
use crate::room::standing::Place;
use crate::room::state::Subject;

/// How long after the last poll a place is kept, whatever the room's `patience` and `claim_ttl`, in milliseconds: two
/// polls a minute apart may be late or lost.
pub(super) const KEPT_MS: Millis = 150_000;
/// The most users remembered in a process, at some 250 bytes each. Others are found in the store at each poll, and
/// nothing is done for them in between.
pub(super) const MAX_USERS: usize = 262_144;
/// The most places that one tick enters, prolongs or gives up.
const BATCH: usize = 1_000;
/// How often those are forgotten who are not coming any more, in milliseconds.
const SWEEP_MS: Millis = 10_000;

/// How many users a process remembers.
#[derive(Debug, Default)]
pub(super) struct Quota(AtomicUsize);

impl Quota {
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        let more = |taken: usize| (taken < MAX_USERS).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A user with a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) place: Place,
    /// The position told first; 0: let in at once.
    pub(super) first: u64,
    pub(super) arrived_at: Millis,
    pub(super) polled_at: Millis,
    /// There since a call was taken up.
    pub(super) stay: Option<Stay>,
}

/// A user's time inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay {
    pub(super) until: Millis,
    /// Whether they know: a call may have been taken up for them between two polls.
    pub(super) told: bool,
}

impl User {
    /// Whether somebody is likely to poll again.
    fn is_expected(&self, now: Millis) -> bool {
        match self.stay {
            Some(stay) if stay.told => stay.until > now,
            _ => self.polled_at + KEPT_MS > now,
        }
    }
}

/// What is to be done in the store for users who have not been told yet that they are inside.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// Their time is running out before they poll: to be prolonged.
    pub(super) to_prolong: Vec<(Subject, Place, Millis)>,
    /// They have not polled for [`KEPT_MS`]: their slot is to be given to somebody else.
    pub(super) to_give_up: Vec<(Subject, Place, Millis)>,
}

/// The users of a room.
pub(super) struct Users {
    known: Mutex<Known>,
    quota: Arc<Quota>,
}

#[derive(Default)]
struct Known {
    users: HashMap<Subject, User>,
    in_line: BTreeMap<Place, Subject>,
    untold: HashSet<Subject>,
    heard_at: Millis,
    swept_at: Millis,
}

impl Users {
    pub(super) fn new(quota: Arc<Quota>) -> Self {
        Self { known: Mutex::default(), quota }
    }

    /// A user polls; what is known of them.
    pub(super) fn polled(&self, subject: Subject, now: Millis) -> Option<User> {
        let mut known = self.known.lock();
        let user = known.users.get_mut(&subject)?;
        user.polled_at = now;
        Some(*user)
    }

    /// Remembers where a user is, while there is room to. `false`: there is none.
    pub(super) fn put(&self, subject: Subject, user: User) -> bool {
        let mut known = self.known.lock();
        let before = known.users.get(&subject).copied();
        if before.is_none() && !self.quota.take() {
            return false;
        }
        if let Some(before) = before {
            known.unlist(subject, &before);
        }
        match user.stay {
            None => {
                known.in_line.insert(user.place, subject);
            }
            Some(stay) if !stay.told => {
                known.untold.insert(subject);
            }
            Some(_) => {}
        }
        known.users.insert(subject, user);
        true
    }

    /// Forgets a user, if it is still this place that they hold.
    pub(super) fn forget(&self, subject: Subject, place: Place) {
        let mut known = self.known.lock();
        if let Some(user) = known.users.get(&subject).copied().filter(|user| user.place == place) {
            known.users.remove(&subject);
            known.unlist(subject, &user);
            self.quota.give_back(1);
        }
    }

    /// Notes until when a user is inside who was entered between two polls, unless a poll has told them meanwhile.
    pub(super) fn stays(&self, subject: Subject, place: Place, until: Millis) {
        let user = self.known.lock().users.get(&subject).copied();
        if let Some(user) = user.filter(|user| user.place == place && user.stay.is_none_or(|stay| !stay.told))
        {
            // There already, so there is room for it.
            self.put(subject, User { stay: Some(Stay { until, told: false }), ..user });
        }
    }

    /// The store's clock was set back, so sessions may end earlier than was told: none counts as longer than this.
    pub(super) fn end_by(&self, until: Millis) {
        let mut known = self.known.lock();
        let stays = known.users.values_mut().filter_map(|user| user.stay.as_mut());
        stays.for_each(|stay| stay.until = stay.until.min(until));
    }

    /// The places that are to be heard of at this tick because their users polled lately: in rooms where one would
    /// otherwise fall silent between two polls.
    pub(super) fn to_hear(&self, policy: &Policy, now: Millis) -> Vec<Place> {
        let mut known = self.known.lock();
        // Twice in each liveness period, which is half a `patience`.
        if policy.patience >= KEPT_MS || now < known.heard_at + policy.patience / 4 {
            return Vec::new();
        }
        known.heard_at = now;
        let expected = |subject| known.users.get(subject).is_some_and(|user: &User| user.is_expected(now));
        known.in_line.iter().filter(|(_, subject)| expected(subject)).map(|(place, _)| *place).collect()
    }

    /// Those who were called and would not come in time, as they poll too rarely.
    pub(super) fn called(&self, snapshot: &Snapshot, now: Millis) -> Vec<(Subject, User)> {
        if snapshot.policy.claim_ttl >= KEPT_MS {
            return Vec::new();
        }
        let known = self.known.lock();
        let mut called = Vec::new();
        for line in &snapshot.lines {
            let place = |number| Place { generation: line.generation, number };
            let before_head = known.in_line.range(place(0)..place(line.head)).map(|(_, subject)| *subject);
            let users = before_head.filter_map(|subject| Some((subject, *known.users.get(&subject)?)));
            let users = users.filter(|(_, user)| user.is_expected(now));
            called.extend(users.take(BATCH - called.len()));
        }
        called
    }

    /// What is due for those who are inside and do not know it yet.
    pub(super) fn untold(&self, policy: &Policy, now: Millis) -> Untold {
        let known = self.known.lock();
        let mut due = Untold::default();
        for subject in &known.untold {
            let Some(user) = known.users.get(subject) else { continue };
            let until = user.stay.map_or(0, |stay| stay.until);
            let item = (*subject, user.place, until);
            if !user.is_expected(now) {
                due.to_give_up.push(item);
            } else if until < now + policy.session_ttl / 2 {
                due.to_prolong.push(item);
            }
        }
        due.to_give_up.truncate(BATCH);
        due.to_prolong.truncate(BATCH);
        due
    }

    /// Forgets those who are not coming any more, now and then.
    pub(super) fn sweep(&self, now: Millis) {
        let mut known = self.known.lock();
        if known.users.is_empty() || now < known.swept_at + SWEEP_MS {
            return;
        }
        known.swept_at = now;
        let gone: Vec<_> = known
            .users
            .iter()
            // One tick more for those whose slot is still to be given up.
            .filter(|(_, user)| !user.is_expected(now.saturating_sub(SWEEP_MS)))
            .map(|(subject, user)| (*subject, *user))
            .collect();
        for (subject, user) in &gone {
            known.users.remove(subject);
            known.unlist(*subject, user);
        }
        self.quota.give_back(gone.len());
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.quota.give_back(self.known.get_mut().users.len());
    }
}

impl Known {
    fn unlist(&mut self, subject: Subject, user: &User) {
        if self.in_line.get(&user.place) == Some(&subject) {
            self.in_line.remove(&user.place);
        }
        self.untold.remove(&subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: usize) -> Subject {
        Subject::of(&[&number.to_string()])
    }

    fn user(number: u64, polled_at: Millis) -> User {
        let place = Place { generation: 1, number };
        User { place, first: number, arrived_at: polled_at, polled_at, stay: None }
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for_and_those_who_do_not_come_are_forgotten() {
        let quota = Arc::new(Quota::default());
        let (one, other) = (Users::new(quota.clone()), Users::new(quota.clone()));
        assert!(other.put(subject(0), user(1, 0)));
        let fitting =
            (1..=MAX_USERS + 9).filter(|number| one.put(subject(*number), user(*number as u64, 0))).count();
        assert_eq!((fitting, quota.taken()), (MAX_USERS - 1, MAX_USERS));
        assert!(one.put(subject(1), user(MAX_USERS as u64 * 2, KEPT_MS)), "who is there already may move");
        one.sweep(KEPT_MS + SWEEP_MS);
        assert_eq!((quota.taken(), one.known.lock().in_line.len()), (2, 1));
        drop(other);
        assert_eq!(quota.taken(), 1);
    }

    #[test]
    fn where_patience_is_short_they_are_heard_of_until_they_have_not_polled_for_long() {
        let policy =
            |patience| Policy::parse([("room", "shop"), ("capacity", "0"), ("patience", patience)]).unwrap();
        let users = Users::new(Arc::default());
        users.put(subject(1), user(7, 1_000));
        assert_eq!(users.to_hear(&policy("12s"), 10_000).len(), 1);
        assert!(users.to_hear(&policy("12s"), 12_999).is_empty(), "not at every tick");
        assert_eq!(users.to_hear(&policy("12s"), 13_000).len(), 1);
        assert!(users.to_hear(&policy("150s"), 90_000).is_empty(), "patient enough");
        assert_eq!(users.to_hear(&policy("12s"), KEPT_MS + 999).len(), 1);
        assert!(users.to_hear(&policy("12s"), KEPT_MS + 5_000).is_empty());
    }
}
