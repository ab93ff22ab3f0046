//! The checker: sees requests and answers only, with the times between which each happened, and says which rule
//! was broken.
//!
//! An answer may rest on a snapshot that is a little old, and two replicas' snapshots are not of the same instant.
//! So only what must be a breach however the times within those bounds fell is called one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::door::{Answer, Place, Told};

/// How old a snapshot may be that answers rest on while the store answers: some ticks, on a busy machine.
pub(crate) const STALE: Duration = Duration::from_secs(1);

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// A Check without a token.
    Arrive,
    /// A Check with a ticket: whether it is their turn.
    Enter,
    /// A Check with a pass.
    Pass,
    Poll,
    Stream,
    Leave,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) visitor: usize,
    pub(crate) place: Option<Place>,
    pub(crate) way: Way,
    /// Which replica answered.
    pub(crate) door: usize,
    pub(crate) sent: Duration,
    pub(crate) received: Duration,
    /// `None`: it was about leaving.
    pub(crate) told: Option<Told>,
}

impl Event {
    /// Whether what was asked was answered, rather than put off or failed.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(self.told, Some(Told::Held | Told::Failed(_)))
    }
}

/// Everything that was asked and answered in one room.
pub(crate) struct Ledger {
    begun: Instant,
    events: Mutex<Vec<Event>>,
}

/// What it comes to: the rule that was broken, if one was.
pub(crate) type Verdict = Result<(), String>;

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), events: Mutex::default() }
    }

    /// The time since the ledger was begun.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// Notes the answer to a request sent at `sent`.
    pub(crate) fn answered(&self, visitor: usize, way: Way, door: usize, sent: Duration, answer: &Answer) {
        let (place, told) = (answer.tokens.place(), Some(answer.told.clone()));
        self.note(Event { visitor, place, way, door, sent, received: self.now(), told });
    }

    /// All events, in the order of their answers.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        events.sort_by_key(|event| event.received);
        events
    }
}

/// What one visitor went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) place: Option<Place>,
    /// When the request was sent that gave the place.
    came: Duration,
    /// When the last request was sent that was answered "waiting".
    waited: Duration,
    /// When they were first told that it was their turn.
    called: Option<Duration>,
    /// When they first asked to leave.
    left: Option<Duration>,
}

/// The ledger's events by visitor; an error if a place changed or was lost on the way.
pub(crate) fn stories(events: &[Event]) -> Result<BTreeMap<usize, Story>, String> {
    let mut stories = BTreeMap::<usize, Story>::new();
    for event in events {
        let story = stories.entry(event.visitor).or_default();
        let Some(told) = &event.told else {
            story.left.get_or_insert(event.sent);
            continue;
        };
        if let Some(place) = event.place {
            match story.place {
                Some(held) if held != place => {
                    return Err(format!(
                        "visitor {} had place {held:?} and was given {place:?}: {event:?}",
                        event.visitor
                    ));
                }
                Some(_) => {}
                None => (story.place, story.came) = (Some(place), event.sent),
            }
        }
        match told {
            Told::Waiting(_) if story.called.is_none() => story.waited = story.waited.max(event.sent),
            Told::Called | Told::Inside => {
                story.called.get_or_insert(event.received);
            }
            Told::Gone if story.left.is_none() => {
                return Err(format!("visitor {} lost the place {:?}: {event:?}", event.visitor, story.place));
            }
            _ => {}
        }
    }
    Ok(stories)
}

/// Each number was given once. `dense`: none was left out either.
pub(crate) fn numbers(stories: &BTreeMap<usize, Story>, dense: bool) -> Verdict {
    let mut owners = HashMap::new();
    for (visitor, story) in stories {
        if let Some(place) = story.place
            && let Some(other) = owners.insert(place, visitor)
        {
            return Err(format!("{place:?} was given to visitors {other} and {visitor}"));
        }
    }
    let mut places: Vec<_> = owners.into_keys().collect();
    places.sort_unstable();
    let first = places.first().copied().unwrap_or_default();
    for (step, place) in (0..).zip(&places) {
        if dense && *place != (first.0, 1 + step) {
            return Err(format!(
                "the number {} of generation {} was not given, but {place:?}",
                1 + step,
                first.0
            ));
        }
    }
    Ok(())
}

/// Nobody was still waiting when somebody behind them had been called for longer than `stale`.
pub(crate) fn order(stories: &BTreeMap<usize, Story>, stale: Duration) -> Verdict {
    let mut placed: Vec<_> = stories.values().filter_map(|story| Some((story.place?, story))).collect();
    placed.sort_by_key(|(place, _)| *place);
    // From the back: the earliest call of anybody behind.
    let mut earliest: Option<(Duration, Place)> = None;
    for (place, story) in placed.into_iter().rev() {
        if let Some((called, behind)) = earliest
            && story.waited > called + stale
        {
            return Err(format!(
                "{behind:?} was called at {called:?}, and {place:?} waited at {:?}",
                story.waited
            ));
        }
        if let Some(called) = story.called
            && earliest.is_none_or(|(first, _)| called < first)
        {
            earliest = Some((called, place));
        }
    }
    Ok(())
}

/// At no instant did more hold a slot than there are, counting those who surely did: from the answer that said so to
/// the request to leave.
pub(crate) fn capacity(stories: &BTreeMap<usize, Story>, capacity: usize) -> Result<usize, String> {
    let mut steps = Vec::new();
    for story in stories.values() {
        if let Some(called) = story.called {
            steps.push((called, 1));
            // At the same instant, who leaves goes first.
            steps.extend(story.left.map(|left| (left.max(called), -1)));
        }
    }
    steps.sort_unstable();
    let (mut held, mut most) = (0i64, 0i64);
    for (at, step) in steps {
        held += step;
        most = most.max(held);
        if usize::try_from(held).is_ok_and(|held| held > capacity) {
            return Err(format!("{held} held a slot at {at:?}, and there are {capacity}"));
        }
    }
    Ok(usize::try_from(most).unwrap_or(0))
}

/// In no stretch of time were surely more called than `burst` + `rate` a second. A call lies between the last request
/// that was answered "waiting", less `stale`, and the answer that told of it; without `stale` (after an outage,
/// when snapshots were old) only from the arrival on.
pub(crate) fn rate(
    stories: &BTreeMap<usize, Story>,
    rate: f64,
    burst: f64,
    stale: Option<Duration>,
) -> Verdict {
    let span = |story: &Story| {
        let from = stale.map_or(story.came, |stale| story.waited.saturating_sub(stale).max(story.came));
        Some((from, story.called?))
    };
    let mut calls: Vec<_> = stories.values().filter_map(span).collect();
    calls.sort_by_key(|(_, told)| *told);
    let mut starts: Vec<_> = calls.iter().map(|(from, _)| *from).collect();
    starts.sort_unstable();
    starts.dedup();
    for start in starts {
        let within = calls.iter().filter(|(from, _)| *from >= start);
        for (count, (_, told)) in (1u32..).zip(within) {
            let allowed = burst + rate * told.saturating_sub(start).as_secs_f64();
            if f64::from(count) > allowed + 1e-6 {
                return Err(format!(
                    "{count} were called between {start:?} and {told:?}, and {allowed:.1} may be"
                ));
            }
        }
    }
    Ok(())
}

/// No position rose: not at one replica, nor beyond what snapshots of two replicas may differ by. Returns how many
/// rose between replicas within that.
pub(crate) fn positions(events: &[Event], stale: Duration) -> Result<usize, String> {
    let mut last = HashMap::<(usize, usize), (u64, Duration)>::new();
    let mut all = HashMap::<usize, Vec<(Duration, u64)>>::new();
    let mut between = 0;
    for event in events {
        let Some(Told::Waiting(position)) = event.told else { continue };
        if let Some((before, at)) = last.insert((event.visitor, event.door), (position, event.received))
            && position > before
            && at <= event.sent
        {
            return Err(format!("visitor {} was told {before}, then {position}: {event:?}", event.visitor));
        }
        let told = all.entry(event.visitor).or_default();
        let lowest =
            told.iter().filter(|(at, _)| *at + stale < event.sent).map(|(_, position)| *position).min();
        if lowest.is_some_and(|lowest| position > lowest) {
            return Err(format!(
                "visitor {} was told {lowest:?} long before {position}: {event:?}",
                event.visitor
            ));
        }
        between += usize::from(told.last().is_some_and(|(_, before)| position > *before));
        told.push((event.received, position));
    }
    Ok(between)
}

/// Those who wait stand in the order of their places, and were told positions of their own.
pub(crate) fn standings(told: &BTreeMap<Place, Told>) -> Verdict {
    let mut before: Option<(Place, u64)> = None;
    for (place, told) in told {
        match (told, before) {
            (Told::Waiting(position), Some((other, front))) if *position <= front => {
                return Err(format!("{other:?} stands at {front}, and {place:?} behind it at {position}"));
            }
            (Told::Waiting(position), _) => before = Some((*place, *position)),
            (Told::Called | Told::Inside, None) => {}
            (Told::Called | Told::Inside, Some((other, _))) => {
                return Err(format!("{place:?} was called, and {other:?} before it still waits"));
            }
            _ => return Err(format!("{place:?} was told {told:?}")),
        }
    }
    Ok(())
}

/// The answers that are none, counted by what was asked and what came instead.
pub(crate) fn failures(events: &[Event]) -> BTreeMap<(Way, String), usize> {
    let mut failures = BTreeMap::new();
    for event in events {
        let why = match &event.told {
            Some(Told::Failed(why)) => why.clone(),
            Some(Told::Held) => "held".to_owned(),
            _ => continue,
        };
        *failures.entry((event.way, why)).or_default() += 1;
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn event(visitor: usize, ms: u64, place: Option<Place>, told: Told) -> Event {
        let (sent, received) = (at(ms), at(ms + 1));
        Event { visitor, place, way: Way::Poll, door: 0, sent, received, told: Some(told) }
    }

    fn told(pairs: &[(u64, Told)]) -> BTreeMap<Place, Told> {
        pairs.iter().map(|(number, told)| ((1, *number), told.clone())).collect()
    }

    #[test]
    fn a_number_given_twice_or_left_out_is_found() {
        let given = |numbers_given: &[u64]| {
            let each = numbers_given.iter().enumerate();
            let events: Vec<_> = each.map(|(v, n)| event(v, 0, Some((1, *n)), Told::Waiting(1))).collect();
            stories(&events).unwrap()
        };
        assert!(numbers(&given(&[1, 2, 3]), true).is_ok());
        assert!(numbers(&given(&[1, 2, 2]), false).is_err());
        assert!(numbers(&given(&[1, 2, 4]), true).is_err() && numbers(&given(&[1, 2, 4]), false).is_ok());
    }

    #[test]
    fn a_lost_or_changed_place_is_found() {
        let first = event(0, 0, Some((1, 1)), Told::Waiting(1));
        assert!(stories(&[first.clone(), event(0, 9, Some((1, 2)), Told::Waiting(1))]).is_err());
        assert!(stories(&[first.clone(), event(0, 9, None, Told::Gone)]).is_err());
        assert!(stories(&[first, event(0, 9, None, Told::Waiting(1))]).is_ok());
    }

    #[test]
    fn a_call_out_of_turn_is_found() {
        let history = |waits_until: u64| {
            let events = [
                event(0, 0, Some((1, 1)), Told::Waiting(1)),
                event(1, 0, Some((1, 2)), Told::Waiting(2)),
                event(1, 100, None, Told::Called),
                event(0, waits_until, None, Told::Waiting(1)),
            ];
            stories(&events).unwrap()
        };
        assert!(order(&history(500), STALE).is_ok());
        assert!(order(&history(1_500), STALE).is_err());
    }

    #[test]
    fn one_too_many_inside_or_called_is_found() {
        let events: Vec<_> = (0..3).map(|v| event(v, 0, Some((1, v as u64 + 1)), Told::Inside)).collect();
        let stories = stories(&events).unwrap();
        assert_eq!(capacity(&stories, 3), Ok(3));
        assert!(capacity(&stories, 2).is_err());
        assert!(rate(&stories, 1.0, 3.0, None).is_ok() && rate(&stories, 1.0, 2.0, None).is_err());
    }

    #[test]
    fn a_position_that_rises_is_found() {
        let rises = |first: usize, second: usize, ms: u64| {
            let told = |door, ms, position| Event { door, ..event(0, ms, None, Told::Waiting(position)) };
            positions(&[told(first, 0, 3), told(second, ms, 4)], STALE)
        };
        assert!(rises(0, 0, 10).is_err());
        assert_eq!(rises(0, 1, 10), Ok(1));
        assert!(rises(0, 1, 2_000).is_err());
    }

    #[test]
    fn a_line_out_of_order_is_found() {
        let waits = Told::Waiting;
        assert!(standings(&told(&[(1, Told::Called), (2, waits(1)), (5, waits(2))])).is_ok());
        assert!(standings(&told(&[(2, waits(2)), (5, waits(1))])).is_err());
        assert!(standings(&told(&[(2, waits(1)), (5, Told::Called)])).is_err());
        assert!(standings(&told(&[(2, Told::Gone)])).is_err());
    }
}
