//! Where a visitor stands: what polls, streams, the page and a waiting Check all tell them.

use super::name::RoomName;

/// A visitor's place: a number within a generation of the room's line.
///
/// Ordered as the line is: an older generation stands before a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The room's generation, at least 1.
    pub generation: u64,
    /// The number, at least 1, given once in its generation.
    pub number: u64,
}

/// What a place has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In line.
    Waiting,
    /// May enter until the call runs out.
    Called,
    /// Inside, with a session.
    Admitted,
    /// No longer in line: left, silent for too long, call run out, or session over.
    Gone,
}

impl Status {
    /// The word for it in the APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Called => "called",
            Self::Admitted => "admitted",
            Self::Gone => "gone",
        }
    }
}

/// How long a visitor may still have to wait.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Eta {
    /// Best estimate, in seconds.
    pub seconds: u64,
    /// Hardly sooner than this, in seconds.
    pub low: u64,
    /// Hardly later than this, in seconds.
    pub high: u64,
    /// How far to trust it: 1.0, 0.8, 0.6 or 0.2.
    pub confidence: f64,
}

/// A standing as it is told over HTTP: with the tokens that were issued along with it.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Told<'a> {
    /// Where the visitor stands.
    #[serde(flatten)]
    pub standing: &'a Standing,
    /// A ticket, where one was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<&'a str>,
    /// A pass, where one was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'a str>,
}

/// Where a visitor stands, as JSON in every interface.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Standing {
    /// What the place has come to.
    pub status: Status,
    /// Which room.
    pub room: RoomName,
    /// The visitor's number.
    pub number: u64,
    /// 1 for the next to be called; 0 unless waiting.
    pub position: u64,
    /// How many wait in the room.
    pub waiting: u64,
    /// `None` when nothing can be said: nobody is being let in.
    pub eta: Option<Eta>,
    /// When to ask again, in seconds.
    pub poll_after: u32,
}
