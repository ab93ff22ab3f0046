//! The keys of a room: all with its name as hash tag, so that they live on one shard.

use bytes::Bytes;

use crate::room::name::RoomName;

/// Keys of the room as a whole, in the order in which `lua/room/state.lua` takes them.
///
/// `subjects` is where versions before this one kept users.
const OF_ROOM: [&str; 8] =
    ["room", "sessions", "revoked", "revocations", "users", "scratch", "away", "subjects"];
/// Keys of each of the lines, in the order in which `lua/room/line.lua` takes them.
const OF_LINE: [&str; 7] = ["line", "seen", "before", "called", "calls", "heard", "away"];
/// The most lines of a room.
const LINES: usize = 4;

/// Every key that a room may have.
///
/// A room's name holds neither braces nor colons ([`RoomName::RULE`]), so that no name can reach another's keys.
pub(super) fn keys(room: &RoomName) -> Vec<Bytes> {
    let of_room = OF_ROOM.iter().map(|key| format!("anteroom:{{{room}}}:{key}"));
    let of_lines = (0..LINES)
        .flat_map(|slot| OF_LINE.iter().map(move |key| format!("anteroom:{{{room}}}:{slot}:{key}")));
    of_room.chain(of_lines).map(Bytes::from).collect()
}
