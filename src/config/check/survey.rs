//! What all files say of rooms, to be compared once all are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::config::rooms_file::RoomsFile;
use crate::config::yaml::Path as KeyPath;
use crate::config::{Grade, Mistake};
use crate::room::name::RoomName;
use crate::room::policy::{KEYS, Mode, Policy};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    pub(super) key: String,
}

/// Rooms with their limits, and rooms that are only named, over all files.
#[derive(Default)]
pub(super) struct Survey {
    stated: BTreeMap<RoomName, Vec<(Policy, Place)>>,
    named: Vec<(String, Place)>,
    /// Rooms of rooms files, those with mistakes included: one mistake is enough.
    in_rooms_files: BTreeSet<String>,
}

impl Survey {
    /// A room's limits are stated here.
    pub(super) fn state(&mut self, policy: Policy, place: Place) {
        let stated = self.stated.entry(policy.room.clone()).or_default();
        // A virtual host's limits are met again on each of its routes.
        if !stated.iter().any(|(known, at)| *at == place && *known == policy) {
            stated.push((policy, place));
        }
    }

    /// A room is named here; its limits should be in a rooms file.
    pub(super) fn name(&mut self, room: &str, place: Place) {
        self.named.push((room.to_owned(), place));
    }

    /// Takes in a rooms file, and hands back its mistakes.
    pub(super) fn take_rooms(&mut self, read: RoomsFile, file: &Path) -> Vec<Mistake> {
        let file: Arc<str> = file.display().to_string().into();
        for (room, line) in read.rooms {
            let key = KeyPath::Root.key("rooms").key(room.policy.room.as_str()).to_string();
            self.state(room.policy, Place { file: file.clone(), line, key });
        }
        self.in_rooms_files.extend(read.named);
        read.mistakes
    }

    /// The mistakes that only show when all files are seen together.
    pub(super) fn finish(self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (room, place) in self.named {
            if !self.in_rooms_files.contains(&room) {
                mistakes.push(mistake(
                    place,
                    format!("room {room} has no limits here, and no rooms file defines it"),
                    "state capacity or rate, or check it together with the rooms file".into(),
                ));
            }
        }
        for (room, stated) in self.stated {
            // Where the room is off, its limits do not apply.
            let mut in_force = stated.into_iter().filter(|(policy, _)| policy.mode == Mode::Enforce);
            let Some((first, at)) = in_force.next() else { continue };
            for (policy, place) in in_force.filter(|(policy, _)| *policy != first) {
                let (difference, file, line) = (difference(&first, &policy), &at.file, at.line);
                mistakes.push(mistake(
                    place,
                    format!("room {room} has other limits here than in {file}:{line} ({difference})"),
                    "state the same limits at both places".into(),
                ));
            }
        }
        mistakes
    }
}

fn mistake(place: Place, problem: String, remedy: String) -> Mistake {
    Mistake {
        file: Some(place.file),
        line: Some(place.line),
        key: place.key,
        problem,
        remedy,
        grade: Grade::Mistake,
    }
}

/// Which keys differ: `capacity 5 here, 2 there`.
fn difference(there: &Policy, here: &Policy) -> String {
    let values = |policy: &Policy| serde_json::to_value(policy).unwrap_or_default();
    let (there, here) = (values(there), values(here));
    let show = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let differing = KEYS.iter().filter(|key| there[**key] != here[**key]);
    // Times are in milliseconds in a policy, whatever unit they were written in.
    let unit = |key: &str| if ["session_ttl", "claim_ttl", "patience"].contains(&key) { " ms" } else { "" };
    differing
        .map(|key| {
            format!("{key} {}{u} here, {}{u} there", show(&here[*key]), show(&there[*key]), u = unit(key))
        })
        .collect::<Vec<_>>()
        .join("; ")
}
