//! A rush: 300,000 arrive within ten seconds, some give up, and everybody is called in the order they came.

use anteroom::room::bits::Bits;
use anteroom::room::snapshot::Known;
use anteroom::room::standing::Place;
use anteroom::room::state::{Call, Newcomer, Outcome, State};

use crate::history::START;
use crate::policies::policy;

const TICK_MS: u64 = 500;
const ARRIVALS: u64 = 300_000;
const ARRIVALS_PER_TICK: u64 = 15_000;
const RATE: u64 = 1_000;
const BURST: u64 = 5_000;

/// Whether the visitor gives their place up, and after how many ticks: a fixed scatter, one in ten.
fn abandons(number: u64) -> Option<u64> {
    let scatter = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (scatter.is_multiple_of(10)).then_some(1 + scatter % 200)
}

#[test]
fn a_rush_is_called_in_the_order_it_came() {
    let mut state = State::new(policy("rate=1000/s burst=5000 claim_ttl=10s patience=180s"), START);
    let call = Call::default();
    let newcomers = vec![Newcomer::default(); usize::try_from(ARRIVALS_PER_TICK).unwrap()];
    let mut leaving: Vec<Vec<(Place, Option<u64>)>> = vec![Vec::new(); 300];
    let mut everybody = Bits::default();
    let (mut left, mut head, mut tick) = (0u64, 1, 0u64);
    let admitted = loop {
        let now = START + tick * TICK_MS;
        if tick * ARRIVALS_PER_TICK < ARRIVALS {
            for outcome in state.arrive(&call, &newcomers, now) {
                let (Outcome::Admitted(place, _) | Outcome::Waiting(place, _)) = outcome else {
                    panic!("{outcome:?} for a newcomer");
                };
                assert!(everybody.insert(place.number), "{place:?} was given twice");
                if let Some(ticks) = abandons(place.number) {
                    leaving[usize::try_from(tick + ticks).unwrap()].push((place, None));
                }
            }
        }
        if let Some(batch) = leaving.get(usize::try_from(tick).unwrap()) {
            // Only those still in line count as having given up.
            let waited = state.observe(&call, &vec![], None, now);
            let waits = |place: &Place| matches!(waited.know(*place), Known::Waiting(_));
            left += batch.iter().filter(|(place, _)| waits(place)).count() as u64;
            state.leave(&call, batch, now);
        }
        let generation = state.hints().generation;
        let snapshot = state.observe(&call, &vec![(generation, everybody.clone())], None, now);
        let line = &snapshot.lines[0];
        assert!(line.head >= head, "the head went back");
        head = line.head;
        // In number order: nobody before the head still waits, nobody behind it was called.
        assert_eq!(line.waiting.rank(head), 0, "somebody was passed over at {now}");
        assert_eq!(line.called.rank(head), line.called.count(), "somebody was called early at {now}");
        let given = line.next - 1;
        let admitted = given - left - snapshot.waiting;
        assert!(admitted <= BURST + RATE * tick * TICK_MS / 1_000, "{admitted} called in {tick} ticks");
        if given == ARRIVALS && snapshot.waiting == 0 {
            break admitted;
        }
        tick += 1;
        assert!(tick < 4_000, "the line does not end");
    };
    assert_eq!(admitted + left, ARRIVALS);
    assert!(left > 10_000, "only {left} gave up");
    // Never idle, never over: burst at once, then the rate, to the tick.
    let expected = (admitted - BURST).div_ceil(RATE * TICK_MS / 1_000);
    assert_eq!(tick, expected, "{admitted} called");
}
