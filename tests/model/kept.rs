//! Histories in which model and scripts once differed, shrunk and kept.

use crate::twins::{Bench, Caller, Op, Pick, Twins};

const CALLER: Caller = Caller { replica: 0, states: true, deaf: false, twice: false };

fn agree(policy: usize, steps: &[(u64, Op)]) {
    let bench = Bench::new();
    let mut twins = Twins::new(&bench, policy);
    for (pause, op) in steps {
        if let Err(difference) = twins.step(*pause, CALLER, op) {
            panic!("{op:?}, {difference}");
        }
    }
}

fn pick(number: i16) -> Vec<(Pick, bool)> {
    vec![(Pick { index: 0, number, generation: 0 }, true)]
}

/// The pass was of a past that the room had lost; the number was then given once more, and was void from the start.
#[test]
fn a_pass_given_back_for_a_number_not_given_yet_is_evidence_of_a_loss() {
    agree(2, &[(0, Op::Arrive(1, Vec::new())), (0, Op::Leave(pick(1))), (0, Op::Arrive(1, Vec::new()))]);
}

/// The copy's revocations and those of the room that was reset were counted alike.
#[test]
fn revocations_of_a_copy_are_not_taken_for_those_known() {
    let steps = [
        Op::Arrive(0, Vec::new()),
        Op::Leave(pick(0)),
        Op::Save,
        Op::Reset,
        Op::Rollback,
        Op::Arrive(0, Vec::new()),
    ];
    agree(0, &steps.map(|op| (0, op)));
}

/// Calls of a `claim_ttl` of a month are noted for a time to come; those of a shorter one stood behind them.
#[test]
fn calls_run_out_in_time_after_claim_ttl_was_shortened() {
    let arrive = || Op::Arrive(1, Vec::new());
    let steps = [(0, arrive()), (0, Op::Policy(6)), (0, arrive()), (0, Op::Reset), (0, Op::Policy(1))];
    let steps = [&steps[..], &[(0, arrive()), (0, arrive()), (2_000, arrive()), (8_000, arrive())]].concat();
    agree(6, &steps);
}

/// A mark of calls that were all taken up made a later call last longer in one of the two.
#[test]
fn calls_that_were_taken_up_do_not_prolong_later_ones() {
    let bench = Bench::new();
    let mut twins = Twins::new(&bench, 2);
    let by = |replica, states| Caller { replica, states, deaf: false, twice: false };
    let last = || vec![Pick { index: 0, number: 0, generation: 0 }];
    let steps = [
        (0, by(2, true), Op::Arrive(8, Vec::new())),
        (0, by(0, false), Op::Arrive(2, vec![(0, false)])),
        (0, by(0, false), Op::Wipe),
        (0, by(2, true), Op::Pause(false)),
        (3_000, by(1, false), Op::Enter(last())),
        (0, by(1, false), Op::Touch(last())),
        (0, by(0, false), Op::Observe(0, true)),
        (4_133, by(0, false), Op::Arrive(0, Vec::new())),
        (1_488, by(0, false), Op::Policy(0)),
        (2_379, by(0, true), Op::Arrive(0, Vec::new())),
    ];
    for (pause, caller, op) in steps {
        if let Err(difference) = twins.step(pause, caller, &op) {
            panic!("{op:?}, {difference}");
        }
    }
}

fn by_ticket(number: i16) -> Vec<(Pick, bool)> {
    pick(number).into_iter().map(|(pick, _)| (pick, false)).collect()
}

fn places(number: i16) -> Vec<Pick> {
    pick(number).into_iter().map(|(pick, _)| pick).collect()
}

/// A rule of the scripts that was changed for a trial, and no random history noticed.
#[test]
fn a_revocation_ends_in_the_millisecond_in_which_its_pass_does() {
    let steps = [(0, Op::Arrive(1, Vec::new())), (0, Op::Leave(pick(0))), (20_000, Op::Touch(places(0)))];
    agree(1, &steps);
}

/// As above: the copy has as many revocations as are known, but others.
#[test]
fn revocations_after_a_rollback_are_not_taken_for_those_before() {
    let of = |index| vec![(Pick { index, number: 0, generation: 0 }, true)];
    let steps = [Op::Arrive(2, Vec::new()), Op::Save, Op::Leave(of(0)), Op::Rollback, Op::Leave(of(1))];
    agree(0, &steps.map(|op| (0, op)));
}

/// As above: whoever was inside without a slot is not since the reset.
#[test]
fn after_a_reset_a_pass_that_never_was_gets_no_slot() {
    let arrive = || Op::Arrive(1, Vec::new());
    let steps = [arrive(), Op::Policy(0), Op::Observe(0, false), Op::Reset, arrive(), Op::Touch(places(1))];
    agree(1, &steps.map(|op| (0, op)));
}

/// As above: the first number in doubt is in doubt, too.
#[test]
fn the_first_number_in_doubt_that_was_left_does_not_come_back() {
    let steps = [Op::Arrive(1, Vec::new()), Op::Move, Op::Leave(by_ticket(1)), Op::Enter(places(1))];
    agree(0, &steps.map(|op| (0, op)));
}
