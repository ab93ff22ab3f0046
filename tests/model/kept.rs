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
