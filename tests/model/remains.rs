//! What the scripts leave in Redis: nothing for ever, little of it, and nothing that a missing key could break.

use std::sync::Arc;

use anteroom::room::name::RoomName;
use anteroom::room::policy::Policy;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Hints, Newcomer, Outcome, State};
use anteroom::store::{Store, StoreError};

use crate::plain::plain;
use crate::twins::Bench;
use crate::users::subject;

pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn call(limits: &str) -> Call {
    let pairs = limits.split_whitespace().filter_map(|word| word.split_once('='));
    let policy = Policy::parse(pairs.chain([("room", "shop")])).unwrap();
    Call { policy: Some(Arc::new(policy)), hints: Hints::default() }
}

pub(crate) fn shop() -> RoomName {
    RoomName::parse("shop").unwrap()
}

fn user(number: u32) -> Newcomer {
    Newcomer { subject: Some(subject(number)), anew: false }
}

impl Bench {
    pub(crate) fn arrive(&self, call: &Call, newcomers: &[Newcomer]) -> Vec<Outcome> {
        self.runtime.block_on(self.store.arrive(&shop(), call, newcomers)).unwrap()
    }

    pub(crate) fn tick(&self, call: &Call) {
        self.runtime.block_on(self.store.observe(&shop(), call, &Beats::new(), None)).unwrap();
    }

    /// Each key with the milliseconds it has left; -1: for ever.
    fn left(&self) -> Vec<(String, i64)> {
        let left = |key: &String| self.server.command(&["PTTL", key]).trim().parse().unwrap();
        self.server.keys().into_iter().map(|key| (key.clone(), left(&key))).collect()
    }
}

/// One rotation looked at 200 of them; so those of a busy room grew without end.
#[test]
fn users_whose_places_are_gone_are_forgotten_as_fast_as_others_come() {
    let bench = Bench::new();
    let call = call("capacity=100000 session_ttl=3s claim_ttl=2s patience=1h identity=subject");
    for step in 0..20 {
        bench.clock.set(START + u64::from(step) * 4_000);
        let users: Vec<_> = (step * 500..(step + 1) * 500).map(user).collect();
        bench.arrive(&call, &users);
    }
    let size = bench.server.command(&["HGET", "anteroom:{shop}:users", "size"]);
    let known: u32 = size.trim().split_once(' ').unwrap().1.parse().unwrap();
    assert!((500..4_000).contains(&known), "{known} of 10,000 users are known, 500 are inside");
}

#[test]
fn a_room_nobody_is_in_goes_with_all_it_has() {
    let bench = Bench::new();
    let call = call("capacity=3 session_ttl=3s claim_ttl=2s patience=5s identity=subject");
    bench.clock.set(START);
    bench.arrive(&call, &[user(1), user(2), user(3), user(4), user(5)]);
    assert!(bench.left().iter().all(|(_, left)| *left == -1), "{:?}", bench.left());
    bench.clock.set(START + 60_000);
    bench.tick(&call);
    bench.clock.set(START + 120_000);
    bench.tick(&call);
    assert!(bench.left().iter().all(|(_, left)| *left > 0), "{:?}", bench.left());
    bench.arrive(&call, &[user(1)]);
    assert!(bench.left().iter().all(|(_, left)| *left == -1), "{:?}", bench.left());
}

/// Redis may be told to evict keys when memory runs out.
#[test]
fn a_deleted_key_holds_no_slots_for_ever() {
    for lost in ["called", "calls"] {
        let bench = Bench::new();
        bench.clock.set(START);
        let limits = "session_ttl=20s claim_ttl=8s patience=1h";
        bench.arrive(&call(&format!("capacity=0 {limits}")), &[Newcomer::default(); 3]);
        let open = call(&format!("capacity=3 {limits}"));
        bench.tick(&open);
        assert_eq!(bench.server.command(&["DEL", &format!("anteroom:{{shop}}:0:{lost}")]).trim(), "1");
        // Noticed at the next call; whoever was called is given their time once more.
        for at in [8_000, 16_000] {
            bench.clock.set(START + at);
            bench.tick(&open);
        }
        let outcomes = bench.arrive(&open, &[Newcomer::default()]);
        assert!(matches!(outcomes[..], [Outcome::Admitted(..)]), "without {lost}: {outcomes:?}");
    }
}

/// They were taken for numbers from 1 on: memory for all of them, a second of work, and beyond 2^30 nobody came back.
#[test]
fn a_line_of_high_numbers_is_written_back_whole_and_small() {
    let bench = Bench::new();
    let call = call("capacity=2 session_ttl=20s claim_ttl=8s patience=1h");
    let policy = call.policy.clone().unwrap();
    for next in [200_000_000, 3_000_000_000] {
        bench.server.command(&["FLUSHALL"]);
        let mut before = State::new(policy.clone(), START);
        let high = Hints { generation: START + 1, next, head: next, floor: 0 };
        before.observe(&Call { hints: high, ..call.clone() }, &Beats::new(), None, START + 2);
        before.arrive(&call, &[Newcomer::default(); 300], START + 5_000);
        let end_of_doubt = START + 5_000 + 2 * 3_600_000;
        before.observe(&call, &Beats::new(), None, end_of_doubt);
        let known = before.observe(&call, &Beats::new(), None, end_of_doubt + 1);
        assert!(known.waiting > 200 && known.lines.iter().all(|line| !line.in_doubt), "{known:?}");

        let now = end_of_doubt + 1_000;
        bench.clock.set(now);
        let call = Call { hints: before.hints(), ..call.clone() };
        let mut model = State::new(policy.clone(), now);
        for known in [None, Some(&known)] {
            let here = plain(&model.observe(&call, &Beats::new(), known, now));
            let (shop, nobody) = (shop(), Beats::new());
            let there = bench.runtime.block_on(bench.store.observe(&shop, &call, &nobody, known));
            assert_eq!(here, plain(&there.unwrap()));
        }
        for key in bench.server.keys() {
            let size = bench.server.reply(&["MEMORY", "USAGE", &key]).int();
            assert!(size < 100_000, "{key} has {size} bytes for 300 visitors");
        }
    }
}

/// During a rolling upgrade two versions may meet in one room.
#[test]
fn a_room_saved_in_another_form_is_left_alone() {
    let bench = Bench::new();
    let call = call("capacity=1");
    bench.clock.set(START);
    bench.arrive(&call, &[Newcomer::default()]);
    let form_2 = 2f64.to_be_bytes().repeat(30);
    bench.server.command(&[b"HSET".as_slice(), b"anteroom:{shop}:room", b"state", &form_2]);
    let refused = bench.runtime.block_on(bench.store.arrive(&shop(), &call, &[Newcomer::default()]));
    let Err(StoreError::Unavailable(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("saved in form 2, and this version of Anteroom knows form 1"), "{why}");
}

/// However many pages go away: so many are noted, so many leave in a tick, and no key stays behind.
#[test]
fn pages_that_go_away_are_bounded_and_leave_nothing_behind() {
    const NOTED: u64 = 65_536;
    let bench = Bench::new();
    let call = call("capacity=0 patience=1h");
    bench.clock.set(START);
    let mut model = State::new(call.policy.clone().unwrap(), START);
    let visitors = NOTED + 464;
    for newcomers in vec![Newcomer::default(); usize::try_from(visitors).unwrap()].chunks(1_000) {
        assert_eq!(bench.arrive(&call, newcomers), model.arrive(&call, newcomers, START));
    }
    let places = (1..=visitors).map(|number| (Place { generation: START, number }, 0));
    let mut noted = 0;
    for some in places.collect::<Vec<_>>().chunks(1_000) {
        let there = bench.runtime.block_on(bench.store.away(&shop(), &call, some)).unwrap();
        assert_eq!(there, model.away(&call, some, START));
        noted += there.iter().map(|was_noted| u64::from(*was_noted)).sum::<u64>();
    }
    assert_eq!(noted, NOTED);
    for tick in 1..=66 {
        let there = bench.runtime.block_on(bench.store.observe(&shop(), &call, &Beats::new(), None)).unwrap();
        let here = model.observe(&call, &Beats::new(), None, START);
        let left = visitors - NOTED.min(tick * 1_000);
        assert_eq!((here.waiting, there.waiting), (left, left), "after {tick} ticks");
    }
    assert!(bench.server.keys().iter().all(|key| !key.ends_with("away")), "{:?}", bench.server.keys());
}
