//! Which server holds which slot: read from CLUSTER SLOTS, and the table that calls are routed by.

use std::sync::Arc;

use fred::types::Value;
use fred::util::redis_keyslot;

use super::node::Node;
use crate::store::target::Address;

/// The slots of a cluster.
pub(super) const SLOTS: usize = 16_384;

const NOBODY: u16 = u16::MAX;

/// The slot of a key with this hash tag.
pub(super) fn slot_of(tag: &str) -> u16 {
    redis_keyslot(tag.as_bytes())
}

/// What a node says about the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Masters and the slot ranges that each holds, ends included.
    pub(super) masters: Vec<(Address, Vec<(u16, u16)>)>,
    /// Nodes that hold copies: who may be asked when no master answers.
    pub(super) replicas: Vec<Address>,
}

impl View {
    /// Reads the answer of `asked` to CLUSTER SLOTS. `None` if it is not one.
    pub(super) fn read(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut view = Self::default();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [begin, end, master, replicas @ ..] = parts.as_slice() else { return None };
            let (begin, end) = (slot(begin)?, slot(end)?);
            if begin > end {
                return None;
            }
            for replica in replicas {
                // A replica that does not say where it is cannot be asked; nothing is lost by that.
                if let Some(address) = endpoint(replica, asked)
                    && !view.replicas.contains(&address)
                {
                    view.replicas.push(address);
                }
            }
            // A master that does not know its own name yet: its slots count as nobody's.
            let Some(master) = endpoint(master, asked) else { continue };
            match view.masters.iter_mut().find(|(address, _)| *address == master) {
                Some((_, ranges)) => ranges.push((begin, end)),
                None => view.masters.push((master, vec![(begin, end)])),
            }
        }
        Some(view)
    }
}

fn slot(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| usize::from(*slot) < SLOTS)
}

fn endpoint(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else { return None };
    let [host, port, ..] = parts.as_slice() else { return None };
    let host = match host.as_string() {
        None => asked.host.clone(),
        Some(host) if host.is_empty() => asked.host.clone(),
        // What Redis says when hostnames are wanted and it was given none.
        Some(host) if host == "?" => return None,
        Some(host) => host,
    };
    let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)?;
    Some(Address::new(host, port))
}

/// The table that calls are routed by. Replaced as a whole.
#[derive(Clone, Debug)]
pub(super) struct Table {
    owners: Box<[u16]>,
    nodes: Vec<Arc<Node>>,
}

impl Table {
    /// Nothing known yet.
    pub(super) fn empty() -> Self {
        Self { owners: vec![NOBODY; SLOTS].into_boxed_slice(), nodes: Vec::new() }
    }

    /// One server for everything.
    pub(super) fn single(node: Arc<Node>) -> Self {
        Self { owners: vec![0; SLOTS].into_boxed_slice(), nodes: vec![node] }
    }

    /// These servers with these slots.
    pub(super) fn of(masters: impl IntoIterator<Item = (Arc<Node>, Vec<(u16, u16)>)>) -> Self {
        let mut table = Self::empty();
        for (node, ranges) in masters {
            for (begin, end) in ranges {
                for slot in begin..=end {
                    table.give(slot, &node);
                }
            }
        }
        table
    }

    /// Gives a slot to a server.
    pub(super) fn give(&mut self, slot: u16, node: &Arc<Node>) {
        let known = self.nodes.iter().position(|known| Arc::ptr_eq(known, node));
        let index = known.unwrap_or_else(|| {
            self.nodes.push(Arc::clone(node));
            self.nodes.len() - 1
        });
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = u16::try_from(index).unwrap_or(NOBODY);
        }
    }

    /// Who holds a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        self.nodes.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// Every server that holds something.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// How many slots nobody holds.
    pub(super) fn uncovered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![host.into(), port.into(), "id".into(), Value::Array(Vec::new())])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of("123456789"), 12_739);
        assert_eq!(slot_of("user1000"), 3443);
    }

    #[test]
    fn an_answer_is_read_with_its_odd_hosts() {
        let asked = Address::new("asked", 7);
        let answer = Value::Array(vec![
            Value::Array(vec![0.into(), 5.into(), node("a", 1), node("b", 2)]),
            Value::Array(vec![7.into(), 9.into(), node("a", 1)]),
            Value::Array(vec![10.into(), 16_383.into(), node("", 3), node("?", 4)]),
            Value::Array(vec![6.into(), 6.into(), node("?", 5)]),
        ]);
        let view = View::read(&answer, &asked).unwrap();
        assert_eq!(
            view.masters,
            [(Address::new("a", 1), vec![(0, 5), (7, 9)]), (Address::new("asked", 3), vec![(10, 16_383)])]
        );
        assert_eq!(view.replicas, [Address::new("b", 2)]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let asked = Address::new("asked", 7);
        for answer in [
            Value::Null,
            Value::Array(vec![1.into()]),
            Value::Array(vec![Value::Array(vec![0.into(), 16_384.into(), node("a", 1)])]),
            Value::Array(vec![Value::Array(vec![2.into(), 1.into(), node("a", 1)])]),
            Value::Array(vec![Value::Array(vec![0.into(), 1.into()])]),
        ] {
            assert_eq!(View::read(&answer, &asked), None);
        }
        assert_eq!(View::read(&Value::Array(Vec::new()), &asked), Some(View::default()));
    }
}
