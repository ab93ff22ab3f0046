//! A YAML (or JSON) file as a tree that remembers its lines, read within bounds.
//!
//! Built from the parser's events instead of by `saphyr`'s loader: that one recurses as deep as the file is
//! nested, forgets how a scalar was written (`010`, `off`, `"5"`), and stops at the first repeated key.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use builder::{Builder, Taker};
use saphyr_parser::Parser;

use super::{Grade, Mistake, Report};

mod builder;

/// The largest file that is read, in bytes: 8 MiB.
pub(super) const MAX_FILE: u64 = 8 * 1024 * 1024;
/// The most nodes a file may come to, repeats through aliases included.
const MAX_NODES: usize = 1_000_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 128;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A scalar exactly as written; `plain` means without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

impl Node {
    /// The entry of a map under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entry under either spelling: Envoy reads proto field names and their JSON twins alike.
    pub(super) fn get_either(&self, names: [&str; 2]) -> Option<&Entry> {
        self.entries().iter().find(|entry| names.contains(&entry.key.as_str()))
    }

    /// The entries of a map; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// A scalar's text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// Nothing is written here: an empty value, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            _ if self.is_null() => "empty",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// How many nodes it comes to, and how deep it is.
    fn measure(&self) -> (usize, usize) {
        let children: Vec<&Node> = match &self.value {
            Value::Scalar { .. } => return (1, 1),
            Value::List(items) => items.iter().collect(),
            Value::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
        };
        children
            .iter()
            .map(|child| child.measure())
            .fold((1, 1), |(nodes, depth), (more, below)| (nodes + more, depth.max(below + 1)))
    }
}

/// The way to a key, from the root of its document: `routes[2].metadata["a.b"]`.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write_key(f, parent, key),
        }
    }
}

/// Odd keys are quoted and escaped, so that a file cannot write control characters to a terminal.
fn write_key(f: &mut fmt::Formatter<'_>, parent: &Path<'_>, key: &str) -> fmt::Result {
    let simple = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    match (simple, parent) {
        (true, Path::Root) => f.write_str(key),
        (true, _) => write!(f, "{parent}.{key}"),
        (false, _) => {
            let shown: String = key.chars().take(128).collect();
            write!(f, "{parent}[{shown:?}]")
        }
    }
}

/// Reads a text file of at most [`MAX_FILE`] bytes.
pub fn read_file(path: &std::path::Path) -> Result<String, Mistake> {
    read_file_within(path, MAX_FILE, "is larger than 8 MiB", "split it into smaller files")
}

/// Reads a text file of at most `most` bytes; `problem` and `remedy` are what is said of a larger one.
pub(super) fn read_file_within(
    path: &std::path::Path,
    most: u64,
    problem: &str,
    remedy: &str,
) -> Result<String, Mistake> {
    let unreadable = |problem: String, remedy: &str| Mistake {
        file: Some(Arc::from(path.display().to_string())),
        line: None,
        key: String::new(),
        problem,
        remedy: remedy.into(),
        grade: Grade::Unreadable,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot be read: {error}"), "name a file that can be read"))?;
    if bytes.len() as u64 > most {
        return Err(unreadable(problem.to_owned(), remedy));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(format!("is not UTF-8 text (byte {at})"), "save it as UTF-8")
    })
}

/// Reads all documents of a YAML text. Repeated keys go to `report`; what is no YAML, or too deep or too
/// large, is the error.
pub(super) fn parse(text: &str, report: &mut Report) -> Result<Vec<Node>, Mistake> {
    build(text, Builder::new(report, None))
}

/// The same, but the items of the list under `key` at the root of the first document are handed to `take` one after the
/// other, each with its place in that list, and the list in the tree is empty: a long one need not be held. An error of
/// `take` ends the reading and is the answer.
pub(super) fn parse_items(
    text: &str,
    report: &mut Report,
    key: &str,
    take: &mut dyn FnMut(usize, Node, &mut Report) -> Result<(), Mistake>,
) -> Result<Vec<Node>, Mistake> {
    build(text, Builder::new(report, Some(Taker { key, take })))
}

fn build(text: &str, mut builder: Builder<'_>) -> Result<Vec<Node>, Mistake> {
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(read) => read,
            Err(error) => {
                let (line, column) = (error.marker().line(), error.marker().col() + 1);
                let problem = format!("is not YAML: {} (column {column})", error.info());
                return Err(builder.refuse(line, problem, "correct the syntax"));
            }
        };
        builder.take(event, span.start.line())?;
    }
    Ok(builder.roots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Result<Vec<Node>, Mistake>, Vec<String>) {
        let mut report = Report::new(std::path::Path::new("f.yaml"));
        let nodes = parse(text, &mut report);
        (nodes, report.mistakes.iter().map(ToString::to_string).collect())
    }

    fn refusal(text: &str) -> String {
        read(text).0.unwrap_err().to_string()
    }

    #[test]
    fn lines_and_spelling_are_kept() {
        let (roots, _) = read("a: 1\nb:\n  - c: '010'\n    d: off\n---\n{\"e\":\n\t\"f\"}\n");
        let roots = roots.unwrap();
        let inner = &roots[0].get("b").unwrap().value.items()[0];
        let d = inner.get("d").unwrap();
        assert_eq!((d.line, d.value.text()), (4, Some("off")));
        let c = &inner.get("c").unwrap().value.value;
        assert!(matches!(c, Value::Scalar { text, plain: false } if text == "010"));
        let e = roots[1].get("e").unwrap();
        assert_eq!((e.line, e.value.text()), (6, Some("f")));
        assert_eq!(roots.len(), 2);
    }

    #[test]
    fn repeated_keys_are_mistakes_with_their_path() {
        let (roots, mistakes) = read("a:\n  - b: 1\n    'x.y': {c: 1, c: 2}\n    b: 2\n");
        assert!(roots.is_ok());
        assert_eq!(
            mistakes,
            [
                "f.yaml:3: a[0][\"x.y\"].c: is written twice in one map, first in line 3; keep one of them",
                "f.yaml:4: a[0].b: is written twice in one map, first in line 2; keep one of them"
            ]
        );
    }

    #[test]
    fn items_are_handed_over_one_by_one() {
        let text = "a: [1]\nb:\n- {b: [2], c: 3, c: 4}\n- x\n- [y]\n---\nb: [z]\n";
        let mut report = Report::new(std::path::Path::new("f.yaml"));
        let mut taken = Vec::new();
        let mut take = |at, item: Node, _: &mut Report| {
            taken.push((at, item.line, item.kind()));
            Ok(())
        };
        let roots = parse_items(text, &mut report, "b", &mut take).unwrap();
        assert_eq!(taken, [(0, 3, "a map"), (1, 4, "a single value"), (2, 5, "a list")]);
        let lengths = |root: &Node| ["a", "b"].map(|key| root.get(key).map(|list| list.value.items().len()));
        assert_eq!((lengths(&roots[0]), lengths(&roots[1])), ([Some(1), Some(0)], [None, Some(1)]));
        assert!(report.mistakes[0].to_string().starts_with("f.yaml:3: b[0].c: is written twice"));
        let mut stop = |at, item: Node, report: &mut Report| {
            if at == 1 { Err(report.mistake(item.line, "b", "is enough", "stop")) } else { Ok(()) }
        };
        let text = format!("{text}not: [yaml");
        let stopped = parse_items(&text, &mut report, "b", &mut stop).unwrap_err();
        assert_eq!(stopped.to_string(), "f.yaml:4: b: is enough; stop");
    }

    #[test]
    fn syntax_errors_name_their_position() {
        let message = refusal("a: 1\nb: [1, 2\nc: }\n");
        assert!(message.starts_with("f.yaml:3: is not YAML"), "{message}");
        assert!(refusal("a: *nobody\n").contains("anchor"));
        assert!(refusal("a: &a [*a]\n").contains("inside its own anchor"));
        assert!(refusal("? [a]\n: b\n").contains("where a key belongs"));
    }

    #[test]
    fn bombs_are_refused() {
        let laugh = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
        let laughs: Vec<_> = (1..12).map(laugh).collect();
        assert!(refusal(&format!("a0: &a0 ha\n{}", laughs.concat())).contains("aliases written out"));
        assert!(refusal(&"- ".repeat(100_000)).contains("deeper"));
        // The parser reads ahead, and has its own limit for brackets.
        assert!(refusal(&"[".repeat(100_000)).contains("recursion limit"));
        assert!(refusal(&format!("{}{}", "[".repeat(200), "]".repeat(200))).contains("deeper"));
        let half = |name: &str, inner: &str| {
            format!("{name}: &{name} {}{inner}{}\n", "[".repeat(100), "]".repeat(100))
        };
        assert!(refusal(&(half("a", "x") + &half("b", "*a"))).contains("deeper"));
        assert!(refusal(&"- x\n".repeat(MAX_NODES + 1)).contains("more than"));
    }

    #[test]
    fn odd_keys_are_escaped_in_paths() {
        let root = Path::Root;
        assert_eq!(root.key("\u{1b}[31m").to_string(), "[\"\\u{1b}[31m\"]");
        assert_eq!(root.key("a").index(3).key("b-c").to_string(), "a[3].b-c");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a:\\[\\]{}&*!|>'\"%@`#?, \n\t0-9~\u{feff}é]{0,80}") {
            let _ = read(&text);
        }
    }
}
