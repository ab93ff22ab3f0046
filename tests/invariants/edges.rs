//! Times and limits to the millisecond: patience, claims, sessions, and rooms that let nobody in.

use anteroom::room::bits::Bits;
use anteroom::room::snapshot::Known;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Limits, Newcomer, Outcome, State};
use proptest::prelude::*;

use crate::auditor::place_of;
use crate::history::START;
use crate::policies::policy;

fn call() -> Call {
    Call::default()
}

fn arrive(state: &mut State, count: usize, now: u64) -> Vec<Place> {
    let outcomes = state.arrive(&call(), &vec![Newcomer::default(); count], now);
    outcomes.into_iter().map(place_of).collect()
}

fn known(state: &mut State, place: Place, now: u64) -> Known {
    state.observe(&call(), &Beats::new(), None, now).know(place)
}

fn beat(place: Place) -> Beats {
    let mut numbers = Bits::default();
    numbers.insert(place.number);
    vec![(place.generation, numbers)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever is heard of just within `patience` keeps their place for as long as they like, however the ticks
    /// fall; whoever falls silent is gone after two, and a tick.
    #[test]
    fn heartbeats_keep_a_place_and_silence_loses_it(
        patience in 3_000..20_000u64,
        tick in 1..150u64,
        offset in 0..20_000u64,
        beats in 1..12u64,
    ) {
        let mut state = State::new(policy(&format!("capacity=0 patience={patience}ms")), START);
        let mut now = START;
        let joined = START + offset;
        while now + tick < joined {
            now += tick;
            state.observe(&call(), &Beats::new(), None, now);
        }
        let place = arrive(&mut state, 1, joined)[0];
        now = joined;
        let (mut last, mut left) = (now, beats);
        loop {
            let next_beat = last + patience - 1;
            if left > 0 && next_beat <= now + tick {
                now = next_beat;
                // The worst of orders: the tick first, the heartbeat behind it.
                prop_assert_eq!(known(&mut state, place, now), Known::Waiting(1), "heard {} ms ago", now - last);
                state.observe(&call(), &beat(place), None, now);
                (last, left) = (now, left - 1);
            } else {
                now += tick;
                let knows = known(&mut state, place, now);
                if knows == Known::Gone {
                    break;
                }
                prop_assert!(now - last <= 2 * patience + tick, "silent for {} ms and in line", now - last);
            }
        }
        prop_assert!(now - last >= patience, "gone after {} ms", now - last);
    }
}

#[test]
fn a_call_runs_out_to_the_millisecond() {
    let mut state = State::new(policy("capacity=1 claim_ttl=10s session_ttl=5s"), START);
    let places = arrive(&mut state, 3, START);
    assert_eq!(known(&mut state, places[1], START + 4_999), Known::Waiting(1));
    assert_eq!(known(&mut state, places[1], START + 5_000), Known::Called);
    assert_eq!(known(&mut state, places[1], START + 14_999), Known::Called);
    assert_eq!(known(&mut state, places[1], START + 15_000), Known::Gone);
    assert_eq!(known(&mut state, places[2], START + 15_000), Known::Called, "the slot goes to the next");
    let until = START + 24_999 + 5_000;
    assert_eq!(
        state.enter(&call(), &[places[2]], START + 24_999),
        [Outcome::Admitted(places[2], until)],
        "in the last millisecond"
    );
    assert_eq!(state.enter(&call(), &[places[1]], START + 24_999), [Outcome::Gone(places[1])]);
}

#[test]
fn a_session_ends_to_the_millisecond_and_is_prolonged_before() {
    let mut state = State::new(policy("capacity=1 session_ttl=5s"), START);
    let place = arrive(&mut state, 1, START)[0];
    let touch = |state: &mut State, until, now| state.touch(&call(), &[(place, until)], now)[0];
    let until = touch(&mut state, START + 5_000, START + 4_999);
    assert_eq!(until, Some(START + 9_999));
    assert_eq!(touch(&mut state, START + 9_999, START + 9_999), None, "over at its end");
}

/// Nobody could be heard of while the room was away: everybody has a whole `patience` from then on.
#[test]
fn a_restart_gives_everybody_their_patience_again() {
    let mut state = State::new(policy("capacity=0 patience=20s"), START);
    let place = arrive(&mut state, 1, START)[0];
    for second in 0..=21 {
        state.observe(&call(), &Beats::new(), None, START + second * 1_000);
    }
    let mut state: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let back = START + 600_000;
    state.resume(state.next(), back);
    for second in 0..20 {
        assert_eq!(known(&mut state, place, back + second * 1_000), Known::Waiting(1), "{second} s");
    }
}

#[test]
fn closed_rooms_let_nobody_in_and_open_without_loss() {
    for (closed, limits) in [
        ("capacity=0", Limits { capacity: Some(1), ..Limits::default() }),
        ("rate=0/s burst=5", Limits { rate: "1/s".parse().ok(), ..Limits::default() }),
        ("capacity=0 rate=10/s", Limits { capacity: Some(1), ..Limits::default() }),
    ] {
        let mut state = State::new(policy(closed), START);
        let places = arrive(&mut state, 10, START);
        let before = state.observe(&call(), &Beats::new(), None, START + 60_000);
        assert_eq!((before.waiting, before.called, before.sessions), (10, 0, 0), "{closed}");
        assert_eq!(before.speed.eta(1), None, "{closed}: nobody can say how long");
        assert_eq!(state.enter(&call(), &places[..1], START + 60_000), [Outcome::Waiting(places[0], 1)]);
        state.control(&call(), Control::Limits(limits), START + 3_600_000);
        let after = state.observe(&call(), &Beats::new(), None, START + 3_601_000);
        assert!(after.waiting < before.waiting, "{closed}: opened, and nobody called");
    }
}

#[test]
fn a_pause_calls_nobody_and_tells_no_time() {
    let mut state = State::new(policy("rate=10/s burst=1"), START);
    arrive(&mut state, 5, START);
    state.control(&call(), Control::Pause, START);
    let paused = state.observe(&call(), &Beats::new(), None, START + 60_000);
    assert_eq!((paused.waiting, paused.paused, paused.speed.eta(4)), (4, true, None));
    state.control(&call(), Control::Resume, START + 60_000);
    let resumed = state.observe(&call(), &Beats::new(), None, START + 60_000);
    assert_eq!(resumed.waiting, 3, "one burst, not a minute's worth");
}

#[test]
fn throwing_the_ticket_away_once_inside_ends_no_session() {
    let mut state = State::new(policy("capacity=1 session_ttl=60s"), START);
    let places = arrive(&mut state, 2, START);
    assert_eq!(state.leave(&call(), &[(places[0], None)], START + 1), [false]);
    assert_eq!(state.touch(&call(), &[(places[0], START + 60_000)], START + 2), [Some(START + 60_002)]);
    assert_eq!(state.observe(&call(), &Beats::new(), None, START + 2).sessions, 1);
}

#[test]
fn a_capacity_lowered_below_those_inside_calls_nobody_until_enough_have_left() {
    let mut state = State::new(policy("capacity=5 session_ttl=60s"), START);
    let places = arrive(&mut state, 8, START);
    let lower = Limits { capacity: Some(2), ..Limits::default() };
    state.control(&call(), Control::Limits(lower), START + 1);
    for (index, inside) in [(0, 4), (1, 3), (2, 2)] {
        assert_eq!(state.leave(&call(), &[(places[index], Some(START + 60_000))], START + 2), [true]);
        let snapshot = state.observe(&call(), &Beats::new(), None, START + 2);
        assert_eq!((snapshot.sessions, snapshot.called), (inside, 0));
    }
    state.leave(&call(), &[(places[3], Some(START + 60_000))], START + 3);
    assert_eq!(known(&mut state, places[5], START + 3), Known::Called);
}

#[test]
fn each_limit_alone_and_both_together() {
    let called = |words: &str, after: u64| {
        let mut state = State::new(policy(words), START);
        arrive(&mut state, 1_000, START);
        let snapshot = state.observe(&call(), &Beats::new(), None, START + after);
        1_000 - snapshot.waiting
    };
    assert_eq!(called("rate=10/s burst=5", 0), 5);
    assert_eq!(called("rate=10/s burst=5", 250), 7);
    assert_eq!(called("rate=10/s burst=5", 60_000), 10, "credits are never worth more than one burst");
    assert_eq!(called("capacity=7", 1_000), 7);
    assert_eq!(called("capacity=7 rate=10/s burst=5", 0), 5);
    assert_eq!(called("capacity=7 rate=10/s burst=5", 1_000), 7);
}
