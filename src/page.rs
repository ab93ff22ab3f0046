//! The waiting page: what visitors see while they wait, as one self-contained HTML document.
//!
//! Pure rendering: a template, parsed once, and a [`View`] in; HTML out. The built-in template, its style, script and
//! wording lie in `web/`; `docs/page.md` tells operators how to write a template of their own. Who is refused sees another
//! page ([`refusal`]).

pub(crate) mod compact;
mod escape;
mod lang;
pub mod refusal;
mod template;
mod wording;

use crate::room::name::RoomName;
use crate::room::standing::{Standing, Status};

pub use lang::Lang;
pub use template::{MAX_TEMPLATE_BYTES, PageError};

use template::{Segment, Slot, Template};
use wording::{Saying, Wording};

/// How often a page without script asks again when there is nothing left to wait for: in effect never, so that
/// a forgotten tab does not line up again and again.
const GONE_REFRESH_SECONDS: u32 = 86_400;

/// What a page shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View<'a> {
    /// A visitor with a number.
    Standing(&'a Standing),
    /// The store is out: no number yet, ask again.
    Hold {
        /// Which room.
        room: &'a RoomName,
        /// When to ask again, in seconds; 0 counts as 1.
        retry_after: u32,
    },
}

impl View<'_> {
    /// The state's word in the page, its style and its script.
    fn status(&self) -> &'static str {
        match self {
            // Admitted or called, the page does the same: it enters.
            Self::Standing(standing) if standing.status == Status::Admitted => Status::Called.as_str(),
            Self::Standing(standing) => standing.status.as_str(),
            Self::Hold { .. } => "hold",
        }
    }

    fn room(&self) -> &RoomName {
        match self {
            Self::Standing(standing) => &standing.room,
            Self::Hold { room, .. } => room,
        }
    }

    /// Seconds until a page without script loads itself again, at least 1.
    fn refresh_seconds(&self) -> u32 {
        match self {
            Self::Standing(standing) if standing.status == Status::Gone => GONE_REFRESH_SECONDS,
            Self::Standing(standing) => standing.poll_after.max(1),
            Self::Hold { retry_after, .. } => (*retry_after).max(1),
        }
    }

    /// What the page's script starts from: the standing as every interface tells it, or `hold`.
    fn state(&self) -> serde_json::Value {
        match self {
            Self::Standing(standing) => serde_json::json!(standing),
            Self::Hold { room, .. } => {
                serde_json::json!({ "status": "hold", "room": room, "poll_after": self.refresh_seconds() })
            }
        }
    }
}

/// The waiting page in every language, ready to be rendered.
#[derive(Clone, Debug)]
pub struct Page {
    korean: Prepared,
    english: Prepared,
}

/// A template with everything filled in that depends on the language alone.
#[derive(Clone, Debug)]
struct Prepared {
    wording: Wording,
    segments: Vec<Segment>,
    /// Bytes of the literals: a lower bound for the rendered page.
    literal_bytes: usize,
}

impl Page {
    /// The page Anteroom comes with.
    #[expect(clippy::expect_used, reason = "the template is part of the program; a test renders it")]
    pub fn builtin() -> Self {
        Self::from_template(include_str!("../web/waiting.html")).expect("the built-in template is sound")
    }

    /// A page from an operator's template; see `docs/page.md` for the placeholders.
    ///
    /// # Errors
    /// [`PageError`] says what is wrong with the template, in which line, and what would be right.
    pub fn from_template(text: &str) -> Result<Self, PageError> {
        let (korean, english) = (Wording::of(Lang::Ko), Wording::of(Lang::En));
        let template = Template::parse(text, english.labels().map(String::as_str))?;
        Ok(Self {
            korean: Prepared::new(&template, Lang::Ko, korean),
            english: Prepared::new(&template, Lang::En, english),
        })
    }

    /// The page as HTML.
    ///
    /// `nonce` must be fresh and unguessable for each answer and the same as in its
    /// [`content_security_policy`]. Everything filled in is escaped for where it stands.
    pub fn render(&self, lang: Lang, view: &View<'_>, nonce: &str) -> String {
        let prepared = match lang {
            Lang::Ko => &self.korean,
            Lang::En => &self.english,
        };
        let saying = prepared.wording.says(view);
        let mut html = String::with_capacity(prepared.literal_bytes + 1_024);
        for segment in &prepared.segments {
            match segment {
                Segment::Literal(text) => html.push_str(text),
                Segment::Slot(slot) => fill(&mut html, slot, view, &saying, nonce),
            }
        }
        html
    }
}

impl Prepared {
    fn new(template: &Template, lang: Lang, wording: Wording) -> Self {
        let mut segments: Vec<Segment> = Vec::with_capacity(template.segments.len());
        for segment in &template.segments {
            let segment = match segment {
                Segment::Slot(slot) => match fixed(slot, lang, &wording) {
                    Some(text) => Segment::Literal(text),
                    None => segment.clone(),
                },
                Segment::Literal(_) => segment.clone(),
            };
            match (segments.last_mut(), segment) {
                (Some(Segment::Literal(before)), Segment::Literal(text)) => before.push_str(&text),
                (_, segment) => segments.push(segment),
            }
        }
        let literal_bytes = segments.iter().map(Segment::literal_bytes).sum();
        Self { wording, segments, literal_bytes }
    }
}

/// What stands in a slot whatever the view; `None` for the slots that depend on it.
fn fixed(slot: &Slot, lang: Lang, wording: &Wording) -> Option<String> {
    match slot {
        Slot::Lang => Some(lang.as_str().into()),
        Slot::Text(label) => Some(escape::html(wording.label(label))),
        Slot::StringsJson => Some(escape::json(wording.live_json())),
        Slot::Style => Some(compact::style(include_str!("../web/waiting.css"))),
        Slot::Script => Some(compact::script(include_str!("../web/waiting.js"))),
        _ => None,
    }
}

fn fill(html: &mut String, slot: &Slot, view: &View<'_>, saying: &Saying<'_>, nonce: &str) {
    let text = match slot {
        Slot::Room => view.room().as_str(),
        Slot::Status => view.status(),
        Slot::Nonce => nonce,
        Slot::Title => &saying.title,
        Slot::Headline => saying.headline,
        Slot::Lead => saying.lead,
        Slot::Position => &saying.position,
        Slot::Ahead => &saying.ahead,
        Slot::Waiting => &saying.waiting,
        Slot::Number => &saying.number,
        Slot::Eta => &saying.eta,
        Slot::EtaNote => saying.eta_note,
        Slot::Connection => &saying.connection,
        Slot::PositionLength => return html.push_str(&saying.position.chars().count().to_string()),
        Slot::RefreshSeconds => return html.push_str(&view.refresh_seconds().to_string()),
        Slot::StateJson => return html.push_str(&escape::json(&view.state().to_string())),
        // Filled in by `fixed` when the page was prepared.
        Slot::Lang | Slot::Text(_) | Slot::StringsJson | Slot::Style | Slot::Script => return,
    };
    escape::html_into(html, text);
}

/// The `Content-Security-Policy` a waiting page is served with: its own script and style, its own origin's
/// positions, nothing from anywhere else.
///
/// Characters that cannot stand in a nonce (RFC 4648 base64, both alphabets) are left out, so that no nonce can
/// break out of the header.
pub fn content_security_policy(nonce: &str) -> String {
    let nonce: String = nonce.chars().filter(|c| c.is_ascii_alphanumeric() || "+/-_=".contains(*c)).collect();
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
}

#[cfg(test)]
mod tests;
