//! Clocks set back under a room that goes on: it goes on, nobody is lost or called twice, and the limits hold.

use anteroom::room::bits::Bits;
use anteroom::room::policy::Millis;
use anteroom::room::snapshot::Snapshot;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, HOLD_MS, Newcomer, SMALL_STEP_MS, State};

use crate::auditor::place_of;
use crate::history::START;
use crate::policies::policy;

/// Seconds by which a clock is set back: more than a moment, more than a session, more than two `patience`.
const STEPS: [Millis; 4] = [1_001, 20_000, 600_000, 7_200_000];

fn call() -> Call {
    Call::default()
}

fn arrive(state: &mut State, count: usize, now: Millis) -> Vec<Place> {
    let outcomes = state.arrive(&call(), &vec![Newcomer::default(); count], now);
    outcomes.into_iter().map(place_of).collect()
}

/// A tick in which these are heard of.
fn tick(state: &mut State, places: &[Place], now: Millis) -> Snapshot {
    let mut heard = Bits::default();
    for place in places {
        heard.insert(place.number);
    }
    let beats: Beats = places.first().map(|place| (place.generation, heard)).into_iter().collect();
    state.observe(&call(), &beats, None, now)
}

#[test]
fn a_rate_goes_on_at_once_and_makes_no_burst() {
    for back in STEPS {
        let mut state = State::new(policy("rate=2/s burst=2 patience=20s"), START);
        let places = arrive(&mut state, 200, START);
        let before = tick(&mut state, &places, START + 10_000);
        let now = START + 10_000 - back;
        let mut called = before.waiting;
        for tenth in 0..=100 {
            let after = tick(&mut state, &places, now + tenth * 100);
            assert!(called - after.waiting <= 1, "{back} ms back: {called} waited, then {}", after.waiting);
            called = after.waiting;
        }
        assert_eq!(before.waiting - called, 20, "10 s at 2/s, {back} ms back");
    }
}

#[test]
fn sessions_and_calls_last_as_long_as_they_were_to() {
    for back in STEPS {
        let limits = "capacity=2 session_ttl=30s claim_ttl=10s patience=20s";
        let mut state = State::new(policy(limits), START);
        let places = arrive(&mut state, 6, START);
        state.touch(&call(), &[(places[0], START + 30_000)], START + 20_000);
        let look = tick(&mut state, &places, START + 31_000);
        assert_eq!(
            (look.sessions, look.called, look.waiting),
            (1, 1, 3),
            "one was silent, the next is called"
        );
        let now = START + 31_000 - back;
        for (later, expected) in [
            (0, (1, 1)),
            // The call made at 31 s runs out, and the next is called.
            (9_999, (1, 1)),
            (10_000, (1, 1)),
            // The session prolonged at 20 s ends.
            (18_999, (1, 1)),
            (19_000, (0, 2)),
        ] {
            let look = tick(&mut state, &places, now + later);
            assert_eq!((look.sessions, look.called), expected, "{back} ms back, {later} ms later");
            assert_eq!(
                look.waiting,
                if later < 10_000 {
                    3
                } else if later < 19_000 {
                    2
                } else {
                    1
                }
            );
        }
    }
}

#[test]
fn nobody_is_lost_who_is_heard_of_and_the_silent_are_noticed_in_time() {
    for back in STEPS {
        let mut state = State::new(policy("capacity=0 patience=20s"), START);
        let places = arrive(&mut state, 10, START);
        let mut now = START;
        for second in 0..120 {
            // Set back in the middle of a period, and again.
            now = if second == 15 || second == 17 { now - back } else { now + 1_000 };
            let heard = if second < 15 { &places[..] } else { &places[..5] };
            let look = tick(&mut state, heard, now);
            assert!(look.waiting >= 5, "{back} ms back: {} of 5 are left", look.waiting);
            assert!(second < 15 + 34 || look.waiting == 5, "{back} ms back: the silent are still there");
        }
    }
}

#[test]
fn whoever_is_away_is_given_up_in_time_and_a_hold_ends_in_time() {
    for back in STEPS {
        let mut state = State::new(policy("capacity=0 patience=60s"), START);
        let places = arrive(&mut state, 2, START);
        assert_eq!(state.away(&call(), &[(places[0], 10_000)], START), [true]);
        let now = START + 4_000 - back;
        tick(&mut state, &[], START + 4_000);
        for (later, waiting) in [(0, 2), (3_000, 2), (5_999, 2), (6_000, 1)] {
            assert_eq!(
                tick(&mut state, &[], now + later).waiting,
                waiting,
                "{back} ms back, {later} ms later"
            );
        }

        let mut state = State::new(policy("capacity=5 patience=60s"), START);
        state.resume(state.next() + 10, START);
        arrive(&mut state, 2, START + 1_000);
        let now = START + 1_000 - back;
        assert_eq!(tick(&mut state, &[], now).called, 0);
        assert_eq!(tick(&mut state, &[], now + HOLD_MS - 1_001).called, 0);
        assert_eq!(tick(&mut state, &[], now + HOLD_MS - 1_000).called, 2, "{back} ms back");
    }
}

/// A doubt that is over does not begin anew, nor does the time in which passes hold no slot.
#[test]
fn what_is_over_stays_so() {
    for back in STEPS {
        let mut state = State::new(policy("capacity=1 session_ttl=30s patience=4s"), START);
        let place = arrive(&mut state, 1, START + 60_000)[0];
        assert_eq!(state.leave(&call(), &[(place, Some(START + 90_000))], START + 60_000), [true]);
        let now = START + 60_000 - back;
        let look = tick(&mut state, &[], now);
        assert_eq!((look.lost_at, look.sessions), (None, 0), "{back} ms back");
        let unknown = Place { number: place.number + 1_000, ..place };
        assert_eq!(state.touch(&call(), &[(unknown, now + 30_000)], now), [None]);
        // Its pass may be shown until the end it tells.
        assert!(look.is_void(place));
        assert!(tick(&mut state, &[], START + 89_999).is_void(place), "{back} ms back");
    }
}

#[test]
fn a_moment_is_waited_out_and_a_reset_is_newer_all_the_same() {
    let mut state = State::new(policy("rate=1/s burst=1"), START);
    arrive(&mut state, 5, START);
    assert_eq!(tick(&mut state, &[], START - SMALL_STEP_MS).at, START);
    assert_eq!(tick(&mut state, &[], START - SMALL_STEP_MS - 1).at, START - SMALL_STEP_MS - 1);
    let before = tick(&mut state, &[], START - 600_000).generation();
    state.control(&call(), Control::Reset, START - 600_000);
    let place = arrive(&mut state, 1, START - 590_000)[0];
    assert!(place.generation > before, "{place:?} after {before}");
}
