//! Arguments, environment and files → validated settings; every mistake is reported at once.
//!
//! Each file format has its own file below: `rooms_file`, `keys`, `identity_file`, and Envoy's configuration in `check`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub mod check;
pub mod cli;
pub mod deny_file;
pub mod identity_file;
pub mod keys;
mod rooms_file;
pub mod settings;
mod token_file;
mod yaml;

pub use cli::Cli;
pub use yaml::read_file;

/// How bad a [`Mistake`] is. Ordered: the worst is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Worth a look; nothing is refused for it.
    Warning,
    /// Wrong: the program does not start with it, and `check-config` exits with 1.
    Mistake,
    /// The file cannot be read at all: missing, too large, or no YAML. `check-config` exits with 2.
    Unreadable,
}

/// Something wrong with a setting or a file: where, what, and what would be right. Free of secrets.
///
/// Ordered by file and line, settings without a file first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Mistake {
    /// The file as it was named; `None` for flags and environment variables.
    pub file: Option<Arc<str>>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The path of the key, like `rooms.shop.capacity`, or the flag; empty if the whole file is meant.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
    /// How bad it is.
    pub grade: Grade,
}

impl Mistake {
    /// `file:line`, as far as known; empty for settings.
    pub fn location(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.to_string(),
            (None, _) => String::new(),
        }
    }

    /// The message without its location.
    pub fn message(&self) -> String {
        let colon = if self.key.is_empty() { "" } else { ": " };
        format!("{}{colon}{}; {}", self.key, self.problem, self.remedy)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.location();
        let colon = if location.is_empty() { "" } else { ": " };
        write!(f, "{location}{colon}{}", self.message())
    }
}

/// The mistakes of one file while it is being read.
struct Report {
    file: Arc<str>,
    mistakes: Vec<Mistake>,
    /// How many mistakes are kept, and how many others there were.
    most: usize,
    others: usize,
}

impl Report {
    fn new(file: &Path) -> Self {
        Self::keeping(usize::MAX, file)
    }

    /// Keeps so many mistakes and counts the others, for a file that may have as many as it has lines.
    fn keeping(most: usize, file: &Path) -> Self {
        Self { file: Arc::from(file.display().to_string()), mistakes: Vec::new(), most, others: 0 }
    }

    /// How many mistakes were found so far.
    fn found(&self) -> usize {
        self.mistakes.len() + self.others
    }

    /// The mistakes that are kept, in order, and last how many there were where that is more.
    fn told(mut self) -> Vec<Mistake> {
        self.mistakes.sort();
        if self.others > 0 {
            let problem = format!(
                "has at least {} mistakes, and {} of them are told",
                self.found(),
                self.mistakes.len()
            );
            let all = Mistake { line: None, ..self.mistake(1, "", problem, "correct these first") };
            self.mistakes.push(all);
        }
        self.mistakes
    }

    fn add(
        &mut self,
        line: usize,
        key: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.mistakes.len() >= self.most {
            self.others += 1;
            return;
        }
        self.mistakes.push(self.mistake(line, key, problem, remedy));
    }

    fn mistake(
        &self,
        line: usize,
        key: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Mistake {
        Mistake {
            file: Some(self.file.clone()),
            line: Some(line),
            key: key.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
            grade: Grade::Mistake,
        }
    }
}
