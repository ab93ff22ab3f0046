//! What random histories and reading found broken once, each as its smallest case.

use anteroom::room::bits::Bits;
use anteroom::room::policy::Millis;
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, HOLD_MS, Hints, Newcomer, Outcome, State, Subject};

use crate::auditor::place_of;
use crate::history::{Op, Pause, START, World};
use crate::policies::{CHOICES, policy};

fn call() -> Call {
    Call::default()
}

fn arrive(state: &mut State, count: usize, now: Millis) -> Vec<Place> {
    let outcomes = state.arrive(&call(), &vec![Newcomer::default(); count], now);
    outcomes.into_iter().map(place_of).collect()
}

fn look(state: &mut State, now: Millis) -> Snapshot {
    state.observe(&call(), &Beats::new(), None, now)
}

fn copy(state: &State) -> State {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

/// The hints of a replica that saw this snapshot.
fn hinted(snapshot: &Snapshot) -> Call {
    let line = snapshot.lines.last().unwrap();
    let hints =
        Hints { generation: line.generation, next: line.next, head: line.head, floor: snapshot.floor };
    Call { policy: None, hints }
}

fn replay(choice: usize, steps: &[(Pause, Op)]) {
    let mut world = World::new(CHOICES[choice]);
    for (pause, op) in steps {
        world.step(*pause, op).unwrap();
    }
}

/// Silence was noticed between two and three `patience`.
#[test]
fn a_silent_visitor_is_gone_within_two_patience() {
    let mut state = State::new(policy("capacity=0 patience=20s"), START);
    let place = arrive(&mut state, 1, START)[0];
    for second in 1..=41 {
        look(&mut state, START + second * 1_000);
    }
    assert_eq!(look(&mut state, START + 41_000).know(place), Known::Gone);
}

/// Tickets from before the hinted head were called all at once, past rate and capacity, by the hint of the next call.
#[test]
fn tickets_that_come_back_go_by_the_limits() {
    let mut state = State::new(policy("capacity=2 rate=1/s burst=1 claim_ttl=5s patience=60s"), START);
    let saved = copy(&state);
    let places = arrive(&mut state, 50, START);
    for second in 1..60 {
        look(&mut state, START + second * 1_000);
        state.enter(&call(), &places[40..], START + second * 1_000);
    }
    let now = START + 60_000;
    let before = look(&mut state, now);
    assert!(before.lines[0].head > 10, "{}", before.lines[0].head);
    let mut state = saved;
    state.resume(100, now);
    for _ in 0..3 {
        state.enter(&hinted(&before), &places, now + HOLD_MS);
    }
    let after = look(&mut state, now + HOLD_MS);
    assert_eq!((after.waiting, after.called + after.sessions), (49, 1), "one call, by rate and capacity");
}

/// A ticket of a newer generation, with no replica to say where its numbers end, made the room give number 2^64-1.
#[test]
fn after_a_lost_reset_new_numbers_come_from_a_generation_of_their_own() {
    let mut state = State::new(policy("capacity=1"), START);
    let saved = copy(&state);
    state.control(&call(), Control::Reset, START + 1_000);
    let places = arrive(&mut state, 3, START + 1_000);
    let mut state = saved;
    state.resume(10, START + 2_000);
    let outcomes = state.enter(&call(), &places, START + 2_000);
    assert!(matches!(outcomes[..], [Outcome::Waiting(_, 1), Outcome::Waiting(_, 2), Outcome::Waiting(_, 3)]));
    let late = arrive(&mut state, 2, START + 2_000);
    assert!(late[0] > places[2] && late[0].generation > places[0].generation && late[1].number == 2);
}

/// Two rooms made within one second had the same generation, and gave the same numbers.
#[test]
fn a_room_lost_and_made_anew_within_a_second_gives_other_numbers() {
    let first = arrive(&mut State::new(policy("capacity=0"), START), 1, START);
    let second = arrive(&mut State::new(policy("capacity=0"), START + 1), 1, START + 1);
    assert_ne!(first, second);
}

/// With the clock set back, the room held everybody until the old time came again.
#[test]
fn a_hold_does_not_wait_for_a_clock_that_was_set_back() {
    let mut state = State::new(policy("capacity=5"), START);
    state.resume(10, START);
    arrive(&mut state, 2, START);
    let mut state = copy(&state);
    let now = START - 3_600_000;
    state.resume(state.next(), now);
    assert_eq!(look(&mut state, now + HOLD_MS).called, 2);
}

/// Whoever was called had lost the call when the room came back: nobody could enter in between.
#[test]
fn an_outage_longer_than_the_claim_costs_nobody_their_call() {
    let mut state = State::new(policy("capacity=1 claim_ttl=10s session_ttl=5s"), START);
    let places = arrive(&mut state, 2, START);
    assert_eq!(look(&mut state, START + 5_000).know(places[1]), Known::Called);
    let mut state = copy(&state);
    let now = START + 600_000;
    state.resume(state.next(), now);
    assert!(matches!(state.enter(&call(), &places[1..], now + 9_999)[..], [Outcome::Admitted(..)]));
}

/// A replica that was itself in doubt when the room was lost once more spoke for those it had not heard of.
#[test]
fn a_second_loss_while_healing_costs_nobody_their_place() {
    let words = "capacity=0 patience=60s";
    let mut state = State::new(policy(words), START);
    let places = arrive(&mut state, 10, START);
    let whole = look(&mut state, START);
    let mut state = State::new(policy(words), START + 1_000);
    state.enter(&hinted(&whole), &places[5..6], START + 1_000);
    let partial = look(&mut state, START + 1_000);
    let mut state = State::new(policy(words), START + 2_000);
    let healed = state.observe(&hinted(&partial), &Beats::new(), Some(&partial), START + 2_000);
    assert_eq!(healed.know(places[5]), Known::Waiting(1), "an older line comes back from the snapshot");
    assert_eq!(healed.know(places[2]), Known::Unknown);
    assert_eq!(state.enter(&call(), &places[2..3], START + 3_000), [Outcome::Waiting(places[2], 1)]);
}

/// Those who walk straight in after a quiet time counted as a line that had moved as slowly as they came.
#[test]
fn a_quiet_room_promises_its_own_rate() {
    let mut state = State::new(policy("rate=10/s"), START);
    for minute in 0..30 {
        arrive(&mut state, 1, START + minute * 60_000);
    }
    let snapshot = look(&mut state, START + 30 * 60_000);
    assert!((snapshot.speed.per_second - 10.0).abs() < f64::EPSILON, "{:?}", snapshot.speed);
}

/// The time since the last tick counted at the new rate.
#[test]
fn a_raised_rate_does_not_reach_back() {
    let mut state = State::new(policy("rate=1/h burst=100"), START);
    arrive(&mut state, 300, START);
    assert_eq!(look(&mut state, START).waiting, 200);
    let faster = Call { policy: Some(policy("rate=100/s burst=100")), hints: Hints::default() };
    let snapshot = state.observe(&faster, &Beats::new(), None, START + 10_000);
    assert_eq!(snapshot.waiting, 200);
}

/// Sessions of generations that a replica knows to be void held their slots until they ended.
#[test]
fn a_reset_known_to_a_replica_alone_frees_the_slots() {
    let mut state = State::new(policy("capacity=1"), START);
    let subject = Newcomer { subject: Some(Subject([1; 16])), anew: false };
    let old = state.arrive(&call(), &[subject], START)[0];
    let mut state = copy(&state);
    state.resume(10, START + 1);
    let hints = Hints { generation: START + 500, next: 1, head: 1, floor: START + 500 };
    let hinted = Call { policy: None, hints };
    let new = state.arrive(&hinted, &[subject], START + 1)[0];
    assert_ne!(place_of(old), place_of(new));
    let snapshot = look(&mut state, START + HOLD_MS + 1);
    assert_eq!((snapshot.sessions, snapshot.called), (0, 1));
}

/// Passes of a room without a capacity were refused as soon as it got one.
#[test]
fn a_capacity_that_comes_later_takes_in_those_inside() {
    let mut state = State::new(policy("rate=10/s"), START);
    // Long after the room began: a new room takes in every valid pass, as it may have had a past.
    let start = START + 3_600_000;
    let Outcome::Admitted(place, until) = state.arrive(&call(), &[Newcomer::default()], start)[0] else {
        panic!("the room is empty");
    };
    let limited = Call { policy: Some(policy("capacity=1")), hints: Hints::default() };
    let now = start + 120_000;
    let prolonged = state.touch(&limited, &[(place, until)], now);
    assert_eq!(prolonged, [Some(now + 240_000)]);
    assert_eq!(look(&mut state, now).sessions, 1);
}

/// Somebody who gave up a place that the room did not know (yet) got it back from a replica's snapshot.
#[test]
fn a_place_given_up_while_healing_does_not_come_back() {
    let words = "capacity=0 patience=60s";
    let mut state = State::new(policy(words), START);
    let places = arrive(&mut state, 3, START);
    let known = look(&mut state, START);
    let mut state = State::new(policy(words), START + 1_000);
    state.leave(&hinted(&known), &[(places[1], None)], START + 1_000);
    let healed = state.observe(&hinted(&known), &Beats::new(), Some(&known), START + 1_000);
    assert_eq!(healed.waiting, 2);
    assert_eq!(state.enter(&call(), &places[1..2], START + 1_000), [Outcome::Gone(places[1])]);
}

/// A call renewed the claims of all before it whose range reached beyond them.
#[test]
fn a_call_of_one_who_came_back_leaves_the_claims_before_it_alone() {
    let crash = Op::Crash { ceiling: 0, back: 0, hints: true };
    let arrive = |count| Op::Arrive(vec![(None, false); count]);
    replay(
        2,
        &[
            (Pause::Ms(0), arrive(2)),
            (Pause::Ms(0), Op::Save),
            (Pause::Ms(0), Op::Limits(None, None, Some(1))),
            (Pause::Ms(0), arrive(5)),
            (Pause::Ms(2_000), Op::Enter(vec![0])),
            (Pause::Ms(0), crash),
            (Pause::Ms(6_935), Op::Enter(vec![37])),
            (Pause::Ms(3_065), arrive(1)),
        ],
    );
}

/// A clean restart while the room healed cut the time in which tickets come back.
#[test]
fn a_restart_while_healing_gives_everybody_their_time_again() {
    let words = "capacity=0 patience=4s";
    let mut state = State::new(policy(words), START);
    let places = arrive(&mut state, 2, START);
    let mut state = State::new(policy(words), START + 1);
    state.enter(&call(), &places[..1], START + 7_000);
    let mut state = copy(&state);
    state.resume(state.next(), START + 600_000);
    for second in 600..607 {
        // Streams say so for those whose tickets are known; the other one is still on the way.
        let mut heard = Bits::default();
        heard.insert(places[0].number);
        state.observe(&call(), &vec![(places[0].generation, heard)], None, START + second * 1_000);
    }
    assert_eq!(state.enter(&call(), &places[1..], START + 607_000), [Outcome::Waiting(places[1], 2)]);
}
