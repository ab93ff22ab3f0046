//! Random histories: first without a loss, where nothing is excused; then with every loss there is.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::history::{Op, Pause, World};
use crate::policies::CHOICES;

type Step = (Pause, Op);

fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        4 => Just(Pause::Ms(0)),
        4 => (0..1_500u64).prop_map(Pause::Ms),
        2 => (1_500..12_000u64).prop_map(Pause::Ms),
        1 => (12_000..1_200_000u64).prop_map(Pause::Ms),
        3 => (0..4u8, -1..=1i8).prop_map(|(which, off)| Pause::Edge(which, off)),
    ]
}

fn picks() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..5)
}

fn grace() -> impl Strategy<Value = u16> {
    prop_oneof![1 => Just(0u16), 4 => 0..1_500u16, 2 => 1_500..12_000u16]
}

fn everyday() -> impl Strategy<Value = Op> {
    let newcomer = (prop::option::weighted(0.3, 0..5u8), prop::bool::weighted(0.3));
    let limit = |max| prop::option::of(0..max);
    prop_oneof![
        8 => prop::collection::vec(newcomer, 1..8).prop_map(Op::Arrive),
        6 => picks().prop_map(Op::Enter),
        4 => picks().prop_map(Op::Touch),
        4 => prop::collection::vec((any::<u8>(), any::<bool>()), 1..4).prop_map(Op::Leave),
        4 => prop::collection::vec((any::<u8>(), grace()), 1..4).prop_map(Op::Away),
        6 => any::<u64>().prop_map(Op::Observe),
        4 => Just(Op::Observe(u64::MAX)),
        1 => any::<bool>().prop_map(Op::Paused),
        1 => Just(Op::Paused(false)),
        1 => (limit(6u8), limit(4u8), limit(4u8)).prop_map(|(c, r, b)| Op::Limits(c, r, b)),
        1 => any::<u8>().prop_map(Op::Policy),
    ]
}

fn lossless() -> impl Strategy<Value = Step> {
    (pause(), prop_oneof![40 => everyday(), 1 => Just(Op::Reset)])
}

fn lossy() -> impl Strategy<Value = Step> {
    let back = || prop_oneof![3 => Just(0u32), 1 => 1..600_000u32];
    let loss = prop_oneof![
        3 => Just(Op::Save),
        2 => (0..100u16, back(), any::<bool>())
            .prop_map(|(ceiling, back, hints)| Op::Crash { ceiling, back, hints }),
        1 => back().prop_map(|back| Op::Restart { back }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(hints, known)| Op::Wipe { hints, known, back: 0 }),
        1 => (0..50u16).prop_map(Op::EnterUnseen),
    ];
    (pause(), prop_oneof![8 => everyday(), 2 => loss])
}

fn run(choice: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(CHOICES[choice]);
    // A room keeps four generations at most; more losses than that within one patience are not survived.
    let mut wipes = 0;
    for (index, (pause, op)) in steps.iter().enumerate() {
        wipes += usize::from(matches!(op, Op::Wipe { .. }));
        // Nor are two total losses by a clock that was set back before the first room of all.
        if matches!(op, Op::Wipe { .. }) && (wipes > 3 || world.auditor.order_lost) {
            continue;
        }
        world
            .step(*pause, op)
            .map_err(|broken| TestCaseError::fail(format!("step {index} ({pause:?}, {op:?}): {broken}")))?;
    }
    Ok(())
}

/// How many histories each property is tried on.
const CASES: u32 = 400;

/// The same histories at every run, so that a change is judged by itself and not by its luck; others are tried with
/// `PROPTEST_RNG_SEED=n`.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn without_a_loss_every_rule_holds(
        choice in 0..CHOICES.len(),
        steps in prop::collection::vec(lossless(), 1..70),
    ) {
        run(choice, &steps)?;
    }

    #[test]
    fn under_one_policy_every_rule_holds(
        choice in 0..CHOICES.len(),
        steps in prop::collection::vec(lossless(), 1..70),
    ) {
        let constant = |(_, op): &Step| !matches!(op, Op::Policy(_) | Op::Limits(..));
        run(choice, &steps.into_iter().filter(constant).collect::<Vec<_>>())?;
    }

    #[test]
    fn after_losses_the_rules_hold_but_for_what_was_lost(
        choice in 0..CHOICES.len(),
        steps in prop::collection::vec(lossy(), 1..70),
    ) {
        run(choice, &steps)?;
    }
}
