//! The line of one generation: who waits, who was called, who was heard of lately.
//!
//! Numbers below `head` were called or have left; numbers from `next` on were not given yet.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bits::{Bits, MAX_SPAN};
use super::policy::Millis;
use super::token::MAX_EXACT;

/// How many numbers a healed line leaves out beyond the highest it knows of, so that none is given twice.
///
/// More than any replica can have been given between two calls that told of its highest number.
pub const MARGIN: u64 = 65_536;

/// Beyond every number: up to here all are exact in a double, as tokens and the scripts need them.
pub const END: u64 = MAX_EXACT;

/// About how many marks of calls are kept: they are noted for times that lie this part of a `claim_ttl` apart at
/// least, so that calls run out late by that much at most, and exactly on time up to a `claim_ttl` of 65 s.
const MARKS: u64 = 65_536;

/// The time that calls made at `now` are noted for; never before.
pub fn mark_time(claim_ttl: Millis, now: Millis) -> Millis {
    now.next_multiple_of(claim_ttl.div_ceil(MARKS).max(1))
}

/// The line of one generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    generation: u64,
    next: u64,
    head: u64,
    /// The farthest that head has stood: healing sets head back, and hints of that time are no news then.
    reached: u64,
    waiting: Bits,
    /// Seen alive in this and in the previous liveness period (half a `patience` each).
    seen: [Bits; 2],
    /// Called, and neither entered nor run out.
    called: Bits,
    /// When head moved, and how far: calls run out as ranges.
    calls: VecDeque<Call>,
    doubt: Option<Doubt>,
}

/// A checkpoint of the head: numbers below `upto` were called at `at` or before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Call {
    at: Millis,
    upto: u64,
}

/// Numbers that may have been given in a past this line has lost: from `from` to below `to`.
/// Whoever shows a ticket for one of them gets their bit back, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Doubt {
    from: u64,
    to: u64,
    heard: Bits,
}

/// What a line says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In line.
    Waiting,
    /// Called, and may enter.
    Called,
    /// Neither: entered, left, silent, run out, or never given.
    Absent,
}

impl Line {
    /// An empty line that begins with number 1.
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            next: 1,
            head: 1,
            reached: 1,
            waiting: Bits::default(),
            seen: [Bits::default(), Bits::default()],
            called: Bits::default(),
            calls: VecDeque::new(),
            doubt: None,
        }
    }

    /// A line of which nothing is left but the tickets that come in: any number may have been given.
    pub fn lost(generation: u64) -> Self {
        let mut line = Self::new(generation);
        line.next = END;
        line.doubt = Some(Doubt { from: 1, to: END, heard: Bits::default() });
        line
    }

    /// The line's generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The next number to be given.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The smallest number not yet called.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The farthest that head has stood; only after healing more than [`Line::head`].
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Who waits.
    pub fn waiting(&self) -> &Bits {
        &self.waiting
    }

    /// Who was called and may still enter.
    pub fn called(&self) -> &Bits {
        &self.called
    }

    /// Whether numbers may have been given that this line does not know of.
    pub fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Gives the next number to a newcomer.
    pub fn give(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number);
        self.seen[0].insert(number);
        if let Some(doubt) = &mut self.doubt {
            // What becomes of this one is known here, whatever else may still turn out to be lost.
            doubt.heard.insert(number);
        }
        number
    }

    /// Where a number stands.
    pub fn seat(&self, number: u64) -> Seat {
        if self.called.contains(number) {
            Seat::Called
        } else if self.waiting.contains(number) {
            Seat::Waiting
        } else {
            Seat::Absent
        }
    }

    /// How many wait before `number`.
    pub fn ahead_of(&self, number: u64) -> u64 {
        // Counted from the nearer end: newcomers stand at the far one, and there are many of them.
        if number.saturating_sub(self.waiting.base()) <= self.waiting.end().saturating_sub(number) {
            self.waiting.count_range(0, number)
        } else {
            self.waiting.count() - self.waiting.count_range(number, u64::MAX)
        }
    }

    /// Notes that a waiting number was heard of.
    pub fn hear(&mut self, number: u64) {
        if self.waiting.contains(number) {
            self.seen[0].insert(number);
        }
    }

    /// Notes that all of these were heard of, as far as they wait.
    pub fn hear_all(&mut self, beats: &Bits) {
        self.seen[0].union_range(beats, self.head, self.next);
    }

    /// Notes that everybody was heard of: after a time in which nobody could be.
    pub fn hear_everybody(&mut self) {
        let waiting = self.waiting.clone();
        self.seen[0].union_range(&waiting, self.head, self.next);
    }

    /// Takes a number out of line and call.
    pub fn remove(&mut self, number: u64) -> Seat {
        let seat = self.seat(number);
        self.waiting.remove(number);
        self.called.remove(number);
        seat
    }

    /// Ends a liveness period; whoever was silent through it and the one before leaves the line.
    pub fn rotate(&mut self) {
        let [now, before] = &self.seen;
        self.waiting.keep_only(now, before);
        self.seen.swap(0, 1);
        self.seen[0] = Bits::default();
    }

    /// Calls up to `quota` of those who wait, in number order; the calls count as made `at` ([`mark_time`]).
    ///
    /// Works on words of 64 numbers; returns how many were called.
    pub fn call(&mut self, quota: u64, at: Millis) -> u64 {
        let start = self.head;
        let mut left = quota;
        while left > 0
            && let Some(first) = self.waiting.next_from(self.head)
        {
            let take = lowest_bits(self.waiting.word(first), left);
            left -= u64::from(take.count_ones());
            self.waiting.update_word(first, |word| word & !take);
            self.called.insert(first);
            self.called.update_word(first, |word| word | take);
            self.head = (first & !63) + 64 - u64::from(take.leading_zeros());
        }
        let calls = quota - left;
        if calls > 0 {
            self.note_call(start, self.head, at);
        }
        // The head stands at a waiting number, or where the next one will be given.
        self.head = self.waiting.next_from(self.head).unwrap_or(self.next);
        self.reached = self.reached.max(self.head);
        self.waiting.trim_below(self.head);
        self.seen.iter_mut().for_each(|seen| seen.trim_below(self.head));
        // With nobody called, too: else the bitmap grows for as long as everybody enters at once.
        let first = self.called.next_from(0).unwrap_or(self.head);
        self.called.trim_below(first);
        calls
    }

    /// Ends the calls made at `before` or earlier.
    pub fn expire_calls(&mut self, before: Millis) {
        if self.called.is_empty() {
            // Marks of nobody; they would only make later calls wait for them.
            self.calls.clear();
        }
        while let Some(call) = self.calls.front().copied().filter(|call| call.at <= before) {
            self.called.clear_range(0, call.upto);
            self.calls.pop_front();
        }
    }

    fn note_call(&mut self, from: u64, mut upto: u64, at: Millis) {
        // Only after healing can the head have been set back behind earlier calls: their time then starts anew,
        // so that no call runs out early. Marks noted for a later time than this one are of a longer claim_ttl.
        while let Some(last) = self.calls.pop_back_if(|last| last.at >= at || last.upto > from) {
            upto = upto.max(last.upto);
        }
        self.calls.push_back(Call { at, upto });
    }

    /// A ticket for `number` came in that the line does not know: takes it back in if it may have been lost.
    ///
    /// `true` if the number now waits (again).
    pub fn recover(&mut self, number: u64) -> bool {
        self.lose_upto(number);
        let Some(doubt) = &mut self.doubt else { return false };
        if !(doubt.from..doubt.to).contains(&number) || !doubt.heard.insert(number) {
            return false;
        }
        if !self.waiting.insert(number) {
            return false;
        }
        self.seen[0].insert(number);
        self.head = self.head.min(number);
        true
    }

    /// `number` is known to have entered or left: its bit is to come back neither by its ticket nor by a snapshot.
    pub fn close(&mut self, number: u64) {
        self.lose_upto(number);
        // Others come back in no way: memory for one far below would be wasted.
        if let Some(doubt) = &mut self.doubt
            && (doubt.from..doubt.to).contains(&number)
        {
            doubt.heard.insert(number);
        }
    }

    /// A token proves that `number` was given, and so were all before it; one that far off proves nothing.
    fn lose_upto(&mut self, number: u64) {
        if (self.next..self.next.saturating_add(MAX_SPAN)).contains(&number) {
            self.lose_from(self.next, number + 1);
        }
    }

    /// Numbers from `from` to below `to` may have been given without this line knowing; the next one is `to`.
    pub fn lose_from(&mut self, from: u64, to: u64) {
        let drained = self.head >= self.next;
        self.next = self.next.max(to);
        match &mut self.doubt {
            Some(doubt) => {
                doubt.from = doubt.from.min(from);
                doubt.to = doubt.to.max(to);
            }
            None => self.doubt = Some(Doubt { from, to, heard: Bits::default() }),
        }
        if drained {
            self.head = self.next;
            self.reached = self.reached.max(self.head);
        }
    }

    /// The head is known to have been at `head` already: everybody before it was called, now at the latest.
    ///
    /// That holds for whoever this line has kept. Whoever came back by their ticket since goes by the limits again.
    pub fn catch_up_head(&mut self, head: u64, at: Millis) {
        let (start, head) = (self.head, head.min(self.next));
        if head <= self.reached {
            return;
        }
        let known_calls = self.called.count();
        self.called.union_range(&self.waiting, start, head);
        self.note_restored(known_calls, start, at);
        self.waiting.trim_below(head);
        self.head = self.waiting.next_from(head).unwrap_or(self.next);
        self.reached = self.head;
    }

    /// Takes over what a replica last knew of this line, for numbers in doubt that were not heard of since.
    ///
    /// `complete`: the replica was not itself in doubt, so that numbers it does not name are gone.
    pub fn restore(&mut self, waiting: &Bits, called: &Bits, next: u64, complete: bool, at: Millis) {
        let Some(doubt) = &mut self.doubt else { return };
        let (from, to) = (doubt.from, doubt.to.min(next));
        if from >= to {
            return;
        }
        let known_calls = self.called.count();
        for (source, target) in [(waiting, &mut self.waiting), (called, &mut self.called)] {
            let mut unheard = source.clone();
            unheard.subtract(&doubt.heard);
            target.union_range(&unheard, from, to);
        }
        self.seen[0].union_range(waiting, from, to);
        if complete {
            doubt.from = to;
        } else {
            doubt.heard.union_range(waiting, from, to);
            doubt.heard.union_range(called, from, to);
        }
        if doubt.from >= doubt.to {
            self.doubt = None;
        }
        if let Some(first) = self.waiting.next_from(from) {
            self.head = self.head.min(first);
        }
        self.note_restored(known_calls, from, at);
    }

    /// Notes calls that came back: made `at` the latest, if there are more than the `before` known.
    fn note_restored(&mut self, before: u64, from: u64, at: Millis) {
        if self.called.count() > before
            && let Some(last) = self.called.last()
        {
            // Whoever came back by ticket may stand before them, and the head with it.
            self.note_call(from, last + 1, at);
        }
    }

    /// The clock was set back by so much: calls run out as far from now as before.
    pub fn go_back(&mut self, by: Millis) {
        self.calls.iter_mut().for_each(|call| call.at = call.at.saturating_sub(by));
    }

    /// All calls count as made now: after a time in which nobody could enter.
    pub fn renew_calls(&mut self, now: Millis) {
        if let Some(last) = self.calls.back().copied() {
            self.calls.clear();
            self.calls.push_back(Call { at: now, upto: last.upto });
        }
    }

    /// Ends the doubt: numbers not heard of by now are gone.
    pub fn settle(&mut self) {
        self.doubt = None;
    }

    /// Whether nobody waits and nobody is called.
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.called.is_empty()
    }
}

/// The lowest `n` set bits of a word.
fn lowest_bits(word: u64, n: u64) -> u64 {
    if u64::from(word.count_ones()) <= n {
        return word;
    }
    let mut rest = word;
    for _ in 0..n {
        rest &= rest - 1;
    }
    word & !rest
}

#[cfg(test)]
mod tests;
