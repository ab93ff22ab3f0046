//! How well times are told: what the estimate says of the end of the line, against when that turn comes.
//!
//! Judged by what visitors were told, and not by the rates that the estimate is made of: a mistake in those would
//! judge itself.

use std::collections::VecDeque;
use std::sync::Arc;

use super::policy::{Millis, Policy};
use super::snapshot::{LineView, Snapshot};

/// The most forecasts kept of a room, of 24 bytes each. Beyond that every other one goes.
const MAX: usize = 64;
/// The least time between two forecasts, in milliseconds.
const GRAIN_MS: Millis = 10_000;
/// Long waits are followed at greater intervals: this many to the time that is told.
const PER_WAIT: Millis = 32;
/// Shorter times are not followed: whole seconds told and a tick's delay would be most of the error.
const MIN_TOLD_S: u64 = 30;
/// Who waits this many times as long as told, is counted so before their turn: it may never come.
const GIVEN_UP: f64 = 4.0;
/// After so long without a look, in milliseconds, nobody knows here when a turn came, and nobody may have been called
/// for want of a store.
const GAP_MS: Millis = 5_000;

/// The forecasts of a room whose time has not come yet.
#[derive(Debug, Default)]
pub struct Forecasts {
    basis: Option<Basis>,
    looked_at: Millis,
    /// Oldest first.
    open: VecDeque<Forecast>,
}

/// What a forecast is made under. If it changes, it is not the estimate that was wrong.
#[derive(Debug, PartialEq)]
struct Basis {
    /// A reset makes a new one, and so does a total loss.
    generation: u64,
    /// After one nobody is called for a while, and whoever comes back may stand in front.
    last_loss: Millis,
    /// Limits, whoever changes them.
    policy: Arc<Policy>,
}

#[derive(Clone, Copy, Debug)]
struct Forecast {
    /// The last in line then.
    number: u64,
    at: Millis,
    /// How long their wait was to be.
    told: Millis,
}

impl Forecasts {
    /// Looks at a newer snapshot. Returns, for each forecast whose time has come, how long the wait was over how long was
    /// told: 1 is right, 2 twice as long, 0.5 half; 64 of them at most. Forgotten are those
    ///
    /// - that the line was paused, reset or hurt under, or other limits came into force: no estimate can know of that;
    /// - whose visitor has left the line, and so never had a turn;
    /// - that nobody looked at for 5 s.
    #[must_use]
    pub fn look(&mut self, snapshot: &Snapshot) -> Vec<f64> {
        let Some(line) = snapshot.lines.last() else { return Vec::new() };
        let basis = Some(Basis {
            generation: line.generation,
            last_loss: snapshot.last_loss,
            policy: snapshot.policy.clone(),
        });
        // Nor does anybody where the store's clock was set back.
        let is_gap = !(self.looked_at..=self.looked_at.saturating_add(GAP_MS)).contains(&snapshot.at);
        self.looked_at = snapshot.at;
        let is_hurt = snapshot.lines.iter().any(|line| line.in_doubt);
        if self.basis != basis || is_gap || snapshot.paused || is_hurt {
            self.basis = basis;
            self.open.clear();
        }
        let proved = self.prove(line, snapshot.at);
        if !snapshot.paused && !is_hurt {
            self.make(line, snapshot);
        }
        proved
    }

    fn prove(&mut self, line: &LineView, now: Millis) -> Vec<f64> {
        let mut proved = Vec::new();
        self.open.retain(|forecast| {
            let took = now.saturating_sub(forecast.at) as f64 / forecast.told as f64;
            let waits = line.waiting.contains(forecast.number);
            if waits && took < GIVEN_UP {
                return true;
            }
            // The head also passes those who leave. Who was called stands among the called, or before one of them.
            if waits || line.called.count() > line.called.rank(forecast.number) {
                proved.push(took);
            }
            false
        });
        proved
    }

    fn make(&mut self, line: &LineView, snapshot: &Snapshot) {
        // Everybody in older lines stands before them.
        let Some(number) = line.waiting.last() else { return };
        let eta = snapshot.speed.eta(snapshot.waiting);
        let Some(told) = eta.map(|eta| eta.seconds).filter(|seconds| *seconds >= MIN_TOLD_S) else { return };
        let told = told * 1_000;
        let apart = GRAIN_MS.max(told / PER_WAIT);
        if self.open.back().is_some_and(|last| snapshot.at.saturating_sub(last.at) < apart) {
            return;
        }
        if self.open.len() >= MAX {
            let mut stays = false;
            self.open.retain(|_| {
                stays = !stays;
                stays
            });
        }
        self.open.push_back(Forecast { number, at: snapshot.at, told });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::standing::Place;
    use crate::room::state::{Beats, Call, Control, Limits, Newcomer, Outcome, State};

    const START: Millis = 1_700_000_000_000;

    struct Line {
        state: State,
        forecasts: Forecasts,
        now: Millis,
        proved: Vec<f64>,
    }

    impl Line {
        fn of(pairs: &[(&str, &str)]) -> Self {
            let pairs = pairs.iter().copied().chain([("room", "shop"), ("patience", "24h")]);
            let state = State::new(Arc::new(Policy::parse(pairs).unwrap()), START);
            let mut line =
                Self { state, forecasts: Forecasts::default(), now: START + 60_000, proved: Vec::new() };
            line.look();
            line
        }

        fn come(&mut self, count: usize) -> Vec<Place> {
            let given = self.state.arrive(&Call::default(), &vec![Newcomer::default(); count], self.now);
            given
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Admitted(place, _) | Outcome::Waiting(place, _) | Outcome::Gone(place) => *place,
                })
                .collect()
        }

        fn look(&mut self) {
            let snapshot = self.state.observe(&Call::default(), &Beats::new(), None, self.now);
            self.proved.extend(self.forecasts.look(&snapshot));
        }

        /// Ticks once a second.
        fn pass(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now += 1_000;
                self.look();
                assert!(self.forecasts.open.len() <= MAX);
            }
        }

        fn control(&mut self, control: Control) {
            self.state.control(&Call::default(), control, self.now);
            self.look();
        }

        /// What was proved since the last time, least and most.
        fn range(&mut self) -> Option<(f64, f64)> {
            let proved = std::mem::take(&mut self.proved);
            let least = proved.iter().copied().reduce(f64::min)?;
            Some((least, proved.iter().copied().fold(least, f64::max)))
        }
    }

    #[test]
    fn a_steady_line_takes_a_little_less_than_told() {
        let mut line = Line::of(&[("rate", "2/s")]);
        for _ in 0..600 {
            line.come(2);
            line.come(usize::from(line.now % 4_000 < 1_000));
            line.pass(1);
        }
        // It grew to some 150, which are told 83 s and wait for 75.
        let (least, most) = line.range().unwrap();
        assert!(least > 0.8 && most < 1.0, "{least} to {most}");
    }

    #[test]
    fn a_line_that_slows_down_by_itself_was_told_too_little() {
        let mut line = Line::of(&[("capacity", "100"), ("claim_ttl", "1h"), ("session_ttl", "1h")]);
        let pass_until = Some(START + 7_200_000);
        let mut places = line.come(1_000).into_iter().map(|place| (place, pass_until));
        // Those inside leave, ten a second and then one.
        for leaving in std::iter::repeat_n(10, 60).chain(std::iter::repeat_n(1, 200)) {
            let leaving: Vec<_> = places.by_ref().take(leaving).collect();
            line.state.leave(&Call::default(), &leaving, line.now);
            line.pass(1);
        }
        let (_, most) = line.range().unwrap();
        assert!((GIVEN_UP..GIVEN_UP * 1.1).contains(&most), "{most}");
    }

    #[test]
    fn pauses_other_limits_and_resets_prove_nothing() {
        let slower = Limits { rate: "1/m".parse().ok(), ..Limits::default() };
        for control in [Control::Pause, Control::Limits(slower), Control::Reset] {
            let mut line = Line::of(&[("rate", "1/s")]);
            line.come(100);
            line.pass(50);
            assert!(line.forecasts.open.len() > 3, "{control:?}");
            line.control(control.clone());
            if control == Control::Pause {
                line.pass(600);
                assert!(line.forecasts.open.is_empty());
                line.control(Control::Resume);
                line.pass(60);
                let (least, most) = line.range().unwrap();
                // The pause says nothing about how fast the line moves without it.
                assert!(least > 0.8 && most < 1.0, "{least} to {most}");
            } else {
                line.pass(20);
                assert_eq!(line.range(), None, "{control:?}");
            }
        }
    }

    #[test]
    fn who_leaves_has_had_no_turn() {
        let mut line = Line::of(&[("rate", "1/s")]);
        let places = line.come(100);
        line.pass(20);
        assert!(line.forecasts.open.len() > 1);
        let places: Vec<_> = places.into_iter().map(|place| (place, None)).collect();
        line.state.leave(&Call::default(), &places, line.now);
        line.pass(200);
        assert_eq!((line.range(), line.forecasts.open.len()), (None, 0));
    }

    #[test]
    fn what_nobody_looked_at_proves_nothing() {
        let mut line = Line::of(&[("rate", "1/s")]);
        line.come(100);
        line.pass(20);
        line.now += 300_000;
        line.look();
        // One of this very moment.
        assert_eq!((line.range(), line.forecasts.open.len()), (None, 1));
    }

    #[test]
    fn a_night_in_line_is_followed_with_few_forecasts() {
        let mut line = Line::of(&[("rate", "1/s")]);
        for _ in 0..20_000 {
            line.come(2);
            line.pass(1);
        }
        assert!(line.forecasts.open.len() > MAX / 4);
        line.pass(21_000);
        assert!(line.proved.len() > 100, "{}", line.proved.len());
        let (least, most) = line.range().unwrap();
        assert!(least > 0.8 && most < 1.0, "{least} to {most}");
    }

    #[test]
    fn short_lines_are_not_followed() {
        let mut line = Line::of(&[("rate", "10/s")]);
        for _ in 0..100 {
            line.come(100);
            line.pass(20);
        }
        assert_eq!((line.range(), line.forecasts.open.len()), (None, 0));
    }
}
