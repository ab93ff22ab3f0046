//! A room's snapshot from what the script answers, and what of it is kept so that it need not be sent each time.

use std::collections::HashSet;
use std::sync::Arc;

use fred::types::Value;

use super::decode::{Garbled, array, bytes, number, place, text};
use super::encode::bits_of;
use crate::room::eta::{History, Speed};
use crate::room::policy::{Millis, Policy};
use crate::room::rank::Ranked;
use crate::room::sessions::Expiring;
use crate::room::snapshot::{LineView, Snapshot};
use crate::room::standing::Place;
use crate::room::state::Limits;

/// What a replica keeps between two snapshots of a room.
#[derive(Default)]
pub(super) struct View {
    /// The texts that limits were read from, and those limits.
    policy: Option<(String, Read)>,
    /// Which revocations these are, and how many there have been.
    epoch: u64,
    revocations: u64,
    revoked: Expiring,
    /// The same as snapshots share it; made anew only after a change.
    shared: Arc<HashSet<Place>>,
}

/// Limits read from their texts.
#[derive(Clone)]
struct Read {
    stated: Arc<Policy>,
    limits: Limits,
    /// In force: the latter above the former.
    policy: Arc<Policy>,
}

impl View {
    /// The revocations that need not be sent again: what `lua/observe.lua` takes.
    pub(super) fn has(&self) -> String {
        format!("{} {}", self.epoch, self.revocations)
    }

    /// Reads an answer of `lua/observe.lua`.
    pub(super) fn snapshot(&mut self, value: Value) -> Result<Snapshot, Garbled> {
        let values: [Value; 17] = array(value)?.try_into().map_err(|_| Garbled("a snapshot of 17"))?;
        let [
            at,
            floor,
            paused,
            lost_at,
            sessions,
            epoch,
            revocations,
            goes_on,
            revoked,
            newest,
            history,
            policy,
            limits,
            lines,
            last_loss,
            ousted,
            controlled,
        ] = values;
        let at = number(&at)?;
        let Read { stated, limits, policy } = self.policy(text(&policy)?, text(&limits)?)?;
        let ousted = match text(&ousted)? {
            "" => None,
            other => Some(Arc::new(read_policy(other)?)),
        };
        self.revoke(number(&epoch)?, number(&revocations)?, number(&goes_on)? == 1, &array(revoked)?, at)?;
        let lines = array(lines)?.into_iter().map(line).collect::<Result<Vec<_>, _>>()?;
        let (waiting, called) = lines.iter().fold((0, 0), |(waiting, called), line| {
            (waiting + line.waiting.count(), called + line.called.count())
        });
        let (paused, sessions) = (number(&paused)? == 1, number(&sessions)?);
        let (paused_at, limits_at) = read_times(text(&controlled)?)?;
        let history = read_history(number(&newest)?, &bytes(history)?);
        let speed = Speed::of(&history, &policy, paused, at);
        Ok(Snapshot {
            at,
            floor: number(&floor)?,
            lines,
            waiting,
            called,
            sessions,
            speed,
            minute: history.minute(at),
            policy,
            stated,
            limits,
            limits_at,
            ousted,
            paused,
            paused_at,
            last_loss: number(&last_loss)?,
            lost_at: Some(number(&lost_at)?).filter(|at| *at > 0),
            revoked: self.shared.clone(),
            quiet: waiting == 0 && called == 0 && sessions == 0 && self.revoked.count() == 0,
        })
    }

    /// The limits in force; read only where their texts have changed.
    fn policy(&mut self, policy: &str, limits: &str) -> Result<Read, Garbled> {
        let texts = format!("{policy}\n{limits}");
        if let Some((_, read)) = self.policy.as_ref().filter(|(known, _)| *known == texts) {
            return Ok(read.clone());
        }
        let stated = Arc::new(read_policy(policy)?);
        let limits: Limits = match limits {
            "" => Limits::default(),
            limits => serde_json::from_str(json(limits)).map_err(|_| Garbled("limits of this version"))?,
        };
        let policy = Arc::new(limits.above(&stated));
        let read = Read { stated, limits, policy };
        self.policy = Some((texts, read.clone()));
        Ok(read)
    }

    fn revoke(
        &mut self,
        epoch: u64,
        revocations: u64,
        goes_on: bool,
        told: &[Value],
        at: u64,
    ) -> Result<(), Garbled> {
        let mut changed = !told.is_empty() || !goes_on;
        if goes_on {
            for entry in told {
                let (of, until) = text(entry)?.rsplit_once(':').ok_or(Garbled("place:until"))?;
                self.revoked.hold(place(of)?, until.parse().map_err(|_| Garbled("place:until"))?);
            }
        } else {
            self.revoked = Expiring::default();
            for pair in told.chunks(2) {
                let [of, until] = pair else { return Err(Garbled("pairs of place and until")) };
                self.revoked.hold(place(text(of)?)?, number(until)?);
            }
        }
        changed |= self.revoked.expire(at) > 0;
        if changed {
            self.shared = Arc::new(self.revoked.places().collect());
        }
        (self.epoch, self.revocations) = (epoch, revocations);
        Ok(())
    }
}

/// What stands below the line of numbers.
fn json(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, json)| json)
}

fn read_policy(text: &str) -> Result<Policy, Garbled> {
    serde_json::from_str(json(text)).map_err(|_| Garbled("a policy of this version"))
}

/// When the room was paused or resumed, and when its limits were set or cleared; an empty text: neither was.
fn read_times(text: &str) -> Result<(Millis, Millis), Garbled> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let read = || {
        let (paused_at, limits_at) = text.split_once(' ')?;
        Some((paused_at.parse().ok()?, limits_at.parse().ok()?))
    };
    read().ok_or(Garbled("two times"))
}

fn line(value: Value) -> Result<LineView, Garbled> {
    let values: [Value; 10] = array(value)?.try_into().map_err(|_| Garbled("a line of 10"))?;
    let [generation, next, head, in_doubt, waiting_base, waiting, called_base, called, away_base, away] =
        values;
    let bits = |base: &Value, set: Value| Ok(bits_of(number(base)?, &bytes(set)?));
    let ranked = |base: &Value, set: Value| Ok(Ranked::new(&bits(base, set)?));
    Ok(LineView {
        generation: number(&generation)?,
        next: number(&next)?,
        head: number(&head)?,
        in_doubt: number(&in_doubt)? == 1,
        waiting: ranked(&waiting_base, waiting)?,
        called: ranked(&called_base, called)?,
        away: bits(&away_base, away)?,
    })
}

/// The history: eight bytes for each bucket, newest first.
fn read_history(newest: u64, bytes: &[u8]) -> History {
    let half = |chunk: &[u8], at: usize| {
        chunk[at..at + 4].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    History::from_buckets(newest, bytes.chunks_exact(8).map(|chunk| (half(chunk, 0), half(chunk, 4))))
}
