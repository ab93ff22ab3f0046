//! Passes, the way of nearly all requests: looked at without a lock that cores share, and without the store.

use std::cell::RefCell;
use std::sync::Arc;

use thread_local::ThreadLocal;

use super::{Room, Rooms};
use crate::room::binding::{Bearer, Bind};
use crate::room::decision::{Facts, PassShown, Step, decide};
use crate::room::policy::{Millis, Mode, Policy};
use crate::room::standing::Place;
use crate::room::token::{Claims, TokenError};
use crate::room::verified::Verified;

/// How many verified passes each thread remembers, at some 450 bytes each: 7 MiB for a thread that has met as many. A
/// pass beyond them costs what every pass would cost otherwise, some 3 µs.
const PER_THREAD: usize = 16_384;

/// What each thread remembers.
#[derive(Default)]
pub(super) struct Passes(ThreadLocal<RefCell<Verified>>);

impl Passes {
    fn of_this_thread(&self) -> &RefCell<Verified> {
        self.0.get_or(|| RefCell::new(Verified::new(PER_THREAD)))
    }
}

/// The session behind a pass that holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Whose place it was.
    pub place: Place,
    /// When the pass ends, milliseconds since the epoch.
    pub ends_at: Millis,
}

impl Rooms {
    /// The session behind a pass that was verified before and holds as it is, in a room whose limits are known to be
    /// these; `bearer` tells who shows it. `None` says nothing: [`Rooms::check`] finds out.
    pub fn held_as_is<'b>(
        &self,
        room: &Room,
        policy: &Arc<Policy>,
        pass: &str,
        bearer: impl FnOnce() -> Bearer<'b>,
    ) -> Option<Held> {
        let stated = room.stated.load();
        let stated = &stated.as_ref()?.policy;
        if policy.mode != Mode::Enforce || !(Arc::ptr_eq(stated, policy) || stated == policy) {
            return None;
        }
        room.restate();
        let snapshot = room.snapshot.load();
        let snapshot = snapshot.as_deref()?;
        let now = self.now();
        let mut verified = self.passes.of_this_thread().borrow_mut();
        let claims = verified.find(&self.keys, &room.name, pass, now)?;
        if snapshot.is_void(claims.place()) {
            return None;
        }
        // Who shows it is only worth finding out where that matters.
        if let Some(bound) = &claims.bound
            && policy.bind != Bind::None
            && !policy.bind.accepts(Some(bound), &bearer())
        {
            return None;
        }
        let may_be_lost = room.may_have_lost(Some(snapshot), claims);
        let facts = Facts {
            policy,
            // Whoever is inside needs no name.
            has_subject: false,
            pass: Some(PassShown { claims, may_be_lost }),
            ticket: None,
            known: None,
            now,
        };
        if decide(&facts) != Step::Admit {
            return None;
        }
        self.metrics.pass_verified(true);
        Some(Held { place: claims.place(), ends_at: claims.ends_at() })
    }

    /// Checks a pass, its signature only where this thread does not remember it.
    pub(super) fn verify_pass(&self, room: &Room, pass: &str, now: Millis) -> Result<Claims, TokenError> {
        let mut verified = self.passes.of_this_thread().borrow_mut();
        let (claims, was_known) = verified.verify(&self.keys, &room.name, pass, now);
        self.metrics.pass_verified(was_known);
        claims
    }
}
