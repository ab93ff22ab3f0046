//! The keys file: what signs and verifies tickets and passes. Nothing secret is ever put into a message.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::yaml::{self, Node, Path as KeyPath};
use super::{Grade, Mistake, Report};
use crate::room::policy::{quoted, unknown_key};
use crate::room::token::{Key, Material};

/// The shortest HS256 secret, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const MIN_SECRET: usize = 32;
/// The longest HS256 secret, in bytes.
pub const MAX_SECRET: usize = 1024;
/// The most keys in a file: the first signs, the others verify what was signed before a change of keys.
pub const MAX_KEYS: usize = 32;

const KEYS: [&str; 5] = ["kid", "alg", "secret", "private_key", "public_key"];

/// Reads the keys file's text; `file` is only its name for messages. Reports every mistake.
///
/// There is at least one key, and the first can sign.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Key>, Vec<Mistake>> {
    let mut report = Report::new(file);
    let mut keys = Vec::new();
    match yaml::parse(text, &mut report) {
        Err(unreadable) => report.mistakes.push(unreadable),
        Ok(documents) => read(&documents, &mut keys, &mut report),
    }
    report.mistakes.sort();
    if report.mistakes.is_empty() { Ok(keys) } else { Err(report.mistakes) }
}

/// Makes a fresh HS256 key of 256 random bits, and the text of a keys file that holds it.
pub fn generate() -> (Key, String) {
    let secret: [u8; MIN_SECRET] = rand::random();
    let kid = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
    let text =
        format!("keys:\n  - kid: \"{kid}\"\n    alg: HS256\n    secret: {}\n", STANDARD.encode(secret));
    (Key { kid, material: Material::Hs256(secret.to_vec()) }, text)
}

/// A warning when others than the owner and its group can read a file with secrets, or others than the owner change it.
/// The group may read: that is how Kubernetes hands a secret to a program that is not root.
pub fn exposed(path: &Path) -> Option<Mistake> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o037 != 0).then(|| Mistake {
        file: Some(path.display().to_string().into()),
        line: None,
        key: String::new(),
        problem: format!("holds secrets and can be used by others (mode {:04o})", mode & 0o7777),
        remedy: "let only its owner read it: chmod 600, or its group too: chmod 640".into(),
        grade: Grade::Warning,
    })
}

fn read(documents: &[Node], keys: &mut Vec<Key>, report: &mut Report) {
    const SHAPE: &str = "write keys: and below it a list of keys with kid, alg and secret";
    let root = documents.first().filter(|root| root.is_map());
    let list = root.and_then(|root| root.get("keys"));
    if let [_, extra, ..] = documents {
        report.add(extra.line, "keys", "stands in a second document", "put all keys into one document");
    }
    for entry in root.map_or(&[][..], Node::entries).iter().filter(|entry| entry.key != "keys") {
        let mistake = unknown_key(&entry.key, &["keys"]);
        report.add(entry.line, KeyPath::Root.key(&entry.key), mistake.problem, mistake.remedy);
    }
    let Some(list) = list else {
        report.add(1, "keys", "is missing", SHAPE);
        return;
    };
    let items = list.value.items();
    if items.is_empty() {
        report.add(list.line, "keys", "names no key", SHAPE);
    }
    if items.len() > MAX_KEYS {
        let problem = format!("has {} keys", items.len());
        report.add(list.line, "keys", problem, format!("keep at most {MAX_KEYS}"));
        return;
    }
    let path = KeyPath::Root.key("keys");
    let mut kids: HashMap<&str, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let here = path.index(index);
        let key = read_key(item, here, report);
        if let Some(entry) = item.get("kid")
            && let Some(kid) = entry.value.text()
            && let Some(first) = kids.insert(kid, entry.line)
        {
            let problem = format!("is the kid of the key in line {first} too");
            report.add(entry.line, here.key("kid"), problem, "give every key a kid of its own");
        }
        if let (0, Some(Key { material: Material::EdDsaPublic(_), .. })) = (index, &key) {
            let problem = "is the first key, which signs, but has only its public half";
            report.add(item.line, here, problem, "put a key with a secret or private_key first");
        }
        keys.extend(key);
    }
}

fn read_key(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<Key> {
    let before = report.mistakes.len();
    if !item.is_map() {
        report.add(item.line, path, format!("is {}", item.kind()), "write a map with kid, alg and secret");
        return None;
    }
    for entry in item.entries() {
        let here = path.key(&entry.key);
        if !KEYS.contains(&entry.key.as_str()) {
            let mistake = unknown_key(&entry.key, &KEYS);
            report.add(entry.line, here, mistake.problem, mistake.remedy);
        } else if entry.value.text().is_none_or(|text| text.trim().is_empty()) {
            report.add(entry.line, here, format!("is {}", entry.value.kind()), "write a single value");
        }
    }
    let kid = read_kid(item, path, report);
    let material = read_material(item, path, report);
    (report.mistakes.len() == before).then_some(Key { kid: kid?, material: material? })
}

fn read_kid(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<String> {
    let Some(entry) = item.get("kid") else {
        report.add(item.line, path.key("kid"), "is missing", "name the key, like 2026-11");
        return None;
    };
    let kid = entry.value.text().unwrap_or_default();
    let fits = (1..=64).contains(&kid.len())
        && kid.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !fits {
        let remedy = "write 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
        report.add(entry.line, path.key("kid"), "is no name for a key", remedy);
    }
    fits.then(|| kid.to_owned())
}

fn read_material(item: &Node, path: KeyPath<'_>, report: &mut Report) -> Option<Material> {
    let Some(alg) = item.get("alg") else {
        report.add(item.line, path.key("alg"), "is missing", "write HS256 or EdDSA");
        return None;
    };
    let fields: &[&str] = match alg.value.text() {
        Some("HS256") => &["secret"],
        Some("EdDSA") => &["private_key", "public_key"],
        other => {
            let problem = format!("{} is no algorithm known here", quoted(other.unwrap_or_default()));
            report.add(alg.line, path.key("alg"), problem, "write HS256 or EdDSA");
            return None;
        }
    };
    let given: Vec<_> =
        item.entries().iter().filter(|entry| KEYS[2..].contains(&entry.key.as_str())).collect();
    let [entry] = given[..] else {
        let problem = format!("has {} of secret, private_key and public_key", given.len());
        report.add(item.line, path, problem, format!("state exactly one: {}", fields.join(" or ")));
        return None;
    };
    if !fields.contains(&entry.key.as_str()) {
        let remedy = format!("state {} instead", fields.join(" or "));
        report.add(entry.line, path.key(&entry.key), "does not belong to this alg", remedy);
        return None;
    }
    let text = entry.value.text().unwrap_or_default();
    let (material, problem, remedy) = match entry.key.as_str() {
        "secret" => match STANDARD.decode(text.trim()) {
            Ok(secret) if (MIN_SECRET..=MAX_SECRET).contains(&secret.len()) => {
                return Some(Material::Hs256(secret));
            }
            Ok(secret) => (
                None,
                format!("is {} bytes long", secret.len()),
                "write 32 to 1024 random bytes in base64: openssl rand -base64 32",
            ),
            Err(_) => (
                None,
                "is not base64".to_owned(),
                "write at least 32 random bytes in base64: openssl rand -base64 32",
            ),
        },
        "private_key" => (
            jsonwebtoken::EncodingKey::from_ed_pem(text.as_bytes())
                .ok()
                .map(|_| Material::EdDsa(text.to_owned())),
            "is not an Ed25519 private key in PEM".to_owned(),
            "write what this prints, as a block after |: openssl genpkey -algorithm ed25519",
        ),
        _ => (
            jsonwebtoken::DecodingKey::from_ed_pem(text.as_bytes())
                .ok()
                .map(|_| Material::EdDsaPublic(text.to_owned())),
            "is not an Ed25519 public key in PEM".to_owned(),
            "write what this prints, as a block after |: openssl pkey -in private.pem -pubout",
        ),
    };
    if material.is_none() {
        report.add(entry.line, path.key(&entry.key), problem, remedy);
    }
    material
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../tests/data/keys.yaml");

    fn mistakes(text: &str) -> Vec<String> {
        parse(text, Path::new("k")).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_sample_is_understood() {
        let keys = parse(SAMPLE, Path::new("keys.yaml")).unwrap();
        let kids: Vec<_> = keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, ["2026-11", "signer", "verifier"]);
        assert!(matches!(&keys[0].material, Material::Hs256(secret) if secret.len() == 32));
        assert!(matches!(keys[1].material, Material::EdDsa(_)));
        assert!(matches!(keys[2].material, Material::EdDsaPublic(_)));
    }

    #[test]
    fn a_fresh_key_reads_back_and_no_two_are_alike() {
        let (key, text) = generate();
        assert_eq!(parse(&text, Path::new("k")).unwrap(), std::slice::from_ref(&key));
        assert_ne!(generate().0, key);
    }

    #[test]
    fn every_mistake_is_found() {
        let text = "keys:\n\
            - {kid: a b, alg: HS256, secret: c2hvcnQ=}\n\
            - {kid: x, alg: none, secret: c2hvcnQ=}\n\
            - {kid: x, alg: HS256, private_key: c2hvcnQ=}\n\
            - {alg: EdDSA, private_key: nonsense, secrt: c2hvcnQ=}\n\
            - {kid: y, alg: HS256, secret: '%%%'}\n\
            - {kid: z, alg: EdDSA}\n\
            - 5\n";
        let found = mistakes(text);
        for expected in [
            "k:2: keys[0].kid: is no name",
            "k:2: keys[0].secret: is 5 bytes long",
            "k:3: keys[1].alg: \"none\" is no algorithm",
            "k:4: keys[2].kid: is the kid of the key in line 3 too",
            "k:4: keys[2].private_key: does not belong",
            "k:5: keys[3].kid: is missing",
            "k:5: keys[3].private_key: is not an Ed25519 private key",
            "k:5: keys[3].secrt: is not a known key; did you mean secret?",
            "k:6: keys[4].secret: is not base64",
            "k:7: keys[5]: has 0 of",
            "k:8: keys[6]: is a single value",
        ] {
            assert!(found.iter().any(|message| message.starts_with(expected)), "{expected}: {found:#?}");
        }
        assert_eq!(found.len(), 11, "{found:#?}");
    }

    #[test]
    fn a_public_key_does_not_sign() {
        let public = SAMPLE.split_once("  - kid: verifier").unwrap().1;
        let found = mistakes(&format!("keys:\n  - kid: verifier{public}"));
        assert!(found.len() == 1 && found[0].contains("only its public half"), "{found:?}");
        for text in ["", "keys: []", "keys: 1", "keyz: []", "[]"] {
            assert!(parse(text, Path::new("k")).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_stay_secret() {
        let secret = STANDARD.encode([7; 31]);
        let text =
            format!("keys: [{{kid: a, alg: HS256, secret: {secret}}}, {{kid: b, alg: {secret}x{secret}}}]");
        let told = mistakes(&text).join("\n");
        assert!(!told.contains(&secret), "{told}");
        let (key, text) = generate();
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.kid) && shown.contains("redacted"));
        let secret = text.split("secret: ").nth(1).unwrap().trim();
        assert!(!shown.contains(secret) && !shown.contains("[1"), "{shown}");
    }

    #[test]
    fn keys_open_to_others_are_warned_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode = |mode| std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(exposed(file.path()), None);
        mode(0o440);
        assert_eq!(exposed(file.path()), None, "as Kubernetes has it");
        for open in [0o644, 0o660] {
            mode(open);
            let warning = exposed(file.path()).unwrap();
            assert_eq!(warning.grade, Grade::Warning);
            assert!(warning.problem.contains(&format!("{open:04o}")), "{warning}");
        }
    }
}
