//! One issuer of the identity file.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::Algorithm;

use super::super::yaml::{self, Entry, Node, Path as KeyPath};
use super::{MAX_NAME, Reader};
use crate::identity::jwks::KeySet;
use crate::identity::roots::Roots;
use crate::identity::settings::{
    ALGORITHMS, DEFAULT_LEEWAY, DEFAULT_REFRESH, DEFAULT_STALE, IssuerSettings, JwksSource, MAX_AUDIENCES,
    MAX_LEEWAY,
};
use crate::room::policy::quoted;

const ISSUER_KEYS: [&str; 8] =
    ["issuer", "audiences", "jwks", "algorithms", "leeway", "refresh", "stale", "type_claim"];

impl Reader<'_> {
    pub(super) fn issuer(&mut self, item: &Node, path: KeyPath<'_>) -> Option<IssuerSettings> {
        let before = self.report.mistakes.len();
        if !self.is_map(item, item.line, path, &ISSUER_KEYS) {
            return None;
        }
        let needed = |reader: &mut Self, key: &'static str, remedy: &str| {
            let found = item.get(key);
            if found.is_none() {
                reader.wrong(item.line, path.key(key), "is missing", remedy);
            }
            found
        };
        let issuer = needed(self, "issuer", "write the iss of its tokens, to the letter")
            .and_then(|entry| self.text(entry, path.key("issuer")));
        let audiences = needed(self, "audiences", "list whom its tokens must be meant for, like [shop]")
            .map(|entry| self.audiences(entry, path.key("audiences")));
        let algorithms = needed(self, "algorithms", "list what it signs with, like [ES256]")
            .map(|entry| self.algorithms(entry, path.key("algorithms")));
        let jwks = needed(self, "jwks", "write {url: https://…} or {file: …}")
            .and_then(|entry| self.jwks(entry, path.key("jwks"), algorithms.as_deref().unwrap_or_default()));
        let second = Duration::from_secs(1);
        let leeway = self.duration(item, "leeway", path, DEFAULT_LEEWAY, Duration::ZERO, MAX_LEEWAY);
        let refresh = self.duration(item, "refresh", path, DEFAULT_REFRESH, second * 10, second * 86_400);
        let stale =
            self.duration(item, "stale", path, DEFAULT_STALE.max(refresh), refresh, second * 86_400 * 7);
        let type_claim = match item.get("type_claim") {
            Some(entry) => self.text(entry, path.key("type_claim"))?,
            None => "user_type".to_owned(),
        };
        if self.report.mistakes.len() > before {
            return None;
        }
        Some(IssuerSettings {
            issuer: issuer?,
            audiences: audiences?,
            jwks: jwks?,
            algorithms: algorithms?,
            leeway,
            refresh,
            stale,
            type_claim,
        })
    }

    fn duration(
        &mut self,
        item: &Node,
        key: &'static str,
        path: KeyPath<'_>,
        usual: Duration,
        least: Duration,
        most: Duration,
    ) -> Duration {
        let Some(entry) = item.get(key) else { return usual };
        let text = entry.value.text().unwrap_or_default();
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if (least..=most).contains(&duration) => duration,
            _ => {
                let [least, most] = [least, most].map(humantime::format_duration);
                let problem = format!("{} cannot be understood", quoted(text));
                self.wrong(
                    entry.line,
                    path.key(key),
                    problem,
                    format!("write a duration from {least} to {most}"),
                );
                usual
            }
        }
    }

    fn audiences(&mut self, entry: &Entry, path: KeyPath<'_>) -> Vec<String> {
        let items = entry.value.items();
        let fits = |item: &Node| item.text().is_some_and(|text| (1..=MAX_NAME).contains(&text.len()));
        if !(1..=MAX_AUDIENCES).contains(&items.len()) || !items.iter().all(fits) {
            let problem = format!("is {}, not a list of names", entry.value.kind());
            let remedy = "list 1 to 64 names; a token without the right audience is for somebody else";
            self.wrong(entry.line, path, problem, remedy);
        }
        items.iter().filter_map(Node::text).map(str::to_owned).collect()
    }

    fn algorithms(&mut self, entry: &Entry, path: KeyPath<'_>) -> Vec<Algorithm> {
        let known = ALGORITHMS.map(|(name, _)| name).join(", ");
        let mut algorithms = Vec::new();
        if entry.value.items().is_empty() {
            let problem = format!("is {}, not a list of algorithms", entry.value.kind());
            self.wrong(entry.line, path, problem, format!("list some of {known}"));
        }
        for (index, item) in entry.value.items().iter().enumerate() {
            let text = item.text().unwrap_or_default();
            match ALGORITHMS.iter().find(|(name, _)| *name == text) {
                Some((_, algorithm)) if !algorithms.contains(algorithm) => algorithms.push(*algorithm),
                Some(_) => {}
                None => {
                    let problem = format!("{} is no algorithm that users' tokens may have", quoted(text));
                    self.wrong(item.line, path.index(index), problem, format!("write one of {known}"));
                }
            }
        }
        algorithms
    }

    fn jwks(&mut self, entry: &Entry, path: KeyPath<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
        const SHAPE: &str = "write {url: https://…} or {file: …}";
        if !self.is_map(&entry.value, entry.line, path, &["url", "file", "ca", "insecure"]) {
            return None;
        }
        let insecure = match entry.value.get("insecure").map(|entry| (entry.line, entry.value.text())) {
            None | Some((_, Some("false"))) => false,
            Some((_, Some("true"))) => true,
            Some((line, _)) => {
                self.wrong(line, path.key("insecure"), "is neither true nor false", "write true or false");
                false
            }
        };
        let ca = entry.value.get("ca");
        match (entry.value.get("url"), entry.value.get("file")) {
            (Some(url), None) => {
                let url = self.url(url, path.key("url"), insecure);
                let Some(ca) = ca else { return url.map(|url| JwksSource::Url { url, roots: None }) };
                if url.as_ref().is_some_and(|url| url.scheme_str() != Some("https")) {
                    let remedy = "write https:// in url, or leave ca out";
                    self.wrong(ca.line, path.key("ca"), "stands beside an address without TLS", remedy);
                    return None;
                }
                let roots = self.roots(ca, path.key("ca"))?;
                url.map(|url| JwksSource::Url { url, roots: Some(roots) })
            }
            (None, Some(file)) => {
                if let Some(ca) = ca {
                    let remedy = "leave it out: it says who vouches for the server of a url";
                    self.wrong(ca.line, path.key("ca"), "stands beside file", remedy);
                }
                self.key_file(file, path.key("file"), algorithms).map(JwksSource::File)
            }
            (found, _) => {
                let problem =
                    if found.is_some() { "has both url and file" } else { "has neither url nor file" };
                self.wrong(entry.line, path, problem, SHAPE);
                None
            }
        }
    }

    fn url(&mut self, entry: &Entry, path: KeyPath<'_>, insecure: bool) -> Option<Uri> {
        let parsed = entry.value.text().unwrap_or_default().trim().parse::<Uri>().ok();
        let url = parsed.filter(|url| {
            let host = url
                .authority()
                .filter(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
            host.is_some() && matches!(url.scheme_str(), Some("http" | "https"))
        });
        let Some(url) = url else {
            // The address itself may carry a password and is not shown.
            let remedy = "write https://host/path, without user and password";
            self.wrong(entry.line, path, "is no address that keys can be fetched from", remedy);
            return None;
        };
        if url.scheme_str() == Some("http") && !insecure && !is_loopback(url.host().unwrap_or_default()) {
            let remedy = "write https://, or insecure: true beside it where the network between is closed";
            self.wrong(
                entry.line,
                path,
                "is not encrypted: whoever is on the way can name keys and be any user",
                remedy,
            );
            return None;
        }
        Some(url)
    }

    fn roots(&mut self, entry: &Entry, path: KeyPath<'_>) -> Option<Roots> {
        let remedy = "name a PEM file with the certificates of the authorities that vouch for its server";
        let read = |text: &str| Roots::read(text).map_err(|why| why.to_string());
        self.beside(entry, path, remedy, read).map(|(_, roots)| roots)
    }

    fn key_file(&mut self, entry: &Entry, path: KeyPath<'_>, algorithms: &[Algorithm]) -> Option<PathBuf> {
        let read = |text: &str| {
            // Without an algorithm no key would fit, and that is a mistake of its own.
            let algorithms = if algorithms.is_empty() {
                &ALGORITHMS.map(|(_, algorithm)| algorithm)[..]
            } else {
                algorithms
            };
            KeySet::read(text.as_bytes(), algorithms).map_err(|why| why.to_string())
        };
        let remedy = "name a file with the issuer's public keys as a JWKS";
        self.beside(entry, path, remedy, read).map(|(file, _)| file)
    }

    /// The file that an entry names, in the folder of the identity file, and what `read` makes of its text.
    fn beside<T>(
        &mut self,
        entry: &Entry,
        path: KeyPath<'_>,
        remedy: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<(PathBuf, T)> {
        let file = self.folder.join(self.text(entry, path)?);
        let text = yaml::read_file(&file).map_err(|unreadable| unreadable.problem);
        match text.and_then(|text| read(&text)) {
            Ok(made) => Some((file, made)),
            Err(problem) => {
                self.wrong(entry.line, path, format!("{}: {problem}", file.display()), remedy);
                None
            }
        }
    }
}

/// Whether what is sent to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
