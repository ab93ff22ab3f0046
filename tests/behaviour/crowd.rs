//! Many at once: numbers stay unique and dense, and capacity holds at every instant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Newcomer, Outcome};
use anteroom::store::Store;
use parking_lot::Mutex;

use crate::policies::{name, under};
use crate::store::place;

const TASKS: usize = 16;
const ROUNDS: usize = 40;
const CAPACITY: u64 = 5;

/// What the crowd sees of the room, from outside.
#[derive(Default)]
struct Seen {
    numbers: Mutex<BTreeSet<u64>>,
    inside: AtomicU64,
    entered: AtomicU64,
}

pub(crate) async fn unique_numbers_and_capacity(store: Arc<dyn Store>) {
    let seen = Arc::new(Seen::default());
    let visitors: Vec<_> =
        (0..TASKS).map(|seed| tokio::spawn(visit(store.clone(), seen.clone(), seed))).collect();
    for visitor in visitors {
        visitor.await.unwrap();
    }
    let numbers = std::mem::take(&mut *seen.numbers.lock());
    let arrivals: usize =
        (0..TASKS).map(|seed| (0..ROUNDS).map(|round| batch(seed, round)).sum::<usize>()).sum();
    assert_eq!(numbers.len(), arrivals, "each number once");
    assert_eq!(numbers.last().copied(), u64::try_from(arrivals).ok(), "and none left out");
    assert!(seen.entered.load(Ordering::SeqCst) >= CAPACITY, "nobody got in");
    let call = under("capacity=5");
    let snapshot = store.observe(&name("shop"), &call, &Beats::new(), None).await.unwrap();
    let left = seen.inside.load(Ordering::SeqCst);
    assert_eq!((snapshot.sessions, snapshot.generation() > 0), (left, true));
}

fn batch(seed: usize, round: usize) -> usize {
    1 + (seed + round) % 7
}

/// Arrives, enters when called, leaves again: all the while counting who is inside as visitors know it.
async fn visit(store: Arc<dyn Store>, seen: Arc<Seen>, seed: usize) {
    let (room, call) = (name("shop"), under("capacity=5"));
    let mut mine: Vec<Place> = Vec::new();
    let mut inside: Vec<(Place, u64)> = Vec::new();
    for round in 0..ROUNDS {
        let newcomers = vec![Newcomer::default(); batch(seed, round)];
        let outcomes = store.arrive(&room, &call, &newcomers).await.unwrap();
        {
            let mut numbers = seen.numbers.lock();
            for outcome in &outcomes {
                assert!(numbers.insert(place(outcome).number), "{outcome:?} twice");
            }
        }
        let shown = store.enter(&room, &call, &mine).await.unwrap();
        let was_inside: BTreeSet<Place> = inside.iter().map(|(place, _)| *place).collect();
        for outcome in outcomes.iter().chain(&shown) {
            match outcome {
                Outcome::Admitted(place, until) if !was_inside.contains(place) => {
                    let now = seen.inside.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(now <= CAPACITY, "{now} inside");
                    seen.entered.fetch_add(1, Ordering::SeqCst);
                    inside.push((*place, *until));
                }
                Outcome::Gone(place) => panic!("{place:?} is gone"),
                _ => {}
            }
        }
        mine.extend(outcomes.iter().map(place));
        if let Some((place, until)) = inside.pop() {
            mine.retain(|kept| *kept != place);
            // Counted before: from here on the slot may be somebody else's.
            seen.inside.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(store.leave(&room, &call, &[(place, Some(until))]).await.unwrap(), [true]);
        }
        tokio::task::yield_now().await;
    }
}
