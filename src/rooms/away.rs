//! Words of pages that go away: kept back for a moment, then passed on to the store, many in one call.
//!
//! A word must not be overtaken by what was heard of its visitor before: a heartbeat may still be on its way to the
//! store, and the stream of a closed page be open for a moment longer. So it waits until both are over.

use std::collections::VecDeque;

use super::visit::{Shown, VisitError};
use super::{Room, Rooms};
use crate::room::away::grace;
use crate::room::bits::Bits;
use crate::room::eta::poll_after;
use crate::room::policy::Millis;
use crate::room::snapshot::{Known, LineView, Snapshot};
use crate::room::standing::Place;
use crate::room::token::{Claims, Kind};
use crate::telemetry::metrics::label::StoreOp;

/// How long a word is kept back, in milliseconds: longer than the longest tick, which carries the heartbeats.
const SETTLE_MS: Millis = 2_000;
/// The longest a word is kept, should the store not answer: silence does it then.
const KEEP_MS: Millis = 60_000;
/// The most words kept for a room; of those that come on top, silence does it, too.
const MAX: usize = 65_536;
/// The most passed on in one call.
const BATCH: usize = 1_000;

/// A page said that it is going away.
#[derive(Clone, Copy, Debug)]
struct Word {
    said_at: Millis,
    place: Place,
    grace: Millis,
}

/// The words of a room that the store has not heard yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Words {
    waiting: VecDeque<Word>,
}

impl Words {
    /// Keeps a word; `false` if there are as many as allowed.
    fn keep(&mut self, word: Word) -> bool {
        let fits = self.waiting.len() < MAX;
        if fits {
            self.waiting.push_back(word);
        }
        fits
    }

    /// Takes out what is to be passed on now, and drops what is too old.
    fn take(&mut self, now: Millis) -> Vec<Word> {
        let ripe = |word: &Word, age| now.saturating_sub(word.said_at) >= age;
        while self.waiting.pop_front_if(|word| ripe(word, KEEP_MS)).is_some() {}
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(word) = self.waiting.pop_front_if(|word| ripe(word, SETTLE_MS))
        {
            taken.push(word);
        }
        taken
    }

    /// Puts back what could not be passed on.
    fn put_back(&mut self, words: Vec<Word>) {
        for word in words.into_iter().rev() {
            self.waiting.push_front(word);
        }
        self.waiting.truncate(MAX);
    }

    /// Nobody is in line: there is nothing to give up.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Rooms {
    /// Notes that the page of the ticket stated, else of every ticket shown, is going away: its place is given up
    /// unless it is heard of again within a grace. Costs no store call of its own. Whether a ticket held.
    pub async fn away(&self, room: &Room, shown: &Shown) -> Result<bool, VisitError> {
        let snapshot = self.snapshot_of(room).await?;
        let held = self.each_held(Kind::Ticket, room, shown);
        for place in held.iter().map(Claims::place) {
            let poll_after = match room.know(&snapshot, place) {
                Known::Waiting(position) => snapshot.waiting_at(place, position).poll_after,
                // Whatever they were told, it was not more than this.
                Known::Called | Known::Unknown => poll_after(None, &snapshot.policy),
                Known::Gone => continue,
            };
            room.stirs();
            let word = Word { said_at: self.now(), place, grace: grace(poll_after, &snapshot.policy) };
            if !room.words.lock().keep(word) {
                room.metrics.away_ignored(1);
            }
        }
        Ok(!held.is_empty())
    }

    /// Passes on the words that have waited long enough.
    pub(super) async fn pass_words_on(&self, room: &Room) {
        let mut words = room.words.lock().take(self.now());
        // A stream that is still open is a second tab.
        words.retain(|word| !room.watchers.has(word.place));
        if words.is_empty() {
            return;
        }
        let places: Vec<_> = words.iter().map(|word| (word.place, word.grace)).collect();
        let away = |call| self.store.away(&room.name, call, &places);
        match self.asked(room, StoreOp::Away, &room.says(), away).await {
            Ok(noted) => {
                let count = |wanted| noted.iter().filter(|was_noted| **was_noted == wanted).count();
                room.metrics.away_noted(count(true));
                room.metrics.away_ignored(count(false));
            }
            // Counted and logged where the store is called; the next tick tries again.
            Err(_) => room.words.lock().put_back(words),
        }
    }
}

impl Room {
    /// Speaks up for those who have gone away somewhere else, and have a stream open here.
    pub(super) fn speak_up(&self, before: Option<&Snapshot>, snapshot: &Snapshot) {
        for line in &snapshot.lines {
            for number in newly_away(before, line) {
                let place = Place { generation: line.generation, number };
                if self.watchers.has(place) {
                    self.hear(place);
                }
            }
        }
    }
}

/// Who is away in `line` and was not so in the snapshot before.
fn newly_away(before: Option<&Snapshot>, line: &LineView) -> impl Iterator<Item = u64> + use<> {
    let mut away = Bits::default();
    if !line.away.is_empty() {
        away.clone_from(&line.away);
        let known =
            before.and_then(|before| before.lines.iter().find(|other| other.generation == line.generation));
        if let Some(known) = known {
            away.subtract(&known.away);
        }
    }
    let mut next = 0;
    std::iter::from_fn(move || {
        let number = away.next_from(next)?;
        next = number + 1;
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(number: u64, said_at: Millis) -> Word {
        Word { said_at, place: Place { generation: 1, number }, grace: 10_000 }
    }

    fn numbers(words: &[Word]) -> Vec<u64> {
        words.iter().map(|word| word.place.number).collect()
    }

    #[test]
    fn a_word_is_passed_on_after_a_moment_and_once_more_where_that_failed() {
        let mut words = Words::default();
        assert!(words.keep(word(1, 0)) && words.keep(word(2, 500)));
        assert!(words.take(SETTLE_MS - 1).is_empty());
        let taken = words.take(SETTLE_MS);
        assert_eq!(numbers(&taken), [1]);
        words.put_back(taken);
        assert_eq!(numbers(&words.take(SETTLE_MS + 500)), [1, 2]);
        assert!(words.keep(word(3, 1_000)));
        assert!(words.take(1_000 + KEEP_MS).is_empty() && words.waiting.is_empty(), "too old");
    }

    #[test]
    fn only_so_many_words_are_kept_and_only_so_many_passed_on_at_once() {
        let mut words = Words::default();
        assert!((0..MAX as u64).all(|number| words.keep(word(number, 0))));
        assert!(!words.keep(word(0, 0)));
        let taken = words.take(SETTLE_MS);
        assert_eq!((taken.len(), words.waiting.len()), (BATCH, MAX - BATCH));
        assert!(words.keep(word(7, 0)));
        words.put_back(taken);
        assert_eq!((words.waiting.len(), words.waiting[0].place.number), (MAX, 0));
    }
}
