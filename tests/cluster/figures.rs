//! The figures of a scenario, printed as a table, and kept for `docs/chaos.md` where `ANTEROOM_FIGURES` says so.

use std::fmt::Write as _;
use std::path::PathBuf;

/// A table of two columns.
pub(crate) struct Figures {
    order: u32,
    text: String,
}

impl Figures {
    /// A table under this title; `order` is its place among the others.
    pub(crate) fn new(order: u32, title: &str) -> Self {
        Self { order, text: format!("## {title}\n\n| what | figure |\n|---|---|\n") }
    }

    pub(crate) fn row(&mut self, what: &str, figure: impl std::fmt::Display) {
        writeln!(self.text, "| {what} | {figure} |").unwrap();
    }

    /// Prints it, and keeps it.
    pub(crate) fn keep(self) {
        eprintln!("\n{}", self.text);
        if let Some(folder) = std::env::var_os("ANTEROOM_FIGURES") {
            let file = PathBuf::from(folder).join(format!("{:02}.md", self.order));
            std::fs::write(file, self.text + "\n").unwrap();
        }
    }
}
