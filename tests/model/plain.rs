//! A snapshot as plain data.

use std::collections::BTreeSet;

use anteroom::room::snapshot::Snapshot;

/// The members of a bitmap, from its base and words.
fn numbers((base, words): (u64, &[u64])) -> Vec<u64> {
    let of_word = |(at, word): (u64, &u64)| {
        let word = *word;
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at + bit)
    };
    (base..).step_by(64).zip(words).flat_map(of_word).collect()
}

/// A snapshot as plain data that can be compared and looked at.
pub(crate) fn plain(snapshot: &Snapshot) -> impl PartialEq + std::fmt::Debug + Default + use<> {
    let lines: Vec<_> = snapshot
        .lines
        .iter()
        .map(|l| {
            let sets = [l.waiting.parts(), l.called.parts(), (l.away.base(), l.away.words())].map(numbers);
            (l.generation, l.head, l.next, l.in_doubt, sets)
        })
        .collect();
    let revoked: BTreeSet<_> = snapshot.revoked.iter().map(|p| (p.generation, p.number)).collect();
    let counts = (snapshot.waiting, snapshot.called, snapshot.sessions, snapshot.quiet);
    let speed = (snapshot.speed.per_second, snapshot.speed.confidence);
    let rest = (snapshot.at, snapshot.floor, snapshot.lost_at, snapshot.paused, speed);
    let stated = (&snapshot.policy, &snapshot.stated, &snapshot.limits, &snapshot.ousted);
    let controlled = (snapshot.paused_at, snapshot.limits_at);
    let told = (snapshot.last_loss, snapshot.minute.calls, snapshot.minute.busy_ms, format!("{stated:?}"));
    (lines, counts, rest, revoked, told, controlled)
}
