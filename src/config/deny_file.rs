//! The deny file: who is refused before anything else is looked at.

use std::path::Path;

use super::yaml::{self, Entry as YamlEntry, Node, Path as KeyPath};
use super::{Mistake, Report};
use crate::room::deny::written::{KEYS, Written};
use crate::room::deny::{DenyList, Entry, MAX_ENTRIES};
use crate::room::policy::unknown_key;

/// The key that entries stand under.
pub(super) const LIST: &str = "deny";
/// How many mistakes are told: a list that some program has written may have one in each line.
const TOLD: usize = 100;

/// Reads the deny file's text; `file` is only its name for messages. Reports the first 100 mistakes, and how many there are.
/// An empty list is fine: whoever has nobody to refuse keeps the file for later.
///
/// Entries are read one by one and a refused list keeps none of them, so that it costs little more than its text.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Entry>, Vec<Mistake>> {
    let mut report = Report::keeping(TOLD, file);
    let mut entries = Vec::new();
    let path = KeyPath::Root.key(LIST);
    let mut take = |at: usize, item: Node, report: &mut Report| {
        if at >= MAX_ENTRIES {
            let problem = format!("has more than {MAX_ENTRIES} entries");
            return Err(report.mistake(item.line, LIST, problem, "name wider networks, or fewer"));
        }
        let entry = read_entry(&item, path.index(at), report);
        if report.found() > 0 {
            entries = Vec::new();
        }
        entries.extend(entry);
        Ok(())
    };
    match yaml::parse_items(text, &mut report, LIST, &mut take) {
        Err(mistake) => report.mistakes.push(mistake),
        Ok(documents) => check_shape(&documents, &mut report),
    }
    if report.mistakes.is_empty() {
        // Built once only to see whether it can be.
        match DenyList::new(entries) {
            Ok(list) => return Ok(list.into_entries()),
            Err(error) => report.add(1, "deny", error.to_string(), "name wider networks, or fewer"),
        }
    }
    Err(report.told())
}

/// What is wrong around the entries.
fn check_shape(documents: &[Node], report: &mut Report) {
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
}

fn read_entry(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<Entry> {
    if !item.is_map() {
        let remedy = "write a map with ip, user_agent or subject, like ip: 192.0.2.0/24";
        report.add(item.line, path, format!("is {}", item.kind()), remedy);
        return None;
    }
    let before = report.found();
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
    if report.found() > before {
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
        let text = "deny:\n- {ip: 192.0.2.1, ip: 192.0.2.2}\ndeny: []\n---\ndeny: [5]\n";
        let found = parsed(text).unwrap_err();
        let begins = |told: &String| {
            [2, 3, 5].iter().position(|line| told.starts_with(&format!("deny.yaml:{line}: deny")))
        };
        assert_eq!(found.iter().map(begins).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)], "{found:#?}");
        assert_eq!(parsed("deny: yes").unwrap_err().len(), 1);
        assert_eq!(parsed("deny:\n").unwrap_err().len(), 1, "written half");
    }

    #[test]
    fn a_long_list_of_mistakes_is_cut_short_and_a_long_list_is_read_no_further() {
        let found = parsed(&format!("deny:\n{}", "- ip: x\n".repeat(50_000))).unwrap_err();
        assert_eq!(found.len(), TOLD + 1);
        assert!(found[0].starts_with("deny.yaml:2: deny[0].ip: \"x\" is no network"), "{}", found[0]);
        assert_eq!(
            found[TOLD],
            "deny.yaml: has at least 50000 mistakes, and 100 of them are told; correct these first"
        );
        let full = format!("deny:\n{}", "- ip: 192.0.2.1\n".repeat(MAX_ENTRIES));
        assert_eq!(parsed(&full).unwrap().len(), MAX_ENTRIES);
        let found = parsed(&format!("{full}{}}} no YAML\n", "- ip: x\n".repeat(9))).unwrap_err();
        let line = MAX_ENTRIES + 2;
        let expected =
            format!("deny.yaml:{line}: deny: has more than 100000 entries; name wider networks, or fewer");
        assert_eq!(found, [expected], "what follows is not even read");
    }
}
