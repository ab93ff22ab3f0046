//! Many users in one room: each is found again, none stands there twice, and they take Redis little.

use std::collections::BTreeMap;

use anteroom::room::standing::Place;
use anteroom::room::state::{Control, Newcomer, Outcome, Subject};
use anteroom::store::Store as _;

use crate::remains::{START, call, shop};
use crate::twins::Bench;

const KEY: &str = "anteroom:{shop}:users";
const OLD_KEY: &str = "anteroom:{shop}:subjects";
/// Bytes of a user in Redis: the name, then generation and number.
const ENTRY: usize = 30;

pub(crate) fn subject(number: u32) -> Subject {
    Subject::of(&["user", &number.to_string()])
}

fn users(numbers: std::ops::Range<u32>) -> Vec<Newcomer> {
    numbers.map(|number| Newcomer { subject: Some(subject(number)), anew: false }).collect()
}

fn places(outcomes: &[Outcome]) -> Vec<Place> {
    let place = |outcome: &Outcome| match outcome {
        Outcome::Admitted(place, _) | Outcome::Waiting(place, _) | Outcome::Gone(place) => *place,
    };
    outcomes.iter().map(place).collect()
}

impl Bench {
    /// The places of these users, who come a thousand at a time.
    fn come(&self, limits: &str, numbers: std::ops::Range<u32>) -> Vec<Place> {
        let call = call(limits);
        users(numbers).chunks(1_000).flat_map(|some| places(&self.arrive(&call, some))).collect()
    }

    /// The users that Redis has, with the bucket each is in. None may be there twice.
    fn users(&self) -> BTreeMap<Vec<u8>, u32> {
        let mut known = BTreeMap::new();
        let mut size = String::new();
        for field in self.server.reply(&["HGETALL", KEY]).list().chunks(2) {
            let [name, value] = field else { panic!("fields and values, not {field:?}") };
            if name.bytes() == b"size" {
                size = value.to_string();
                continue;
            }
            let bucket = name.to_string().parse().unwrap();
            let entries = value.bytes();
            assert!(!entries.is_empty() && entries.len() % ENTRY == 0, "bucket {bucket}: {entries:?}");
            for entry in entries.chunks(ENTRY) {
                let before = known.insert(entry[..16].to_vec(), bucket);
                assert_eq!(before, None, "a user who is there twice");
            }
        }
        let (buckets, count) = size.split_once(' ').unwrap();
        assert_eq!(count.parse(), Ok(known.len()));
        let buckets: u32 = buckets.parse().unwrap();
        assert!(known.values().all(|bucket| *bucket < buckets), "{buckets} buckets");
        known
    }
}

#[test]
fn ten_thousand_users_are_found_again_and_none_is_there_twice() {
    const LIMITS: &str = "capacity=0 claim_ttl=10s patience=20s identity=subject";
    let bench = Bench::new();
    bench.clock.set(START);
    let first = bench.come(LIMITS, 0..10_000);
    let numbers: Vec<_> = first.iter().map(|place| place.number).collect();
    assert!(numbers.iter().copied().eq(1..=10_000), "each has a number of their own");
    assert_eq!(bench.come(LIMITS, 0..10_000), first);
    let known = bench.users();
    assert_eq!(known.len(), 10_000);
    let mut sizes = BTreeMap::<u32, usize>::new();
    for bucket in known.values() {
        *sizes.entry(*bucket).or_default() += 1;
    }
    let largest = sizes.values().max().unwrap();
    assert!(sizes.len() > 1_500 && *largest < 40, "{} buckets, the largest of {largest}", sizes.len());

    // Every other one leaves; those are forgotten in time, and the others are not.
    let leaving: Vec<_> = first.iter().skip(1).step_by(2).map(|place| (*place, None)).collect();
    for some in leaving.chunks(1_000) {
        bench.runtime.block_on(bench.store.leave(&shop(), &call(LIMITS), some)).unwrap();
    }
    for tick in 1..=400 {
        bench.clock.set(START + tick * 10_001);
        bench.tick(&call(LIMITS));
    }
    assert_eq!(bench.users().len(), 5_000);
    let again = bench.come(LIMITS, 0..10_000);
    for (index, (before, after)) in first.iter().zip(&again).enumerate() {
        assert_eq!(index % 2 == 0, before == after, "user {index}: {before:?}, then {after:?}");
    }
    assert_eq!(bench.users().len(), 10_000);

    // All leave, and nothing stays.
    let leaving: Vec<_> = again.iter().map(|place| (*place, None)).collect();
    for some in leaving.chunks(1_000) {
        bench.runtime.block_on(bench.store.leave(&shop(), &call(LIMITS), some)).unwrap();
    }
    for tick in 401..=800 {
        bench.clock.set(START + tick * 10_001);
        bench.tick(&call(LIMITS));
    }
    assert!(!bench.server.keys().iter().any(|key| key == KEY), "{:?}", bench.server.keys());
}

/// The most that a user may take is 64 bytes; a field of their own took 90.
#[test]
fn a_user_takes_redis_less_than_64_bytes() {
    const USERS: u32 = 100_000;
    let bench = Bench::new();
    bench.clock.set(START);
    let used = || bench.server.info("memory")["used_memory"].parse::<i64>().unwrap();
    bench.come("capacity=0 patience=1h", 0..0);
    let before = used();
    bench.come("capacity=0 patience=1h identity=subject", 0..USERS);
    let of_key = bench.server.reply(&["MEMORY", "USAGE", KEY, "SAMPLES", "0"]).int();
    let bound = i64::from(USERS) * 64;
    assert!(of_key > i64::from(USERS) * 30 && of_key < bound, "{of_key} bytes for {USERS} users");
    // With the line, and what the server itself takes for its tables.
    let in_all = used() - before;
    println!("{:.1} bytes a user in the key, {:.1} in all", of_key as f64 / 1e5, in_all as f64 / 1e5);
    assert!(in_all < bound, "{in_all} bytes for {USERS} users in all");
}

#[test]
fn users_of_a_reset_room_are_strangers() {
    const LIMITS: &str = "capacity=0 patience=1h identity=subject";
    let bench = Bench::new();
    bench.clock.set(START);
    let first = bench.come(LIMITS, 0..500);
    bench.clock.set(START + 1);
    bench.runtime.block_on(bench.store.control(&shop(), &call(LIMITS), Control::Reset)).unwrap();
    assert!(!bench.server.keys().iter().any(|key| key == KEY));
    let second = bench.come(LIMITS, 0..500);
    assert!(second.iter().all(|place| place.generation > first[0].generation), "{second:?}");
    assert_eq!(bench.users().len(), 500);
}

/// A room that a version before has saved.
#[test]
fn users_of_the_form_before_keep_their_places() {
    const LIMITS: &str = "capacity=0 patience=1h identity=subject";
    let bench = Bench::new();
    bench.clock.set(START);
    let strangers = bench.arrive(&call(LIMITS), &[Newcomer::default(); 300]);
    for (number, place) in (0..).zip(places(&strangers)) {
        let place = format!("{}:{}", place.generation, place.number);
        bench.server.command(&[b"HSET".as_slice(), OLD_KEY.as_bytes(), &subject(number).0, place.as_bytes()]);
    }
    assert_eq!(bench.come(LIMITS, 0..300), places(&strangers));
    assert_eq!(bench.users().len(), 300);
    assert!(!bench.server.keys().iter().any(|key| key == OLD_KEY), "{:?}", bench.server.keys());
}
