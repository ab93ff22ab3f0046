//! The label values of the metrics: closed sets, so that nobody from outside can add a series.

use crate::room::decision::Verdict;
use crate::room::token::{Kind, TokenError};

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// Every value; the position of a value here is its [`Label::index`].
    const ALL: &'static [Self];

    /// The value as it stands in the metrics.
    fn as_str(self) -> &'static str;

    /// The value's position in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use label;

pub mod counting;

label! {
    /// What a Check came to, without its details.
    VerdictLabel {
        /// Let in.
        Admit => "admit",
        /// In line.
        Wait => "wait",
        /// The store is out: wait without a number.
        Hold => "hold",
        /// Not let in and not in line.
        Refuse => "refuse",
        /// Passed untouched.
        Bypass => "bypass",
        /// Not understood or not answered.
        Error => "error",
    }
}

impl From<&Verdict> for VerdictLabel {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Bypass(_) => Self::Bypass,
            Verdict::Admit(_) => Self::Admit,
            Verdict::Wait(_) => Self::Wait,
            Verdict::Hold { .. } => Self::Hold,
            Verdict::Refuse { .. } => Self::Refuse,
            Verdict::Error { .. } => Self::Error,
        }
    }
}

label! {
    /// What the deny list knows somebody by.
    Denied {
        /// The client's address.
        Ip => "ip",
        /// The `User-Agent`.
        UserAgent => "user_agent",
        /// The verified user.
        Subject => "subject",
    }
}

label! {
    /// How a call to a Redis server ended.
    CallResult {
        /// With an answer.
        Answered => "answered",
        /// With an error of the script.
        Script => "script",
        /// Without an answer in time.
        Timeout => "timeout",
        /// The connection broke meanwhile.
        Lost => "lost",
        /// Not begun: no connection.
        NotConnected => "not_connected",
        /// Not begun: too many calls under way.
        Overloaded => "overloaded",
        /// Not allowed, or no server for us.
        Refused => "refused",
        /// The server cannot serve now: loading, cluster down, a replica and the like.
        NotServing => "not_serving",
        /// Sent from server to server too often.
        Moved => "moved",
    }
}

label! {
    /// Why a call was sent a second time; the first time it did not run.
    Resent {
        /// The server did not have the script.
        NoScript => "noscript",
        /// The slot is on another server.
        Moved => "moved",
        /// The key is on another server already.
        Ask => "ask",
        /// Some keys of the room are on their way.
        TryAgain => "tryagain",
    }
}

label! {
    /// What became of a connection to a Redis server.
    LinkEvent {
        /// Opened and found fit.
        Opened => "opened",
        /// Not opened.
        Failed => "failed",
        /// Ended by the server or the network.
        Lost => "lost",
        /// Cut because the server was silent or has become a replica.
        Cut => "cut",
    }
}

label! {
    /// How a look at the cluster's slots ended.
    Refresh {
        /// With a map of the slots.
        Done => "done",
        /// No server told.
        Failed => "failed",
    }
}

label! {
    /// An operation of the store.
    StoreOp {
        /// Give new numbers.
        Arrive => "arrive",
        /// The tick and the snapshot.
        Observe => "observe",
        /// A called number becomes a session.
        Enter => "enter",
        /// Prolong sessions.
        Touch => "touch",
        /// Give up a place or a session.
        Leave => "leave",
        /// Noting pages that go away.
        Away => "away",
        /// Pause, resume, override, reset.
        Control => "control",
        /// Requests held against limits.
        Spend => "spend",
        /// Keys claimed for once.
        Claim => "claim",
        /// A replica says that it is there.
        Sync => "sync",
    }
}

label! {
    /// What an operator asks for.
    OperatorCall {
        /// The rooms.
        List => "list",
        /// One room.
        Show => "show",
        /// Call nobody.
        Pause => "pause",
        /// Call again.
        Resume => "resume",
        /// Put limits above those stated.
        Limits => "limits",
        /// Take these away again.
        Clear => "clear",
        /// Begin a new generation.
        Reset => "reset",
        /// The deny list.
        DenyList => "deny_list",
        /// Put somebody on it.
        DenyAdd => "deny_add",
        /// Take somebody off it.
        DenyRemove => "deny_remove",
        /// None of these: another path or method.
        Other => "other",
    }
}

label! {
    /// What became of that.
    OperatorResult {
        /// It was done.
        Done => "done",
        /// The token was missing or wrong.
        Unauthorized => "unauthorized",
        /// The call could not be understood.
        Wrong => "wrong",
        /// Nobody knows the room.
        NoRoom => "no_room",
        /// Operators have made no such entry of the deny list.
        NoEntry => "no_entry",
        /// The store did not answer a look, or too many calls are under way: nothing was done.
        Unavailable => "unavailable",
        /// The store did not answer a control: it may have been done or not.
        Unsure => "unsure",
        /// A control whose operator did not wait for the answer.
        HungUp => "hung_up",
    }
}

label! {
    /// How a store call failed.
    StoreFault {
        /// No answer within the budget, or none at all.
        Unavailable => "unavailable",
        /// Nobody has stated limits for the room.
        NoRoom => "no_room",
        /// One room more than allowed.
        TooManyRooms => "too_many_rooms",
        /// Not made: the room's last ones all failed, or too many unknown rooms are being looked up.
        NotTried => "not_tried",
    }
}

label! {
    /// A kind of open stream.
    StreamKind {
        /// Server-sent events.
        Sse => "sse",
        /// `WatchPosition`.
        Grpc => "grpc",
    }
}

label! {
    /// What a token claims to be.
    TokenLabel {
        /// Proves a number.
        Ticket => "ticket",
        /// Proves a session.
        Pass => "pass",
    }
}

impl From<Kind> for TokenLabel {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ticket => Self::Ticket,
            Kind::Pass => Self::Pass,
        }
    }
}

label! {
    /// Why a token was refused.
    TokenFault {
        /// Longer than any token of ours.
        TooLong => "too_long",
        /// Not a token.
        Malformed => "malformed",
        /// A ticket where a pass belongs, or the other way round.
        WrongKind => "wrong_kind",
        /// Signed with a key that is not known here.
        UnknownKey => "unknown_key",
        /// Forged, cut, or of another algorithm than the key's.
        BadSignature => "bad_signature",
        /// Another room's.
        OtherRoom => "other_room",
        /// Its time is over.
        Expired => "expired",
        /// Bound to somebody else.
        Foreign => "foreign",
    }
}

impl From<TokenError> for TokenFault {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::TooLong => Self::TooLong,
            TokenError::Malformed => Self::Malformed,
            TokenError::WrongKind => Self::WrongKind,
            TokenError::UnknownKey => Self::UnknownKey,
            TokenError::BadSignature => Self::BadSignature,
            TokenError::OtherRoom => Self::OtherRoom,
            TokenError::Expired => Self::Expired,
            TokenError::Foreign => Self::Foreign,
        }
    }
}

label! {
    /// What a poll of a user known by name came to.
    PollAnswer {
        /// To wait.
        Wait => "wait",
        /// To go on.
        Go => "go",
        /// To go on, as the request belongs to no room.
        NoRoom => "no_room",
        /// The store is out, and the room's `on_outage` was answered.
        Outage => "outage",
        /// Not understood or not answered.
        Error => "error",
    }
}

label! {
    /// A listener of ours.
    ListenerLabel {
        /// `ext_authz` gRPC, for Envoy.
        Authz => "authz",
        /// Position gRPC.
        Position => "position",
        /// Client HTTP.
        Client => "client",
        /// Health and metrics.
        Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label>() {
        for (position, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), position, "{}", label.as_str());
        }
    }

    #[test]
    fn indexes_are_positions() {
        check::<VerdictLabel>();
        check::<StoreOp>();
        check::<StoreFault>();
        check::<OperatorCall>();
        check::<OperatorResult>();
        check::<StreamKind>();
        check::<TokenLabel>();
        check::<TokenFault>();
        check::<ListenerLabel>();
        check::<PollAnswer>();
        check::<counting::LimitScope>();
        check::<counting::LimitOutcome>();
        check::<counting::OnceScope>();
        check::<counting::OnceOutcome>();
        check::<counting::KeyTable>();
    }
}
