//! A room's history: steps that happen to a room, with the auditor watching each.

use std::sync::Arc;

use anteroom::room::bits::Bits;
use anteroom::room::policy::{Millis, Policy};
use anteroom::room::rate::Rate;
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Hints, Limits, Newcomer, Outcome, State, Subject};

use crate::auditor::{Audit, Auditor, ensure, place_of};
use crate::policies::{CHOICES, policy};
use crate::visitor::Seat;

/// When histories begin.
pub(crate) const START: Millis = 1_700_000_000_000;

/// How long before a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    Ms(u64),
    /// One of the policy's own times (claim, session, patience, half of it), and some milliseconds off it.
    Edge(u8, i8),
}

/// What happens. Visitors are meant by any number, wrapped around those known.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Arrive(Vec<(Option<u8>, bool)>),
    Enter(Vec<u8>),
    /// A ticket nobody was seen to get, this far beyond the last number.
    EnterUnseen(u16),
    Touch(Vec<u8>),
    Leave(Vec<(u8, bool)>),
    /// The pages of these go away, each with its grace.
    Away(Vec<(u8, u16)>),
    /// Those whose bit is set in the mask are heard of.
    Observe(u64),
    Paused(bool),
    Limits(Option<u8>, Option<u8>, Option<u8>),
    Reset,
    Policy(u8),
    /// A checkpoint is written.
    Save,
    /// The room goes on from the last checkpoint, with the clock set back by so much; `hints`: a replica lives.
    Crash {
        ceiling: u16,
        back: u32,
        hints: bool,
    },
    /// The room goes on from where it was.
    Restart {
        back: u32,
    },
    /// All is lost, but for what a replica may still know: its hints, its last snapshot.
    Wipe {
        hints: bool,
        known: bool,
        back: u32,
    },
}

/// A room, what the outside knows of it, and the auditor.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) auditor: Auditor,
    pub(crate) now: Millis,
    pub(crate) snapshot: Snapshot,
    policy: Arc<Policy>,
    limits: Limits,
    hints: Hints,
    /// Whether calls carry hints, as those of a replica that outlived the loss do.
    hinting: bool,
    saved: String,
    saved_limits: (Arc<Policy>, Limits),
}

impl World {
    pub(crate) fn new(words: &str) -> Self {
        let policy = policy(words);
        let mut state = State::new(policy.clone(), START);
        let snapshot = state.observe(&Call::default(), &Beats::new(), None, START);
        let saved = serde_json::to_string(&state).unwrap();
        Self {
            auditor: Auditor::new(policy.clone(), START),
            state,
            now: START,
            snapshot,
            saved_limits: (policy.clone(), Limits::default()),
            policy,
            limits: Limits::default(),
            hints: Hints::default(),
            hinting: false,
            saved,
        }
    }

    /// Waits, does one thing, and holds everything that must hold against the snapshot of that instant.
    pub(crate) fn step(&mut self, pause: Pause, op: &Op) -> Audit {
        let in_force = self.in_force();
        self.now += match pause {
            Pause::Ms(ms) => ms,
            Pause::Edge(which, off) => {
                let edges =
                    [in_force.claim_ttl, in_force.session_ttl, in_force.patience, in_force.patience / 2];
                edges[usize::from(which) % edges.len()].saturating_add_signed(off.into())
            }
        };
        self.act(op)?;
        let generation = self.snapshot.generation();
        self.snapshot = self.state.observe(&self.call(), &Beats::new(), None, self.now);
        let anew = generation != self.snapshot.generation() && !matches!(op, Op::Reset);
        if anew || matches!(op, Op::Wipe { .. }) {
            // The store's part: a checkpoint of a new room or generation is written at once. A reset may get lost, as
            // where a replica of Redis takes over.
            self.save();
        }
        self.remember();
        self.auditor.check(&self.snapshot)?;
        self.check_tick()?;
        self.check_answers()
    }

    fn act(&mut self, op: &Op) -> Audit {
        match op {
            Op::Limits(capacity, rate, burst) => {
                self.limits = Limits {
                    capacity: capacity.map(Into::into),
                    rate: rate.map(|n| format!("{n}/s").parse::<Rate>().unwrap()),
                    burst: burst.map(|n| u32::from(n) + 1),
                };
            }
            Op::Policy(choice) => self.policy = policy(CHOICES[usize::from(*choice) % CHOICES.len()]),
            Op::Crash { back, .. } | Op::Restart { back } | Op::Wipe { back, .. } => {
                self.now -= u64::from(*back);
                self.lose(op);
                return Ok(());
            }
            _ => {}
        }
        self.auditor.advance(self.now, &self.in_force());
        let (call, now) = (self.call(), self.now);
        match op {
            Op::Arrive(newcomers) => {
                let newcomers: Vec<_> = newcomers
                    .iter()
                    .map(|(name, anew)| Newcomer { subject: name.map(|n| Subject([n; 16])), anew: *anew })
                    .collect();
                let outcomes = self.state.arrive(&call, &newcomers, now);
                self.auditor.arrived(&newcomers, &outcomes)?;
            }
            Op::Enter(picks) => {
                let places = self.pick_all(picks);
                self.enter(&places)?;
            }
            Op::EnterUnseen(beyond) => {
                let generation = self.snapshot.generation();
                let line = self.snapshot.lines.last().unwrap();
                let place = Place { generation, number: line.next + u64::from(*beyond) };
                self.auditor.meet_unseen(place);
                self.enter(&[place])?;
            }
            Op::Touch(picks) => {
                let passes: Vec<_> = self
                    .pick_all(picks)
                    .into_iter()
                    .filter_map(|place| Some((place, self.auditor.passes.shown(place, now)?)))
                    .collect();
                let answers = self.state.touch(&call, &passes, now);
                for ((place, _), answer) in passes.into_iter().zip(answers) {
                    self.auditor.touched(place, answer)?;
                }
            }
            Op::Leave(picks) => {
                let leaving: Vec<_> = picks
                    .iter()
                    .filter_map(|(pick, with_pass)| {
                        let place = self.pick(*pick)?;
                        Some((place, self.auditor.passes.until(place).filter(|_| *with_pass)))
                    })
                    .collect();
                self.state.leave(&call, &leaving, now);
                for (place, pass) in leaving {
                    self.auditor.left(place, pass.is_some());
                }
            }
            Op::Away(picks) => {
                let away: Vec<_> = picks
                    .iter()
                    .filter_map(|(pick, grace)| Some((self.pick(*pick)?, u64::from(*grace))))
                    .collect();
                let noted = self.state.away(&call, &away, now);
                for ((place, grace), noted) in away.into_iter().zip(noted) {
                    self.auditor.went_away(place, now + grace, noted)?;
                }
            }
            Op::Observe(mask) => self.observe(*mask),
            Op::Paused(true) => self.state.control(&call, Control::Pause, now),
            Op::Paused(false) => self.state.control(&call, Control::Resume, now),
            Op::Limits(..) => self.state.control(&call, Control::Limits(self.limits.clone()), now),
            Op::Reset => {
                self.state.control(&call, Control::Reset, now);
                self.auditor.reset();
            }
            Op::Policy(_) => {
                self.state.observe(&call, &Beats::new(), None, now);
            }
            Op::Save => {
                self.state.observe(&call, &Beats::new(), None, now);
                self.save();
            }
            Op::Crash { .. } | Op::Restart { .. } | Op::Wipe { .. } => {}
        }
        Ok(())
    }

    fn enter(&mut self, places: &[Place]) -> Audit {
        let outcomes = self.state.enter(&self.call(), places, self.now);
        for (place, outcome) in places.iter().zip(outcomes) {
            self.auditor.answered(*place, outcome)?;
        }
        Ok(())
    }

    fn observe(&mut self, mask: u64) {
        let mut beats = Beats::new();
        let mut heard = Vec::new();
        for (index, (place, visitor)) in self.auditor.visitors.iter().enumerate() {
            if visitor.seat != Seat::Waiting || mask >> (index % 64) & 1 == 0 {
                continue;
            }
            heard.push(*place);
            let line = beats.iter().position(|(generation, _)| *generation == place.generation);
            let line = line.unwrap_or_else(|| {
                beats.push((place.generation, Bits::default()));
                beats.len() - 1
            });
            beats[line].1.insert(place.number);
        }
        self.state.observe(&self.call(), &beats, None, self.now);
        self.auditor.heard(&heard);
    }

    /// The room loses all or part of its past and comes back.
    fn lose(&mut self, op: &Op) {
        let mut known = None;
        let mut full = false;
        match op {
            Op::Crash { ceiling, hints, .. } => {
                self.state = serde_json::from_str(&self.saved).unwrap();
                (self.policy, self.limits) = self.saved_limits.clone();
                self.hinting = *hints;
                let generation = self.state.hints().generation;
                if generation != self.snapshot.generation() {
                    // A reset was lost, and with it which of the generations came first.
                    self.auditor.order_lost = true;
                }
                let own = self.auditor.visitors.keys().filter(|place| place.generation == generation);
                let beyond = own.map(|place| place.number + 1).max().unwrap_or(1).max(self.state.next());
                self.state.resume(beyond + 1 + u64::from(*ceiling), self.now);
            }
            Op::Wipe { hints, known: handed, .. } => {
                // Generations are milliseconds, and a newer one than the clock's is the next above it: a room
                // made and lost within two of them is beyond both.
                self.now += 2;
                while self.auditor.knows_generation(self.now) || self.auditor.knows_generation(self.now - 1) {
                    self.now += 1;
                }
                self.state = State::new(self.policy.clone(), self.now);
                // What operators did comes back with the rest of what a replica knows.
                self.limits = if *handed { self.snapshot.limits.clone() } else { Limits::default() };
                self.hinting = *hints;
                self.auditor.order_lost |= self.now < self.snapshot.generation();
                full = true;
                known = handed.then_some(&self.snapshot);
            }
            _ => {
                let text = serde_json::to_string(&self.state).unwrap();
                self.state = serde_json::from_str(&text).unwrap();
                let next = self.state.next();
                self.state.resume(next, self.now);
            }
        }
        self.auditor.advance(self.now, &self.in_force());
        let snapshot = self.state.observe(&self.call(), &Beats::new(), known, self.now);
        self.auditor.begin_anew(&snapshot, full);
    }

    fn save(&mut self) {
        self.saved = serde_json::to_string(&self.state).unwrap();
        self.saved_limits = (self.policy.clone(), self.limits.clone());
    }

    /// Ticking twice at one instant changes nothing.
    fn check_tick(&mut self) -> Audit {
        let before = self.state.clone();
        self.state.observe(&self.call(), &Beats::new(), None, self.now);
        ensure!(
            before == self.state,
            "a second tick made {}\nof {}",
            serde_json::to_string(&self.state).unwrap_or_default(),
            serde_json::to_string(&before).unwrap_or_default()
        );
        Ok(())
    }

    /// What the snapshot knows of a ticket is what the room says when it is shown: 7.
    fn check_answers(&self) -> Audit {
        let line = self.snapshot.lines.last().unwrap();
        let unseen = [0, 1, line.next - 1, line.next, line.next + 100]
            .map(|number| Place { generation: line.generation, number });
        let old = Place { generation: START - 1_000, number: 3 };
        let places: Vec<_> = self.auditor.visitors.keys().copied().collect();
        let mut shown = self.state.clone();
        let together = shown.enter(&Call::default(), &places, self.now);
        // One by one while the room heals: a ticket that comes back moves those behind it.
        let healing = self.snapshot.lost_at.is_some();
        for (place, outcome) in places.iter().zip(together).filter(|_| !healing) {
            self.check_answer(*place, outcome)?;
        }
        for place in unseen.into_iter().chain([old]).chain(places.into_iter().filter(|_| healing)) {
            let outcome = self.state.clone().enter(&Call::default(), &[place], self.now)[0];
            self.check_answer(place, outcome)?;
        }
        Ok(())
    }

    fn check_answer(&self, place: Place, outcome: Outcome) -> Audit {
        let known = self.snapshot.know(place);
        let agrees = match (known, outcome) {
            (Known::Unknown, _)
            | (Known::Called, Outcome::Admitted(..))
            | (Known::Gone, Outcome::Gone(_)) => true,
            (Known::Waiting(guess), Outcome::Waiting(_, position)) => {
                let given = place.number < self.snapshot.lines.last().unwrap().next;
                if given { guess == position } else { guess >= position }
            }
            (Known::Gone, Outcome::Admitted(..)) => self.auditor.passes.until(place).is_some(),
            // A ticket beyond the last number stands for a lost past; with that, the line may move on at once.
            (Known::Waiting(_), Outcome::Admitted(..)) => {
                place.number >= self.snapshot.lines.last().unwrap().next
            }
            _ => false,
        };
        ensure!(agrees && place_of(outcome) == place, "7: {place:?} is {known:?}, but gets {outcome:?}");
        Ok(())
    }

    fn in_force(&self) -> Arc<Policy> {
        let mut policy = (*self.policy).clone();
        policy.capacity = self.limits.capacity.or(policy.capacity);
        policy.rate = self.limits.rate.or(policy.rate);
        policy.burst = self.limits.burst.unwrap_or(policy.burst);
        Arc::new(policy)
    }

    fn call(&self) -> Call {
        let hints = if self.hinting { self.hints } else { Hints::default() };
        Call { policy: Some(self.policy.clone()), hints }
    }

    /// A replica keeps the highest it has seen.
    fn remember(&mut self) {
        let line = self.snapshot.lines.last().unwrap();
        let floor = self.hints.floor.max(self.snapshot.floor);
        if line.generation > self.hints.generation {
            self.hints = Hints { generation: line.generation, next: line.next, head: line.head, floor };
        } else if line.generation == self.hints.generation {
            let (next, head) = (self.hints.next.max(line.next), self.hints.head.max(line.head));
            self.hints = Hints { next, head, floor, ..self.hints };
        }
    }

    fn pick(&self, pick: u8) -> Option<Place> {
        let count = self.auditor.visitors.len();
        self.auditor.visitors.keys().nth(usize::from(pick).checked_rem(count)?).copied()
    }

    fn pick_all(&self, picks: &[u8]) -> Vec<Place> {
        picks.iter().filter_map(|pick| self.pick(*pick)).collect()
    }
}
