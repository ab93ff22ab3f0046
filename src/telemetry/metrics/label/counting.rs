//! The labels of limits and of what may be done once.

use super::Label;

label! {
    /// Whose requests a limit counts.
    LimitScope {
        /// Of an address.
        Ip => "ip",
        /// Of a user.
        User => "user",
        /// Of an address with a user agent.
        Client => "client",
        /// Of an address, to the client API.
        Api => "api",
        /// Of an address, for a new place.
        Join => "join",
    }
}

label! {
    /// What a limit came to.
    LimitOutcome {
        /// Within the limit.
        Allowed => "allowed",
        /// Beyond it.
        Refused => "refused",
        /// Beyond it, and known here without a question.
        Remembered => "remembered",
        /// The ledger is out: within the share of this replica.
        ShareAllowed => "share_allowed",
        /// The ledger is out: beyond the share of this replica.
        ShareRefused => "share_refused",
    }
}

label! {
    /// What is done once.
    OnceScope {
        /// A request with an idempotency key.
        Idempotency => "idempotency",
        /// A nonce.
        Nonce => "nonce",
    }
}

label! {
    /// What came of the attempt.
    OnceOutcome {
        /// It is the first.
        First => "first",
        /// It is the first, asked about once more: its answer was lost.
        Again => "again",
        /// It is another one.
        Repeated => "repeated",
        /// It is another one, and known here without a question.
        Remembered => "remembered",
        /// The ledger is out: nobody knows.
        Unknown => "unknown",
        /// It was refused where nobody knew, and may be tried again.
        TakenBack => "taken_back",
        /// The same, but the ledger did not hear of it: where it knows of the try at all, that counts as done.
        Stuck => "stuck",
    }
}

label! {
    /// A table of keys with a bound.
    KeyTable {
        /// The embedded ledger's: who has spent.
        Spent => "spent",
        /// The embedded ledger's: what is claimed.
        Claimed => "claimed",
        /// A replica's: who is beyond a limit.
        Refused => "refused",
        /// A replica's: what was done once.
        Done => "done",
        /// A replica's: who has spent of its share while the ledger is out.
        Shares => "shares",
    }
}
