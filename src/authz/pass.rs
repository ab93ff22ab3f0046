//! The short way, that of nearly all Checks: a pass that holds as it is. Nothing is waited for, no lock is shared
//! between cores, and nothing is looked up by name.
//!
//! Whatever is unclear takes the long way, which comes to the same where both could be taken.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use thread_local::ThreadLocal;

use super::Gate;
use super::limits::{MAX_KNOWN, Pairs, is_same, names_room, owned};
use super::request::Question;
use super::response::PASS_HEADER;
use super::response::allowed::{Allowed, Inside};
use crate::cookie::{TokenCookie, cookie_values};
use crate::room::gates::{Gates, Stated};
use crate::room::policy::Policy;
use crate::rooms::Room;
use crate::telemetry::metrics::label::VerdictLabel;

/// Where each thread knows the short way: by the hash of the limits that a route states.
#[derive(Default)]
pub(super) struct ShortWay(ThreadLocal<RefCell<HashMap<u64, Route>>>);

/// A route of Envoy's.
struct Route {
    stated: Pairs,
    policy: Arc<Policy>,
    gates: Arc<Gates>,
    room: Arc<Room>,
    /// The name of the cookie that carries a pass.
    cookie: String,
}

impl Gate {
    /// Answers whoever shows a pass that holds as it is; `None`: nothing was done.
    pub(super) fn let_through(&self, question: &Question<'_>, answer: &mut Vec<u8>) -> Option<()> {
        let begun = Instant::now();
        let stated = question.context_extensions();
        // What is stated elsewhere counts as well.
        let is_whole = names_room(stated) && !question.has_route_metadata();
        if !is_whole || !question.is_http() || question.is_preflight() {
            return None;
        }
        let hash = self.limits.hash_of(stated);
        let mut routes = self.short_way.0.get_or_default().borrow_mut();
        let is_known = routes.get(&hash).is_some_and(|route| is_same(&route.stated, stated));
        if !is_known {
            let new = self.route(question).filter(|_| routes.len() < MAX_KNOWN)?;
            routes.insert(hash, new);
        }
        let Route { policy, gates, room, cookie, .. } = routes.get(&hash)?;
        if self.is_suspect(question, gates) || self.must_be_identified(question, gates.anonymous) {
            return None;
        }
        let shown = question.header(PASS_HEADER);
        let pass = shown.or_else(|| cookie_values(question.cookies(), cookie).next())?;
        let held = self.rooms.held_as_is(room, policy, pass, || self.bearer(question))?;
        let inside = Inside { room: &policy.room, place: held.place, pass, expires_at: held.ends_at };
        Allowed::inside(inside, question).encode(answer);
        room.checked(VerdictLabel::Admit);
        self.note(question, begun, Some(&policy.room), VerdictLabel::Admit, None);
        Some(())
    }

    /// The route that a question comes from, once its room is open.
    fn route(&self, question: &Question<'_>) -> Option<Route> {
        let Stated { room, gates } = self.limits.of(question).ok()?;
        let (policy, _) = room?;
        let room = self.rooms.known(&policy.room)?;
        let cookie = TokenCookie::Pass.name(&policy.room);
        Some(Route { stated: owned(question.context_extensions()), policy, gates, room, cookie })
    }
}
