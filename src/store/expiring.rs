//! A bounded table whose entries go when their time is over: the ledger in memory, and what a replica remembers of it.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use super::ledger::Key;
use crate::room::gcra::Micros;

/// Tables side by side, each behind a lock of its own.
const SHARDS: usize = 16;

/// A table of at most so many keys. When it is full, the one that would go first makes room.
#[derive(Debug)]
pub struct Expiring<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
    /// The most keys of a shard.
    most: usize,
}

#[derive(Debug)]
struct Shard<V> {
    entries: HashMap<Key, (Micros, V)>,
    order: BTreeSet<(Micros, Key)>,
}

impl<V: Copy> Expiring<V> {
    /// A table of at most `most` keys, rounded up to sixteens. Keys are digests, so they spread evenly; each takes some 120
    /// bytes and `V`.
    pub fn new(most: usize) -> Self {
        let shard = || Mutex::new(Shard { entries: HashMap::new(), order: BTreeSet::new() });
        Self { shards: std::array::from_fn(|_| shard()), most: most.div_ceil(SHARDS).max(1) }
    }

    /// What is known of a key whose time is not over.
    pub fn get(&self, key: Key, now: Micros) -> Option<V> {
        self.shard(key).lock().find(key, now)
    }

    /// Changes what is known of a key: `change` is given it, and says what is to be kept and until when, if anything,
    /// and what is to be returned. With that: how many other keys, whose time was not over, had to make room.
    pub fn update<T>(
        &self,
        key: Key,
        now: Micros,
        change: impl FnOnce(Option<V>) -> (Option<(Micros, V)>, T),
    ) -> (T, usize) {
        let mut shard = self.shard(key).lock();
        let (kept, told) = change(shard.find(key, now));
        let evicted = kept.map_or(0, |(until, value)| shard.put(key, until, value, now, self.most));
        (told, evicted)
    }

    /// How many keys it holds, those included whose time is over and who have not been asked for since.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of those whose time is over.
    pub fn sweep(&self, now: Micros) {
        for shard in &self.shards {
            shard.lock().sweep(now);
        }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard<V>> {
        &self.shards[usize::from(key.0[15]) % SHARDS]
    }
}

impl<V: Copy> Shard<V> {
    fn find(&mut self, key: Key, now: Micros) -> Option<V> {
        let (until, value) = self.entries.get(&key).copied()?;
        if until <= now {
            self.entries.remove(&key);
            self.order.remove(&(until, key));
            return None;
        }
        Some(value)
    }

    fn put(&mut self, key: Key, until: Micros, value: V, now: Micros, most: usize) -> usize {
        if let Some((before, _)) = self.entries.insert(key, (until, value)) {
            self.order.remove(&(before, key));
        }
        self.order.insert((until, key));
        if self.entries.len() <= most {
            return 0;
        }
        self.sweep(now);
        let mut evicted = 0;
        while self.entries.len() > most
            && let Some((_, first)) = self.order.pop_first()
        {
            self.entries.remove(&first);
            evicted += 1;
        }
        evicted
    }

    fn sweep(&mut self, now: Micros) {
        while let Some(&(until, key)) = self.order.first()
            && until <= now
        {
            self.order.pop_first();
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::of(&[&number.to_be_bytes()])
    }

    fn put(table: &Expiring<u64>, number: u64, until: Micros, now: Micros) -> usize {
        table.update(key(number), now, |_| (Some((until, number)), ())).1
    }

    #[test]
    fn entries_go_when_their_time_is_over() {
        let table = Expiring::new(100);
        put(&table, 1, 10, 0);
        put(&table, 2, 20, 0);
        assert_eq!(
            (table.get(key(1), 9), table.get(key(1), 10), table.get(key(2), 10)),
            (Some(1), None, Some(2))
        );
        put(&table, 2, 30, 10);
        table.sweep(20);
        assert_eq!((table.get(key(2), 29), table.len()), (Some(2), 1));
        assert_eq!(table.update(key(2), 29, |known| (None, known)), (Some(2), 0), "left as it is");
        table.sweep(30);
        assert!(table.is_empty());
    }

    #[test]
    fn it_holds_no_more_than_it_should_and_the_first_to_go_makes_room() {
        let table = Expiring::new(1_600);
        let evicted: usize = (0..10_000).map(|number| put(&table, number, 1_000_000 - number, 0)).sum();
        assert!(table.len() <= 1_600 && evicted == 10_000 - table.len(), "{evicted}, {} kept", table.len());
        // The last that were put in have the earliest ends.
        assert!(table.get(key(0), 0).is_some() && table.get(key(9_999), 0).is_none());
        let over: usize = (0..10_000).map(|number| put(&table, number, 3_000_000, 2_000_000)).sum();
        assert!(over > 0 && table.len() <= 1_600);
        let none: usize = (0..100).map(|number| put(&table, number, 5_000_000, 4_000_000)).sum();
        assert_eq!(none, 0, "whose time is over does not count");
        assert!(table.shards.iter().all(|shard| {
            let shard = shard.lock();
            shard.entries.len() == shard.order.len()
        }));
    }
}
