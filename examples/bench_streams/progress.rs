//! What a bench is doing, for whoever watches it.

use std::io::{IsTerminal as _, Write as _};

/// One line on standard error that is written over, and none where nobody watches. Empty: the line goes.
pub(crate) fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        let dots = if what.is_empty() { "" } else { " …" };
        // Only progress: the figures do not depend on it.
        let _ = write!(std::io::stderr(), "\r\x1b[K{what}{dots}");
    }
}
