//! The identity file: which issuers vouch for users, where tokens are, what the backend is told, what needs no user.

use std::path::Path;

use http::HeaderName;

use super::rooms_file::read_methods;
use super::yaml::{self, Entry, Node, Path as KeyPath};
use super::{Mistake, Report};
use crate::identity::public::{MAX_PUBLIC, PublicPath, PublicPaths, PublicPattern};
use crate::identity::settings::{IdentitySettings, IssuerSettings, MAX_ISSUERS, TokenPlace, UserHeaders};
use crate::room::policy::{quoted, unknown_key};

mod issuer;

const KEYS: [&str; 4] = ["issuers", "token", "headers", "public"];
/// The longest text that names something, in bytes.
const MAX_NAME: usize = 512;
/// What matters to how a request is sent on, and can tell nobody who is asking.
const TAKEN_HEADERS: [&str; 10] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
];

/// Reads the identity file's text; `file` is its name for messages, and its folder is where the files that it names are.
/// Reports every mistake.
pub fn parse(text: &str, file: &Path) -> Result<IdentitySettings, Vec<Mistake>> {
    let mut report = Report::new(file);
    let read = match yaml::parse(text, &mut report) {
        Err(unreadable) => {
            report.mistakes.push(unreadable);
            None
        }
        Ok(documents) => {
            Reader { report: &mut report, folder: file.parent().unwrap_or(Path::new("")) }.file(&documents)
        }
    };
    report.mistakes.sort();
    match read {
        Some(settings) if report.mistakes.is_empty() => Ok(settings),
        _ => Err(report.mistakes),
    }
}

struct Reader<'a> {
    report: &'a mut Report,
    folder: &'a Path,
}

impl Reader<'_> {
    fn wrong(
        &mut self,
        line: usize,
        key: KeyPath<'_>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report.add(line, key, problem, remedy);
    }

    /// Notes keys of a map that mean nothing; whether it is a map at all.
    fn is_map(&mut self, node: &Node, line: usize, path: KeyPath<'_>, known: &[&str]) -> bool {
        if !node.is_map() {
            let remedy = format!("write a map with {}", known.join(", "));
            self.wrong(line, path, format!("is {}", node.kind()), remedy);
        }
        for entry in node.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let mistake = unknown_key(&entry.key, known);
            self.wrong(entry.line, path.key(&entry.key), mistake.problem, mistake.remedy);
        }
        node.is_map()
    }

    fn file(&mut self, documents: &[Node]) -> Option<IdentitySettings> {
        const SHAPE: &str =
            "write issuers: and below it a list of issuers with issuer, audiences, jwks and algorithms";
        if let [_, extra, ..] = documents {
            self.wrong(
                extra.line,
                KeyPath::Root.key("issuers"),
                "stands in a second document",
                "write one document",
            );
        }
        let root = documents.first().filter(|root| root.is_map());
        let Some(root) = root else {
            self.wrong(1, KeyPath::Root.key("issuers"), "is missing", SHAPE);
            return None;
        };
        self.is_map(root, root.line, KeyPath::Root, &KEYS);
        let list = root.get("issuers");
        let items = list.map_or(&[][..], |list| list.value.items());
        let path = KeyPath::Root.key("issuers");
        match items.len() {
            0 => self.wrong(list.map_or(root.line, |list| list.line), path, "names no issuer", SHAPE),
            1..=MAX_ISSUERS => {}
            many => {
                let remedy = format!("keep at most {MAX_ISSUERS}");
                self.wrong(
                    list.map_or(root.line, |list| list.line),
                    path,
                    format!("has {many} issuers"),
                    remedy,
                );
                return None;
            }
        }
        let mut issuers: Vec<IssuerSettings> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let here = path.index(index);
            let Some(issuer) = self.issuer(item, here) else { continue };
            if issuers.iter().any(|other| other.issuer == issuer.issuer) {
                let remedy = "name each issuer once; one issuer may have several audiences and algorithms";
                self.wrong(item.line, here.key("issuer"), "is named before", remedy);
            }
            issuers.push(issuer);
        }
        let token = root.get("token").map_or_else(TokenPlace::default, |entry| self.token(entry));
        let headers = root.get("headers").map_or_else(UserHeaders::default, |entry| self.headers(entry));
        let public = root.get("public").map_or_else(PublicPaths::default, |entry| self.public(entry));
        if let Some(entry) = root.get("token").filter(|_| headers.is_ours(&token.header)) {
            let remedy = "take the token from a header of its own";
            self.wrong(
                entry.line,
                KeyPath::Root.key("token"),
                "is the header that tells who is asking",
                remedy,
            );
        }
        Some(IdentitySettings { issuers, token, headers, public })
    }

    fn text(&mut self, entry: &Entry, path: KeyPath<'_>) -> Option<String> {
        let text =
            entry.value.text().filter(|text| (1..=MAX_NAME).contains(&text.len()) && !entry.value.is_null());
        if text.is_none() {
            self.wrong(
                entry.line,
                path,
                format!("is {}", entry.value.kind()),
                "write a text of 1 to 512 bytes",
            );
        }
        text.map(str::to_owned)
    }

    fn token(&mut self, entry: &Entry) -> TokenPlace {
        let path = KeyPath::Root.key("token");
        let mut place = TokenPlace::default();
        self.is_map(&entry.value, entry.line, path, &["header", "cookie"]);
        if let Some(header) = entry.value.get("header") {
            place.header = self.header(header, path.key("header"), &["cookie", "host", "content-length"]);
        }
        if let Some(cookie) = entry.value.get("cookie") {
            let text = cookie.value.text().unwrap_or_default();
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if !(1..=128).contains(&text.len())
                || !text.bytes().all(is_token)
                || text.starts_with("anteroom_")
            {
                let problem = format!("{} is no name for it", quoted(text));
                self.wrong(
                    cookie.line,
                    path.key("cookie"),
                    problem,
                    "write the name of the cookie, like id_token",
                );
            }
            place.cookie = Some(text.to_owned());
        }
        place
    }

    fn headers(&mut self, entry: &Entry) -> UserHeaders {
        let path = KeyPath::Root.key("headers");
        let mut headers = UserHeaders::default();
        self.is_map(&entry.value, entry.line, path, &["id", "type"]);
        for (key, place) in [("id", &mut headers.id), ("type", &mut headers.kind)] {
            if let Some(header) = entry.value.get(key) {
                *place = self.header(header, path.key(key), &TAKEN_HEADERS);
            }
        }
        if headers.id == headers.kind {
            self.wrong(entry.line, path, "has one header for both", "give id and type a header each");
        }
        headers
    }

    fn header(&mut self, entry: &Entry, path: KeyPath<'_>, taken: &[&str]) -> String {
        let text = entry.value.text().unwrap_or_default();
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        let free =
            name.filter(|name| !taken.contains(&name.as_str()) && !name.as_str().starts_with("x-anteroom-"));
        let Some(name) = free else {
            let problem = format!("{} is no header for this", quoted(text));
            self.wrong(entry.line, path, problem, "write the name of a header of its own, like x-user-id");
            return text.to_owned();
        };
        name.as_str().to_owned()
    }

    fn public(&mut self, entry: &Entry) -> PublicPaths {
        let path = KeyPath::Root.key("public");
        let items = entry.value.items();
        if items.is_empty() || items.len() > MAX_PUBLIC {
            let problem = format!("is {} of {} patterns", entry.value.kind(), items.len());
            let remedy = format!("list 1 to {MAX_PUBLIC} maps with path and methods, or leave it out");
            self.wrong(entry.line, path, problem, remedy);
            return PublicPaths::default();
        }
        let mut patterns = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let here = path.index(index);
            if !self.is_map(item, item.line, here, &["path", "methods"]) {
                continue;
            }
            let methods = match item.get("methods") {
                Some(list) => read_methods(&list.value, list.line, here.key("methods"), self.report),
                None => vec!["GET".into(), "HEAD".into()],
            };
            let written = item.get("path");
            let text = written.and_then(|written| written.value.text()).unwrap_or_default();
            match PublicPath::parse(text) {
                Ok(path) => patterns.push(PublicPattern { methods, path }),
                Err(remedy) => {
                    let problem = format!("{} is no pattern for paths", quoted(text));
                    self.wrong(
                        written.map_or(item.line, |written| written.line),
                        here.key("path"),
                        problem,
                        remedy,
                    );
                }
            }
        }
        PublicPaths::new(patterns)
    }
}

#[cfg(test)]
mod tests;
