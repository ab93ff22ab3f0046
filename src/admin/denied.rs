//! What operators are told of the deny list, as JSON with stable names: docs/operators.md has them.

use serde::{Deserialize, Serialize};

use crate::guard::deny::{Listed, Origin};
use crate::room::deny::written::Written;
use crate::room::policy::Millis;

/// A page of the list.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page {
    /// At most as many as were asked for, first the file's.
    pub(super) entries: Vec<Told>,
    /// What to ask for with `after=` next; `None`: these were the last.
    pub(super) next: Option<usize>,
    /// How many entries are in force.
    pub(super) known: usize,
}

/// An entry in force.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Whom it means, until when and why.
    #[serde(flatten)]
    pub(super) entry: Written,
    /// Whether its time is over by the clock of the process that tells: then it means nobody there. Processes of older
    /// versions do not say.
    #[serde(default)]
    pub(super) over: bool,
    /// Whose it is.
    pub(super) source: Origin,
    /// How often it was met by the process that tells.
    pub(super) hits: u64,
}

impl Told {
    /// What is told of an entry at this time.
    pub(super) fn new(listed: &Listed, now: Millis) -> Self {
        let over = listed.entry.is_over(now);
        Self { entry: Written::from(&listed.entry), over, source: listed.origin, hits: listed.hits }
    }
}

/// What was put on the list, or taken off it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    /// The entry, as it was understood.
    pub(super) entry: Written,
}
