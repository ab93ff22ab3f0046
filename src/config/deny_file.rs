//! The deny file: who is refused before anything else is looked at.

use std::path::Path;

use super::yaml::{self, Entry as YamlEntry, Node, Path as KeyPath};
use super::{Mistake, Report};
use crate::room::deny::written::{KEYS, Written};
use crate::room::deny::{DenyList, Entry};
use crate::room::policy::unknown_key;

/// Reads the deny file's text; `file` is only its name for messages. Reports every mistake. An empty list is fine:
/// whoever has nobody to refuse keeps the file for later.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Entry>, Vec<Mistake>> {
    let mut report = Report::new(file);
    let mut entries = Vec::new();
    match yaml::parse(text, &mut report) {
        Err(unreadable) => report.mistakes.push(unreadable),
        Ok(documents) => read(&documents, &mut entries, &mut report),
    }
    if report.mistakes.is_empty() {
        // Built once only to see whether it can be.
        match DenyList::new(entries) {
            Ok(list) => return Ok(list.into_entries()),
            Err(error) => report.add(1, "deny", error.to_string(), "name wider networks, or fewer"),
        }
    }
    report.mistakes.sort();
    Err(report.mistakes)
}

fn read(documents: &[Node], entries: &mut Vec<Entry>, report: &mut Report) {
    const SHAPE: &str = "write deny: and below it a list of entries with ip, user_agent or subject";
    let root = documents.first().filter(|root| root.is_map());
    if let [_, extra, ..] = documents {
        report.add(extra.line, "deny", "stands in a second document", "put all entries into one document");
    }
    for entry in root.map_or(&[][..], Node::entries).iter().filter(|entry| entry.key != "deny") {
        let mistake = unknown_key(&entry.key, &["deny"]);
        report.add(entry.line, KeyPath::Root.key(&entry.key), mistake.problem, mistake.remedy);
    }
    let Some(list) = root.and_then(|root| root.get("deny")) else {
        report.add(1, "deny", "is missing", SHAPE);
        return;
    };
    if list.value.text().is_some_and(str::is_empty) {
        // As a file that is being written looks for a moment; read as a list of nobody it would let all of them in.
        report.add(list.line, "deny", "has nothing below it", "write deny: [] where nobody is to be refused");
    } else if !matches!(list.value.value, yaml::Value::List(_)) {
        report.add(list.line, "deny", format!("is {}", list.value.kind()), SHAPE);
    }
    let path = KeyPath::Root.key("deny");
    for (index, item) in list.value.items().iter().enumerate() {
        entries.extend(read_entry(item, path.index(index), report));
    }
}

fn read_entry(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<Entry> {
    if !item.is_map() {
        let remedy = "write a map with ip, user_agent or subject, like ip: 192.0.2.0/24";
        report.add(item.line, path, format!("is {}", item.kind()), remedy);
        return None;
    }
    let before = report.mistakes.len();
    let mut written = Written::default();
    for YamlEntry { key, line, value } in item.entries() {
        match (written.field(key), value.text()) {
            (None, _) => {
                let mistake = unknown_key(key, &KEYS);
                report.add(*line, path.key(key), mistake.problem, mistake.remedy);
            }
            (_, None) => {
                report.add(*line, path.key(key), format!("is {}", value.kind()), "write a single value");
            }
            (Some(field), Some(text)) => *field = Some(text.to_owned()),
        }
    }
    if report.mistakes.len() > before {
        return None;
    }
    match written.entry() {
        Ok(entry) => Some(entry),
        Err(mistake) => {
            let line = item.get(&mistake.key).map_or(item.line, |entry| entry.line);
            // What is wrong with the whole entry has no key in it.
            let place = if KEYS.contains(&mistake.key.as_str()) { path.key(&mistake.key) } else { path };
            report.add(line, place, mistake.problem, mistake.remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Entry>, Vec<String>> {
        let parsed = parse(text, Path::new("deny.yaml"));
        parsed.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_is_read() {
        let text = "deny:\n- ip: 192.0.2.0/24\n  until: 2026-12-01T00:00:00Z\n- {user_agent: scraper, note: 'a bot'}\n";
        let entries = parsed(text).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].until, Some(1_796_083_200_000));
        assert!(parsed("deny: []").unwrap().is_empty());
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text =
            "deny:\n- ip: 192.0.2.7/24\n- 5\n- {ip: 192.0.2.1, unti: x}\n- {}\n- {subject: [a]}\nmore: 1\n";
        let found = parsed(text).unwrap_err();
        let lines: Vec<&str> = found.iter().map(|text| text.split(": ").next().unwrap()).collect();
        let expected = [2, 3, 4, 5, 6, 7].map(|line| format!("deny.yaml:{line}"));
        assert_eq!(lines, expected, "{found:#?}");
        assert_eq!(parsed("").unwrap_err().len(), 1);
        assert_eq!(parsed("deny: yes").unwrap_err().len(), 1);
        assert_eq!(parsed("deny:\n").unwrap_err().len(), 1, "written half");
    }
}
