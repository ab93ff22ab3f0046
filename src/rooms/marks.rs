//! When numbers were given, as far as this process has seen: how long the first in line has waited, and how fast numbers
//! are given. The store keeps no time for each number.

use std::collections::VecDeque;

use crate::room::line::MARGIN;
use crate::room::policy::Millis;
use crate::room::snapshot::Snapshot;

/// The least time between two marks, in milliseconds.
const GRAIN_MS: Millis = 1_000;
/// How far back numbers are counted, in milliseconds.
const WINDOW_MS: Millis = 60_000;
/// The most marks of a room, of 24 bytes each. Beyond that, those older than the window are thinned out.
const MAX: usize = 128;
/// How many older ones are left then, about, evenly spread: the age of the first in line is known to within a twentieth.
const KEPT: Millis = 48;

/// How long nobody may have looked for a time to count as known, in milliseconds: no tick comes while a process takes the
/// room for a quiet one, because others' visitors have come since.
const GAP_MS: Millis = 2 * GRAIN_MS;

/// How long somebody has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// In milliseconds of the store's time.
    pub ms: Millis,
    /// They came while this process did not look: it was so long at least.
    pub at_least: bool,
}

/// Which numbers were given by when. Between two marks nobody came.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Millis,
    /// The next number to be given then.
    next: u64,
    /// Nobody had looked for a while: those before may have come long before.
    after_gap: bool,
}

/// The marks of a room.
#[derive(Debug, Default)]
pub(super) struct Marks {
    generation: u64,
    looked_at: Millis,
    noted: VecDeque<Mark>,
}

impl Marks {
    /// Takes note of a newer snapshot.
    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        let Some(line) = snapshot.lines.last() else { return };
        // Times from before the clock was set back say nothing of those since.
        let goes_on = self.generation == line.generation
            && snapshot.at >= self.looked_at
            && self.noted.back().is_some_and(|mark| {
                // A gap as wide as the one left after a loss says nothing about who came.
                line.next.checked_sub(mark.next).is_some_and(|given| given < MARGIN)
            });
        if !goes_on {
            self.generation = line.generation;
            self.noted.clear();
        }
        let after_gap = snapshot.at.saturating_sub(self.looked_at) > GAP_MS;
        self.looked_at = snapshot.at;
        let is_news = self
            .noted
            .back()
            .is_none_or(|mark| mark.next != line.next && snapshot.at.saturating_sub(mark.at) >= GRAIN_MS);
        if is_news {
            self.noted.push_back(Mark { at: snapshot.at, next: line.next, after_gap });
            self.thin(snapshot);
        }
    }

    fn thin(&mut self, snapshot: &Snapshot) {
        let first = snapshot.first().filter(|first| first.generation == self.generation);
        let wanted = first.map_or(u64::MAX, |first| first.number);
        let before_window = snapshot.at.saturating_sub(WINDOW_MS);
        while self.noted.get(1).is_some_and(|mark| mark.next <= wanted && mark.at <= before_window) {
            self.noted.pop_front();
        }
        if self.noted.len() > MAX {
            let window_begins = self.noted.partition_point(|mark| mark.at <= before_window);
            let step = before_window.saturating_sub(self.noted.front().map_or(0, |mark| mark.at)) / KEPT;
            let (mut index, mut kept_at, mut dropped_gap) = (0, None, false);
            self.noted.retain_mut(|mark| {
                index += 1;
                mark.after_gap |= std::mem::take(&mut dropped_gap);
                // The first says from when on anything is known, the last before the window what was given by then.
                let is_far = kept_at.is_none_or(|at| mark.at.saturating_sub(at) >= step);
                let stays = is_far || index >= window_begins;
                if stays {
                    kept_at = Some(mark.at);
                } else {
                    dropped_gap = mark.after_gap;
                }
                stays
            });
        }
    }

    /// How long the first in line has waited; `None`: nobody waits.
    pub(super) fn oldest(&self, snapshot: &Snapshot) -> Option<Waited> {
        let first = snapshot.first()?;
        let began = self.noted.front()?;
        let since = |at: Millis| snapshot.at.saturating_sub(at);
        if first.generation != self.generation || first.number < began.next {
            // Of an older line, or given before the first look.
            return Some(Waited { ms: since(began.at), at_least: true });
        }
        let mark = self.noted.iter().find(|mark| mark.next > first.number);
        Some(mark.map_or(Waited { ms: 0, at_least: false }, |mark| Waited {
            ms: since(mark.at),
            at_least: mark.after_gap,
        }))
    }

    /// How many numbers were given in the last minute, and in how many milliseconds: less where this process has not
    /// looked for so long.
    pub(super) fn given(&self, snapshot: &Snapshot) -> Option<(u64, Millis)> {
        let line = snapshot.lines.last().filter(|line| line.generation == self.generation)?;
        let begin = snapshot.at.saturating_sub(WINDOW_MS);
        let before = self.noted.partition_point(|mark| mark.at <= begin);
        let (from, mark) = match before.checked_sub(1) {
            Some(last) => (begin, self.noted.get(last)?),
            None => (self.noted.front()?.at, self.noted.front()?),
        };
        // After a long gap they may have come at any time in it: then that is the time to count by.
        let gap = self.noted.get(before).filter(|mark| mark.after_gap && before > 0);
        let from = if gap.is_some() { mark.at } else { from };
        Some((line.next.checked_sub(mark.next)?, snapshot.at.saturating_sub(from)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::room::policy::Policy;
    use crate::room::state::{Beats, Call, Control, Newcomer, State};

    const START: Millis = 1_700_000_000_000;

    struct Line {
        state: State,
        marks: Marks,
        now: Millis,
    }

    impl Line {
        fn standing() -> Self {
            let policy = Policy::parse([("room", "shop"), ("capacity", "0"), ("patience", "1h")]).unwrap();
            let state = State::new(Arc::new(policy), START);
            let mut line = Self { state, marks: Marks::default(), now: START };
            line.look();
            line
        }

        fn come(&mut self, count: usize) {
            self.state.arrive(&Call::default(), &vec![Newcomer::default(); count], self.now);
        }

        /// Ticks five times a second, for so many seconds.
        fn pass(&mut self, seconds: u64) -> Snapshot {
            for _ in 0..seconds * 5 {
                self.now += 200;
                self.look();
            }
            self.look()
        }

        fn look(&mut self) -> Snapshot {
            let snapshot = self.state.observe(&Call::default(), &Beats::new(), None, self.now);
            self.marks.note(&snapshot);
            snapshot
        }
    }

    #[test]
    fn the_first_in_line_has_waited_since_the_number_was_given() {
        let mut line = Line::standing();
        let snapshot = line.pass(5);
        assert_eq!(line.marks.oldest(&snapshot), None);
        line.come(3);
        let snapshot = line.pass(100);
        let waited = line.marks.oldest(&snapshot).unwrap();
        assert!(!waited.at_least && (98_500..=100_000).contains(&waited.ms), "{waited:?}");
        // A process that looks only now.
        let mut late = Marks::default();
        late.note(&snapshot);
        let waited = late.oldest(&line.pass(2)).unwrap();
        assert_eq!(waited, Waited { ms: 2_000, at_least: true });
    }

    #[test]
    fn hours_of_arrivals_take_little_memory_and_ages_stay_about_right() {
        let mut line = Line::standing();
        line.pass(2);
        for _ in 0..2_000 {
            line.come(2);
            line.pass(1);
        }
        assert!(line.marks.noted.len() <= MAX);
        let snapshot = line.pass(1);
        let waited = line.marks.oldest(&snapshot).unwrap();
        assert!(!waited.at_least && (1_900_000..=2_002_000).contains(&waited.ms), "{waited:?}");
        let (given, over) = line.marks.given(&snapshot).unwrap();
        assert!(over == 60_000 && (114..=122).contains(&given), "{given} in {over} ms");
    }

    #[test]
    fn who_came_while_nobody_looked_has_waited_so_long_at_least() {
        let mut line = Line::standing();
        line.come(1);
        line.now += 40_000;
        let snapshot = line.pass(3);
        assert_eq!(line.marks.oldest(&snapshot), Some(Waited { ms: 2_800, at_least: true }));
        assert_eq!(line.marks.given(&snapshot), Some((1, 43_000)));
    }

    #[test]
    fn a_reset_begins_anew() {
        let mut line = Line::standing();
        line.come(40);
        line.pass(30);
        line.state.control(&Call::default(), Control::Reset, line.now);
        let snapshot = line.look();
        assert_eq!(line.marks.given(&snapshot), Some((0, 0)));
        line.come(1);
        let snapshot = line.pass(10);
        assert_eq!(line.marks.given(&snapshot), Some((1, 10_000)));
        assert!(line.marks.oldest(&snapshot).is_some_and(|waited| !waited.at_least));
    }
}
