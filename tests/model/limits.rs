//! The rate limits' twins: random requests of several keys under several quotas, on the rule and on the script.

use anteroom::clock::Clock;
use anteroom::room::gcra::{self, Quota, Tat};
use anteroom::store::ledger::{Claimed, Holder, Key, Ledger, Offer, Presence};
use anteroom::store::memory::ledger::MemoryLedger;
use anteroom::telemetry::metrics::Metrics;
use futures_util::future::join_all;
use proptest::prelude::*;

use crate::random::config;
use crate::twins::Bench;

const START: u64 = 1_700_000_000_000;
const QUOTAS: [&str; 8] = [
    "20/s burst 3",
    "7/m burst 5",
    "1000/s burst 1",
    "3333/s burst 40",
    "1000000/s burst 1000000",
    "1000000/h burst 1000000",
    "999983/h burst 999979",
    "1/h burst 1",
];

#[derive(Clone, Debug)]
enum Step {
    /// So many milliseconds pass.
    Pass(u32),
    /// The clock is set back by so many.
    Back(u32),
    /// Keys ask together, each under a quota.
    Ask(Vec<(u8, usize)>),
    /// A key is lost.
    Lose(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let ask = || (0..4u8, 0..QUOTAS.len());
    prop_oneof![
        8 => prop::collection::vec(ask(), 1..12).prop_map(Step::Ask),
        2 => ask().prop_map(|ask| Step::Ask(vec![ask; 50])),
        6 => (0..200u32).prop_map(Step::Pass),
        2 => (0..20_000_000u32).prop_map(Step::Pass),
        1 => (0..20_000_000u32).prop_map(Step::Back),
        1 => (0..4u8).prop_map(Step::Lose),
    ]
}

/// A key of each of four buckets; some of them hold more than one.
fn key(number: u8) -> Key {
    let mut key = Key::of(&[&[number]]);
    key.0[0] = number / 2;
    key
}

#[test]
fn rule_and_script_agree() {
    let bench = Bench::new();
    let ledger = bench.store.ledger();
    let mut runner = proptest::test_runner::TestRunner::new(config());
    let histories = prop::collection::vec(step(), 1..40);
    let result = runner.run(&histories, |steps| {
        bench.server.command(&["FLUSHALL"]);
        let mut now = START;
        let mut tats: [Option<Tat>; 4] = [None; 4];
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Pass(ms) => now += u64::from(*ms),
                Step::Back(ms) => now -= u64::from(*ms),
                Step::Lose(number) => {
                    tats[usize::from(*number)] = None;
                    let mut name = format!("anteroom:{{~{}}}:l", key(*number).bucket()).into_bytes();
                    name.extend(key(*number).0);
                    bench.server.command(&[b"DEL".as_slice(), &name]);
                }
                Step::Ask(asks) => {
                    bench.clock.set(now);
                    let asks: Vec<(u8, Quota)> = asks
                        .iter()
                        .map(|(number, quota)| (*number, QUOTAS[*quota].parse().unwrap()))
                        .collect();
                    let there =
                        join_all(asks.iter().map(|(number, quota)| ledger.spend(key(*number), *quota)));
                    let there = bench.runtime.block_on(there);
                    for ((number, quota), there) in asks.iter().zip(there) {
                        let tat = &mut tats[usize::from(*number)];
                        let (here, kept) = gcra::spend(*tat, quota, now * 1_000);
                        *tat = Some(kept);
                        prop_assert_eq!(here, there.unwrap(), "step {} at {}: {:?}", index, now, asks);
                    }
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn nothing_stays_and_little_is_kept() {
    let bench = Bench::in_real_time();
    let ledger = bench.store.ledger();
    let server = &bench.server;
    bench.runtime.block_on(async {
        ledger.spend(key(0), "20/s burst 40".parse().unwrap()).await.unwrap();
        ledger.spend(key(1), "7/m".parse().unwrap()).await.unwrap();
        for (key, by) in [(key(2), Holder::of("17")), (key(3), Holder::unique())] {
            assert_eq!(ledger.claim(key, by, 300_000).await.unwrap(), Claimed::First);
            let again = ledger.claim(key, Holder::of("18"), 300_000).await.unwrap();
            let Claimed::Taken(holder, left) = again else { panic!("twice") };
            assert!(holder == by && (200_000..=300_000).contains(&left), "{holder:?}: {left}");
        }
        let (first, second, other) = (Holder::of("17"), Holder::of("17"), Holder::unique());
        let memory = MemoryLedger::new(Clock::system(), Metrics::new(1).counting());
        for ledger in [&ledger as &dyn Ledger, &memory] {
            let claims = async |holder| ledger.claim(key(4), holder, 300_000).await.unwrap();
            let looks = async || ledger.look(key(4)).await.unwrap();
            for _ in 0..2 {
                assert_eq!(looks().await, Claimed::First, "that claims nothing");
            }
            assert_eq!(claims(other).await, Claimed::First);
            let Claimed::Taken(holder, left) = looks().await else { panic!("it is claimed") };
            assert!(holder == other && (200_000..=300_000).contains(&left), "{holder:?}: {left}");
            ledger.release(key(4), first).await.unwrap();
            assert!(
                matches!(claims(first).await, Claimed::Taken(holder, _) if holder == other),
                "it was not its own"
            );
            ledger.release(key(4), other).await.unwrap();
            assert_eq!(claims(first).await, Claimed::First);
            assert!(matches!(looks().await, Claimed::Taken(holder, _) if holder == first));
            assert!(matches!(claims(second).await, Claimed::Taken(holder, _) if holder == first));
            for try_ in [first, second] {
                // The other may have been heard.
                ledger.release(key(4), try_).await.unwrap();
                assert!(
                    matches!(claims(other).await, Claimed::Taken(holder, _) if holder == first.of_several())
                );
            }
            assert!(!other.is_of_one_request(first) && second.is_of_one_request(first) && second != first);
        }
        let presence = Presence { id: uuid::Uuid::new_v4(), checks: true };
        ledger.sync(&presence, 0, Offer::Nothing).await.unwrap();
    });
    for key in server.reply(&["KEYS", "*"]).list() {
        let name = key.bytes();
        let left: i64 = server.command(&[b"PTTL".as_slice(), name]).parse().unwrap();
        let text = String::from_utf8_lossy(name);
        assert!((0..=300_000).contains(&left), "{text}: {left}");
    }
}
