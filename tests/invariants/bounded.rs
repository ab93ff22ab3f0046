//! A room that runs for long stays small.

use anteroom::room::bits::Bits;
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Newcomer, Outcome, State, Subject};

use crate::history::START;
use crate::policies::policy;

fn size(state: &State) -> usize {
    serde_json::to_string(state).unwrap().len()
}

/// A year in which somebody comes every five minutes (longer than `patience / 2`, so that liveness never rotates).
#[test]
fn a_year_of_slow_traffic_leaves_nothing_behind() {
    for words in ["rate=1/s", "capacity=5", "capacity=5 rate=10/m burst=3"] {
        let mut state = State::new(policy(words), START);
        for visit in 0..105_120u64 {
            let now = START + visit * 300_000;
            let mut name = [0; 16];
            name[..8].copy_from_slice(&visit.to_le_bytes());
            let newcomer = Newcomer { subject: Some(Subject(name)), anew: false };
            let outcome = state.arrive(&Call::default(), &[newcomer], now)[0];
            assert!(matches!(outcome, Outcome::Admitted(..)), "{words}: {outcome:?} on visit {visit}");
            if visit % 10_000 == 9_999 {
                assert!(size(&state) < 20_000, "{words}: {} bytes after {visit} visits", size(&state));
            }
        }
    }
}

/// Everybody is called and enters at once, for far longer than a session lasts.
#[test]
fn steady_traffic_without_a_line_leaves_nothing_behind() {
    let mut state = State::new(policy("capacity=100000 session_ttl=10s"), START);
    let newcomers = vec![Newcomer::default(); 300];
    let mut largest = (0, 0);
    for second in 0..4_000u64 {
        state.arrive(&Call::default(), &newcomers, START + second * 1_000);
        if second % 500 == 499 {
            let largest = if second < 2_000 { &mut largest.0 } else { &mut largest.1 };
            *largest = size(&state).max(*largest);
        }
    }
    assert!(largest.1 < largest.0 * 11 / 10, "grew from {} to {} bytes", largest.0, largest.1);
}

/// A line that never empties moves on for days: head is far from where it began, memory is not.
#[test]
fn a_line_that_never_empties_stays_as_large_as_its_waiting() {
    let mut state = State::new(policy("rate=300/s burst=300 claim_ttl=5s patience=10s"), START);
    let newcomers = vec![Newcomer::default(); 300];
    let mut largest = 0;
    for second in 0..3_000u64 {
        let now = START + second * 1_000;
        let outcomes = state.arrive(&Call::default(), &newcomers, now);
        if second < 5 {
            state.arrive(&Call::default(), &newcomers, now);
        }
        let generation = state.hints().generation;
        let mut heard = Bits::default();
        for outcome in outcomes {
            if let Outcome::Waiting(Place { number, .. }, _) = outcome {
                heard.insert(number);
            }
        }
        state.observe(&Call::default(), &vec![(generation, heard)], None, now);
        if second > 100 && second % 100 == 0 {
            largest = size(&state).max(largest);
        }
    }
    assert!(largest < 20_000, "{largest} bytes for 1,500 waiting and 1,500 called");
}

/// Calls at every millisecond under the longest `claim_ttl`: they are noted for few enough times.
#[test]
fn the_times_of_calls_are_bounded_under_a_long_claim() {
    let mut state = State::new(policy("rate=1000/s burst=1 claim_ttl=31d"), START);
    for ms in 0..150_000u64 {
        state.arrive(&Call::default(), &[Newcomer::default()], START + ms);
    }
    assert!(size(&state) < 3_500_000, "{} bytes", size(&state));
    let snapshot = state.observe(&Call::default(), &Beats::new(), None, START + 31 * 24 * 3_600_000 - 1);
    assert_eq!(snapshot.called, 150_000, "nobody's call runs out early");
    let grain = 31 * 24 * 3_600_000 / 65_536 + 1;
    let end = START + 31 * 24 * 3_600_000 + 150_000 + grain;
    let snapshot = state.observe(&Call::default(), &Beats::new(), None, end);
    assert_eq!(snapshot.called, 0, "nor much later than the last");
}
