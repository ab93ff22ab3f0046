//! What is going on, for whoever watches.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Says what begins: one line that is written over on a terminal, lines of their own elsewhere. Empty: the line goes.
pub(crate) fn progress(what: &str) {
    // Only progress: the figures do not depend on it.
    let _ = match (stderr().is_terminal(), what) {
        (true, "") => write!(stderr(), "\r\x1b[K"),
        (true, _) => write!(stderr(), "\r\x1b[K{what} …"),
        (false, "") => Ok(()),
        (false, _) => writeln!(stderr(), "loadtest: {what}"),
    };
}
