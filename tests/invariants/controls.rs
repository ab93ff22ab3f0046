//! What operators did outlives a loss: of pause and limits each, the last word that anybody knows of holds.

use anteroom::room::rate::{Period, Rate};
use anteroom::room::snapshot::Snapshot;
use anteroom::room::state::{Beats, Call, Control, Hints, Limits, Newcomer, State};

use crate::history::START;
use crate::policies::policy;

const WORDS: &str = "capacity=2 patience=60s";

/// As far as a process goes that has seen this.
fn hinted(known: &Snapshot) -> Call {
    let line = known.lines.last().unwrap();
    let hints = Hints { generation: line.generation, next: line.next, head: line.head, floor: known.floor };
    Call { hints, ..Call::default() }
}

fn look(state: &mut State, now: u64) -> Snapshot {
    state.observe(&Call::default(), &Beats::new(), None, now)
}

/// A process writes back what it knows.
fn heal(state: &mut State, known: &Snapshot, now: u64) -> Snapshot {
    state.observe(&hinted(known), &Beats::new(), Some(known), now)
}

fn control(state: &mut State, control: Control, now: u64) -> Snapshot {
    state.control(&Call::default(), control, now);
    look(state, now)
}

fn capacity(capacity: u32) -> Control {
    Control::Limits(Limits { capacity: Some(capacity), ..Limits::default() })
}

#[test]
fn a_pause_and_limits_come_back_after_a_total_loss_and_nobody_is_called_meanwhile() {
    let mut state = State::new(policy(WORDS), START);
    control(&mut state, Control::Pause, START + 1);
    let known = control(&mut state, capacity(7), START + 2);

    let mut state = State::new(policy(WORDS), START + 10_000);
    // Somebody comes to a process that knows of it, before that has written back what it knows.
    state.arrive(&hinted(&known), &[Newcomer::default()], START + 10_000);
    let bare = look(&mut state, START + 10_001);
    assert!(!bare.paused && known.has_newer_controls_than(&bare));
    let healed = heal(&mut state, &known, START + 10_002);
    assert!(healed.paused && !known.has_newer_controls_than(&healed));
    assert_eq!((&healed.limits, healed.policy.capacity), (&known.limits, Some(7)));
    let later = look(&mut state, START + 60_000);
    assert_eq!((later.waiting, later.called, later.sessions), (1, 0, 0), "paused");
    control(&mut state, Control::Resume, START + 60_001);
    assert_eq!(look(&mut state, START + 60_002).called, 1);
}

/// However many processes write back what they know, and in whatever order.
#[test]
fn what_was_taken_back_is_not_undone_by_a_process_that_has_not_heard_of_it() {
    let mut state = State::new(policy(WORDS), START);
    control(&mut state, Control::Pause, START + 1);
    let stale = control(&mut state, capacity(7), START + 2);
    control(&mut state, Control::Resume, START + 3);
    let newest = control(&mut state, Control::Limits(Limits::default()), START + 4);
    for order in [[&stale, &newest, &stale], [&newest, &stale, &newest], [&stale, &stale, &newest]] {
        let mut state = State::new(policy(WORDS), START + 10_000);
        let healed = order.map(|known| heal(&mut state, known, START + 10_001))[2].clone();
        assert!(!healed.paused && healed.limits == Limits::default(), "{healed:?}");
        assert_eq!(healed.policy.capacity, Some(2));
    }
}

#[test]
fn a_control_of_the_time_after_a_loss_counts_and_the_other_one_comes_back() {
    let rate = Rate { count: 3, period: Period::Second };
    let newer = Limits { rate: Some(rate), ..Limits::default() };
    let mut state = State::new(policy(WORDS), START);
    control(&mut state, capacity(7), START + 1);
    let known = control(&mut state, Control::Pause, START + 2);

    let mut limited = State::new(policy(WORDS), START + 10_000);
    control(&mut limited, Control::Limits(newer.clone()), START + 10_001);
    let healed = heal(&mut limited, &known, START + 10_002);
    assert!(healed.paused && healed.limits == newer, "who limits a room does not resume it: {healed:?}");

    let mut resumed = State::new(policy(WORDS), START + 10_000);
    control(&mut resumed, Control::Resume, START + 10_001);
    let healed = heal(&mut resumed, &known, START + 10_002);
    assert!(!healed.paused && healed.policy.capacity == Some(7), "{healed:?}");
}

/// A replica of the store is promoted that lacks the last call only.
#[test]
fn a_store_that_lost_nothing_but_a_control_gets_it_back() {
    let mut state = State::new(policy(WORDS), START);
    state.arrive(&Call::default(), &[Newcomer::default(); 5], START);
    let mut behind = state.clone();
    let known = control(&mut state, Control::Pause, START + 1);
    let told = look(&mut behind, START + 2);
    assert!(known.has_newer_controls_than(&told) && !told.lines[0].in_doubt);
    let healed = heal(&mut behind, &known, START + 2);
    assert!(healed.paused);
    assert_eq!((healed.waiting, healed.called, healed.sessions), (told.waiting, told.called, told.sessions));
    assert_eq!(healed.generation(), told.generation());
}

#[test]
fn a_reset_takes_nothing_back_that_an_operator_set() {
    let mut state = State::new(policy(WORDS), START);
    control(&mut state, Control::Pause, START + 1);
    let before = control(&mut state, capacity(7), START + 2);
    let after = control(&mut state, Control::Reset, START + 3);
    assert!(after.paused && after.policy.capacity == Some(7), "{after:?}");
    assert!(!before.has_newer_controls_than(&after));

    let mut anew = State::new(policy(WORDS), START + 10_000);
    control(&mut anew, Control::Reset, START + 10_001);
    let healed = heal(&mut anew, &before, START + 10_002);
    assert!(healed.paused && healed.policy.capacity == Some(7), "{healed:?}");
    assert!(healed.floor > before.generation() && healed.lines.len() == 1, "the line does not come back");
}

/// A server takes over whose clock is behind.
#[test]
fn the_later_of_two_controls_is_known_whatever_the_clock_says() {
    let mut state = State::new(policy(WORDS), START);
    let known = control(&mut state, Control::Pause, START + 60_000);
    let mut state = State::new(policy(WORDS), START + 30_000);
    heal(&mut state, &known, START + 30_000);
    let resumed = control(&mut state, Control::Resume, START + 30_001);
    assert!(!resumed.paused && resumed.has_newer_controls_than(&known));
    assert!(!heal(&mut state, &known, START + 30_002).paused);
}
