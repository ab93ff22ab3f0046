//! Reads Rust sources as far as tidiness needs: code without comments, strings and tests; paths; names.

#![expect(clippy::unwrap_used, reason = "sources that cannot be read are a failed test")]

use std::path::Path;

/// A Rust file.
pub(crate) struct Source {
    /// Its path from the project's root, with `/`.
    pub(crate) file: String,
    /// As it stands there.
    pub(crate) text: String,
    // The same without comments, strings and test modules; line by line as long as the original.
    code: String,
}

/// The files of the program and its library, less those that are tests.
pub(crate) fn of_the_program() -> Vec<Source> {
    let mut sources = read(&["src"]);
    let tests: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    sources.retain(|source| !tests.contains(&source.file));
    assert!(sources.iter().any(|source| source.file == "src/lib.rs"), "src/lib.rs is not where it was");
    sources
}

/// Every Rust file of the project.
pub(crate) fn all() -> Vec<Source> {
    read(&["src", "tests", "benches", "examples", "loadtest", "build.rs"])
}

fn read(roots: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut left: Vec<_> = roots.iter().map(|name| root.join(name)).filter(|path| path.exists()).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            // What cargo builds is not ours.
            if path.file_name().is_some_and(|name| name != "target") {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            sources.push(Source::of(&file, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

impl Source {
    /// A file of this path and text.
    pub(crate) fn of(file: &str, text: &str) -> Self {
        let code = without_tests(&without_comments_and_strings(text));
        Self { file: file.to_owned(), text: text.to_owned(), code }
    }

    /// The top module it belongs to: `src/room/line.rs` is in `room`.
    pub(crate) fn module(&self) -> &str {
        self.path()[0]
    }

    fn path(&self) -> Vec<&str> {
        let path = self.file.strip_prefix("src/").unwrap_or(&self.file);
        path.trim_end_matches(".rs").split('/').collect()
    }

    /// Lines of code with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines as they stand there with their numbers, from 1.
    pub(crate) fn raw_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Paths into the crate that the code names, from the crate's root on, with their lines.
    pub(crate) fn imports(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for (start, depth) in self.roots() {
            let line = self.code[..start].matches('\n').count() + 1;
            let mut here: Vec<String> = self.path().into_iter().map(str::to_owned).collect();
            here.truncate(depth);
            for path in paths(&self.code[start..]) {
                let whole: Vec<String> = here.iter().cloned().chain(path).collect();
                // A path that ends at the root itself names no module.
                if whole.first().is_some_and(|first| first.starts_with(|c: char| c.is_ascii_lowercase())) {
                    found.push((line, whole));
                }
            }
        }
        found
    }

    /// Where paths into the crate begin behind their `crate::`, `super::` or `anteroom::`, and how many
    /// modules of this file's own path stand before them.
    fn roots(&self) -> Vec<(usize, usize)> {
        let mut roots = Vec::new();
        let depth = if ["lib", "main"].contains(&self.module()) { 0 } else { self.path().len() };
        for (root, up) in [("crate::", usize::MAX), ("anteroom::", usize::MAX), ("super::", 1)] {
            let mut from = 0;
            while let Some(at) = self.code[from..].find(root).map(|at| from + at) {
                from = at + root.len();
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let mut ups = up;
                while self.code[from..].starts_with("super::") {
                    ups = ups.saturating_add(1);
                    from += "super::".len();
                }
                roots.push((from, depth.saturating_sub(ups)));
            }
        }
        roots
    }

    /// Names declared in the code, with their lines.
    pub(crate) fn declared(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in self.lines() {
            let mut tokens = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|t| !t.is_empty());
            while let Some(token) = tokens.next() {
                if ["mod", "struct", "enum", "trait", "type", "fn"].contains(&token)
                    && let Some(name) = tokens.next()
                {
                    found.push((number, name.to_owned()));
                }
            }
        }
        found
    }

    /// The files that hold test modules declared here (`#[cfg(test)] mod tests;`).
    fn test_files(&self) -> Vec<String> {
        let code = without_comments_and_strings(&self.text);
        let folder = match self.module() {
            "lib" | "main" => "src".to_owned(),
            _ => self.file.trim_end_matches(".rs").to_owned(),
        };
        let declarations = code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
            let name =
                rest.trim_start().strip_prefix("mod ")?.split(|c: char| !c.is_alphanumeric() && c != '_');
            let name = name.into_iter().next()?;
            let declared = rest.trim_start().strip_prefix("mod ")?[name.len()..].starts_with(';');
            declared.then(|| format!("{folder}/{name}.rs"))
        });
        declarations.collect()
    }
}

/// Whether a word stands in a line, and not only as part of a longer one.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(of_word) && !after.is_some_and(of_word)
    })
}

/// The words a name is made of, in lower case: `LineManager` is `line`, `manager`.
pub(crate) fn name_parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_small = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && after_small) {
            parts.push(String::new());
        }
        after_small = c.is_lowercase();
        if c != '_'
            && let Some(part) = parts.last_mut()
        {
            part.extend(c.to_lowercase());
        }
    }
    parts
}

/// The paths that begin here: one, or those of a group in braces.
fn paths(code: &str) -> Vec<Vec<String>> {
    let code = code.trim_start();
    let Some(group) = code.strip_prefix('{') else {
        let name: String = code.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            return Vec::new();
        }
        let Some(rest) = code[name.len()..].strip_prefix("::") else { return vec![vec![name]] };
        let mut longer = paths(rest);
        if longer.is_empty() {
            longer.push(Vec::new());
        }
        for path in &mut longer {
            path.insert(0, name.clone());
        }
        return longer;
    };
    let mut depth = 0;
    let mut begin = 0;
    let mut found = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.extend(paths(&group[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
        if c == '}' && begin == at + 1 {
            break;
        }
    }
    found
}

/// Puts spaces for comments, strings and characters; lines stay where they are.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = code.chars().next_back();
        let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == 'r' && (!in_word || before == Some('b')) {
            raw_string(rest).unwrap_or(0)
        } else if c == '\'' {
            // A character ends two further on, or begins with a backslash; else it is a lifetime.
            let is_char = rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'');
            if is_char { quoted(rest, '\'') } else { 0 }
        } else {
            0
        };
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|b| *b == b'#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(2 + hashes + length)
}

/// Puts spaces for modules under `#[cfg(test)]`; lines stay where they are.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut depth = 0;
        let end = rest.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            let over = (c == '}' || c == ';') && depth == 0;
            over.then_some(at + 1)
        });
        let end = end.unwrap_or(rest.len());
        kept.extend(rest[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        for (text, code) in [
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a("b\"c", 'd', b"e")"#, r"a(      ,    , b   )"),
            ("r#\"a\"b\"# c", "         c"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            (r"x('\'', y)", r"x(    , y)"),
            ("a \"b\nc\" d", "a   \n   d"),
        ] {
            assert_eq!(without_comments_and_strings(text), code, "{text}");
        }
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(name_parts("LineManager"), ["line", "manager"]);
        assert_eq!(name_parts("common_name"), ["common", "name"]);
        assert_eq!(name_parts("HTTPServer"), ["httpserver"]);
    }

    #[test]
    fn groups_are_taken_apart() {
        let paths = paths("{a::{b, c::D}, e, self};");
        let joined: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(joined, ["a::b", "a::c::D", "e", "self"]);
    }
}
