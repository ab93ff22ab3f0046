//! Templates: HTML with `{{placeholders}}`, parsed once into what is copied and what is filled in.

/// The largest template, in bytes: 48 KiB. The page travels inside every waiting answer, and filled in it must pass
/// `max_denied_response_body_bytes` in `envoy/envoy.yaml` (64 KiB).
pub const MAX_TEMPLATE_BYTES: usize = 48 * 1_024;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A placeholder that means nothing.
    #[error("line {line}: {{{{{name}}}}} is not a known placeholder; {remedy}")]
    UnknownPlaceholder {
        /// The name between the braces, at most 64 characters of it.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// The nearest name, or all of them.
        remedy: String,
    },
    /// A placeholder whose closing braces are missing.
    #[error(
        "line {line}: a placeholder begins with {{{{ and does not end in the same line; close it with }}}}"
    )]
    Unclosed {
        /// The line, counted from 1.
        line: usize,
    },
    /// A script or style the page's content security policy would block without a word.
    #[error("line {line}: browsers will block this <{element}>; write <{element} nonce=\"{{{{nonce}}}}\">")]
    WithoutNonce {
        /// `script` or `style`.
        element: &'static str,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nothing to show.
    #[error("the template is empty; start from web/example-template.html")]
    Empty,
    /// More than [`MAX_TEMPLATE_BYTES`].
    #[error("the template is {bytes} bytes long; at most {MAX_TEMPLATE_BYTES} are allowed")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// A piece of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Copied as it is.
    Literal(String),
    /// Filled in.
    Slot(Slot),
}

impl Segment {
    pub(super) fn literal_bytes(&self) -> usize {
        match self {
            Self::Literal(text) => text.len(),
            Self::Slot(_) => 0,
        }
    }
}

/// What a placeholder stands for; `docs/page.md` describes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Room,
    Lang,
    Status,
    Title,
    Headline,
    Lead,
    Position,
    PositionLength,
    Ahead,
    Waiting,
    Number,
    Eta,
    EtaNote,
    Connection,
    RefreshSeconds,
    StateJson,
    StringsJson,
    Nonce,
    Style,
    Script,
    /// `text.KEY`: one of the labels of `web/strings.json`.
    Text(String),
}

/// The placeholders by name, in the order of the documentation.
pub(super) const SLOTS: [(&str, Slot); 20] = [
    ("room", Slot::Room),
    ("lang", Slot::Lang),
    ("status", Slot::Status),
    ("title", Slot::Title),
    ("headline", Slot::Headline),
    ("lead", Slot::Lead),
    ("position", Slot::Position),
    ("position_length", Slot::PositionLength),
    ("ahead", Slot::Ahead),
    ("waiting", Slot::Waiting),
    ("number", Slot::Number),
    ("eta", Slot::Eta),
    ("eta_note", Slot::EtaNote),
    ("connection", Slot::Connection),
    ("refresh_seconds", Slot::RefreshSeconds),
    ("state_json", Slot::StateJson),
    ("strings_json", Slot::StringsJson),
    ("nonce", Slot::Nonce),
    ("style", Slot::Style),
    ("script", Slot::Script),
];

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
}

impl Template {
    /// Parses a template; `labels` are the keys that `text.KEY` may name.
    pub(super) fn parse<'a>(text: &str, labels: impl Iterator<Item = &'a str>) -> Result<Self, PageError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(PageError::TooLarge { bytes: text.len() });
        }
        // Windows editors begin a file with a byte order mark; in an answer it would be a character.
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Err(PageError::Empty);
        }
        let labels: Vec<&str> = labels.collect();
        for element in ["script", "style"] {
            require_nonce(text, element)?;
        }
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let line = line_of(text, text.len() - rest.len() + at);
            let (before, from) = rest.split_at(at);
            let inside = &from[2..];
            let name = inside.lines().next().and_then(|line| line.split_once("}}")).map(|(name, _)| name);
            let name = name.ok_or(PageError::Unclosed { line })?;
            if !before.is_empty() {
                segments.push(Segment::Literal(before.into()));
            }
            segments.push(Segment::Slot(slot(name.trim(), line, &labels)?));
            rest = &inside[name.len() + 2..];
        }
        if !rest.is_empty() {
            segments.push(Segment::Literal(rest.into()));
        }
        Ok(Self { segments })
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn slot(name: &str, line: usize, labels: &[&str]) -> Result<Slot, PageError> {
    if let Some((_, slot)) = SLOTS.iter().find(|(known, _)| *known == name) {
        return Ok(slot.clone());
    }
    let label = name.strip_prefix("text.").and_then(|key| labels.iter().find(|label| **label == key));
    if let Some(label) = label {
        return Ok(Slot::Text((*label).into()));
    }
    let mut known: Vec<String> = SLOTS.iter().map(|(name, _)| (*name).into()).collect();
    known.extend(labels.iter().map(|label| format!("text.{label}")));
    let name: String = name.chars().take(64).collect();
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(&name, known), known)).min();
    let remedy = match nearest {
        Some((distance, nearest)) if distance <= 2 => format!("did you mean {{{{{nearest}}}}}?"),
        _ => format!("known are {}", known.join(", ")),
    };
    Err(PageError::UnknownPlaceholder { name, line, remedy })
}

/// Every `<script>` and `<style>` must carry the nonce, unless it only holds data.
fn require_nonce(text: &str, element: &'static str) -> Result<(), PageError> {
    let lower = text.to_ascii_lowercase();
    let opening = format!("<{element}");
    for (at, _) in lower.match_indices(&opening) {
        let tag = lower[at + opening.len()..].split('>').next().unwrap_or_default();
        let names_the_element = tag.is_empty() || tag.starts_with(|c: char| c.is_ascii_whitespace());
        let is_data = tag.contains("application/json");
        let has_nonce = tag.replace(' ', "").contains("{{nonce}}");
        if names_the_element && !is_data && !has_nonce {
            return Err(PageError::WithoutNonce { element, line: line_of(text, at) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, PageError> {
        Template::parse(text, ["position", "again"].into_iter())
    }

    #[test]
    fn literals_and_slots_in_order() {
        let literal = |text: &str| Segment::Literal(text.into());
        let found = parse("\u{feff}<p>{{room}}{{ text.again }} {한}</p>\n").unwrap().segments;
        let expected = [
            literal("<p>"),
            Segment::Slot(Slot::Room),
            Segment::Slot(Slot::Text("again".into())),
            literal(" {한}</p>\n"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_slip_names_the_line_and_the_nearest() {
        let error = parse("<p>\n대기\n{{positon}}").unwrap_err().to_string();
        assert_eq!(error, "line 3: {{positon}} is not a known placeholder; did you mean {{position}}?");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        for name in ["customer_name", "text.colour", "text.", "", "{"] {
            let error = parse(&format!("{{{{{name}}}}}")).unwrap_err();
            assert!(matches!(error, PageError::UnknownPlaceholder { line: 1, .. }), "{name}: {error}");
        }
        let error = parse("{{customer_name}}").unwrap_err().to_string();
        assert!(error.contains("refresh_seconds") && error.contains("text.again"), "{error}");
    }

    #[test]
    fn open_braces_must_close_in_their_line() {
        for text in ["{{", "a\n{{room", "a\n{{room\n}}", "a\n{{room}"] {
            let line = text.matches('\n').count().min(1) + 1;
            assert_eq!(parse(text).unwrap_err(), PageError::Unclosed { line }, "{text:?}");
        }
    }

    #[test]
    fn what_the_browser_would_block_is_refused() {
        for text in ["\n<script>{{script}}</script>", "\n<SCRIPT src='x'>", "\n<style>p {}</style>"] {
            assert!(matches!(parse(text), Err(PageError::WithoutNonce { line: 2, .. })), "{text}");
        }
        for text in [
            "<script nonce=\"{{nonce}}\">{{script}}</script>",
            "<Style media=print Nonce='{{ nonce }}'>p {}</Style>",
            "<script type=\"application/json\" id=\"anteroom-state\">{{state_json}}</script>",
            "<scripture>",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn empty_and_huge_templates_are_refused() {
        for text in ["", " \n", "\u{feff}"] {
            assert_eq!(parse(text).unwrap_err(), PageError::Empty);
        }
        let bytes = MAX_TEMPLATE_BYTES + 1;
        assert_eq!(parse(&"x".repeat(bytes)).unwrap_err(), PageError::TooLarge { bytes });
        assert!(parse(&"x".repeat(bytes - 1)).is_ok());
    }
}
