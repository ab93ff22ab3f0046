//! Random histories of several replicas, with lost answers, repeated calls, wipes, moves and clocks set back.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::twins::{Bench, Caller, Op, POLICIES, Pick, Twins};

type Step = (u64, Caller, Op);

fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        5 => Just(0u64),
        5 => 0..1_500u64,
        2 => 1_500..12_000u64,
        1 => prop::sample::select(vec![3_000u64, 5_000, 8_000, 10_000, 20_000]),
        1 => 12_000..1_200_000u64,
    ]
}

fn caller() -> impl Strategy<Value = Caller> {
    (0..3u8, prop::bool::weighted(0.7), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(replica, states, deaf, twice)| Caller { replica, states, deaf, twice })
}

fn pick() -> impl Strategy<Value = Pick> {
    let number = prop_oneof![12 => Just(0i16), 1 => -3..3i16, 1 => any::<i16>()];
    let generation = prop_oneof![20 => Just(0i8), 1 => any::<i8>()];
    (any::<u8>(), number, generation).prop_map(|(index, number, generation)| Pick {
        index,
        number,
        generation,
    })
}

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    prop::collection::vec(pick(), 1..5)
}

fn grace() -> impl Strategy<Value = u16> {
    prop_oneof![1 => Just(0u16), 4 => 0..1_500u16, 2 => 1_500..12_000u16]
}

fn everyday() -> impl Strategy<Value = Op> {
    let users = || prop::collection::vec((0..5u16, any::<bool>()), 0..4);
    let limit = |max| prop::option::of(0..max);
    prop_oneof![
        6 => (0..6u16, users()).prop_map(|(strangers, users)| Op::Arrive(strangers, users)),
        2 => (0..300u16).prop_map(|strangers| Op::Arrive(strangers, Vec::new())),
        // So many that their buckets are split.
        1 => (0..600u16, 0..200u16)
            .prop_map(|(from, count)| Op::Arrive(0, (from..from + count).map(|user| (user, user % 7 == 0)).collect())),
        8 => picks().prop_map(Op::Enter),
        4 => picks().prop_map(Op::Touch),
        4 => prop::collection::vec((pick(), any::<bool>()), 1..4).prop_map(Op::Leave),
        4 => prop::collection::vec((pick(), grace()), 1..4).prop_map(Op::Away),
        8 => (any::<u64>(), prop::bool::weighted(0.2)).prop_map(|(mask, known)| Op::Observe(mask, known)),
        4 => Just(Op::Observe(u64::MAX, false)),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => Just(Op::Pause(false)),
        1 => (limit(6u8), limit(4u8), limit(4u8)).prop_map(|(c, r, b)| Op::Limit(c, r, b)),
        1 => (0..POLICIES.len()).prop_map(Op::Policy),
        1 => back(),
    ]
}

/// A moment, which is waited out, and steps of seconds, minutes and hours.
fn back() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => 0..1_500u32,
        2 => prop::sample::select(vec![1_000u32, 1_001, 20_000]),
        3 => 1_500..60_000u32,
        3 => 60_000..7_200_000u32,
    ]
    .prop_map(Op::Back)
}

fn step(losses: u32) -> impl Strategy<Value = Step> {
    let loss = prop_oneof![
        3 => Just(Op::Save),
        2 => Just(Op::Rollback),
        2 => Just(Op::Wipe),
        2 => Just(Op::Move),
        1 => Just(Op::Reset),
        1 => back(),
    ];
    (pause(), caller(), prop_oneof![40 => everyday(), losses => loss])
}

fn run(bench: &Bench, policy: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut twins = Twins::new(bench, policy);
    for (index, (pause, caller, op)) in steps.iter().enumerate() {
        twins.step(*pause, *caller, op).map_err(|difference| {
            TestCaseError::fail(format!("step {index} ({pause} ms, {caller:?}, {op:?}), {difference}"))
        })?;
    }
    Ok(())
}

/// How many histories each property is tried on; `PROPTEST_CASES` for more.
const CASES: u32 = 300;

/// The same histories at every run; others are tried with `PROPTEST_RNG_SEED=n`.
pub(crate) fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    config
}

fn tried(losses: u32) {
    let bench = Bench::new();
    let steps = prop::collection::vec(step(losses), 1..70);
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let result = runner.run(&(0..POLICIES.len(), steps), |(policy, steps)| run(&bench, policy, &steps));
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn model_and_scripts_agree() {
    tried(0);
}

#[test]
fn model_and_scripts_agree_when_things_are_lost() {
    tried(10);
}
