//! Forward auth: a Check asked over plain HTTP, for proxies that have no `ext_authz`: nginx, Traefik, Caddy.
//!
//! The proxy tells what it was asked in `X-Forwarded-Method`, `-Uri` and `-Host`, and sends the client's own headers
//! along. Everything else is the Check's: the same gate decides, and [`super::response`] gives the answer its form.
//!
//! The listener can be reached by visitors, so nothing here believes more than a Check does: limits come from the
//! rooms file alone, nobody is a signed-in user, and whoever calls it directly gets what a Check would have given.

mod answer;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use axum::routing::any;

use super::Gate;
use super::order::{Handed, Purpose};
use super::request::Question;
use crate::pb::check::{Asked, Http};
use crate::room::name::RoomName;
use crate::room::policy::Policy;

/// What the proxy says about a request begins with this.
const FORWARDED: &str = "x-forwarded-";
/// A token that [`Door::Nginx`] was answered a moment ago, on its way to [`Door::NginxAnswer`]: a ticket, or behind
/// [`HANDED_PASS`] a pass.
const HANDED_HEADER: &str = "x-anteroom-handed";
const HANDED_PASS: &str = "pass=";
const TICKET_HEADER: &str = super::response::TICKET_HEADER;
const PASS_HEADER: &str = super::response::PASS_HEADER;

/// Which proxy asks, as `?door=` says: they differ in what they can do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// 2xx lets the request through, any other answer goes to the client as it is. Traefik.
    Plain,
    /// The same, but of several `Set-Cookie` it could hand on only one: each comes in a header of its own.
    Caddy,
    /// `auth_request` takes 2xx and 401, and has no use for a body: who waits gets 401 and a ticket.
    Nginx,
    /// What nginx then asks for, to hand it to the client: the whole answer. It lets nothing through.
    NginxAnswer,
}

/// The endpoint `/anteroom/v1/auth`, for any method.
pub fn router(gate: Arc<Gate>) -> Router {
    Router::new().route("/anteroom/v1/auth", any(auth)).with_state(gate)
}

async fn auth(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    // The client's body stays with the proxy; one that comes all the same is not read.
    let (parts, _) = request.into_parts();
    match Forwarded::read(&gate, &parts) {
        Ok(forwarded) => forwarded.ask(&gate).await,
        Err(unclear) => answer::unclear(&unclear),
    }
}

/// Why a proxy's question cannot be asked: the proxy is set up wrongly, or it is none.
struct Unclear {
    status: StatusCode,
    detail: String,
}

/// A proxy's question.
struct Forwarded<'a> {
    door: Door,
    question: Question<'a>,
    handed: Option<Handed<'a>>,
}

impl<'a> Forwarded<'a> {
    fn read(gate: &'a Gate, parts: &'a Parts) -> Result<Self, Unclear> {
        let unclear = |detail: String| Unclear { status: StatusCode::BAD_REQUEST, detail };
        let (mut door, mut room) = (Door::Plain, None);
        for (key, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match (&*key, &*value) {
                ("door", "caddy") => door = Door::Caddy,
                ("door", "nginx") => door = Door::Nginx,
                ("door", "nginx-answer") => door = Door::NginxAnswer,
                ("door", _) => return Err(unclear("door is caddy, nginx or nginx-answer".to_owned())),
                ("room", name) => room = Some(gate.filed(name)?),
                _ => return Err(unclear("the parameters are door and room".to_owned())),
            }
        }
        let headers = &parts.headers;
        let required = |name: &str| {
            let value = single(headers, name).map_err(unclear)?;
            value.ok_or_else(|| {
                unclear(format!("{name} is missing: the proxy states the client's request in it"))
            })
        };
        let host = match single(headers, "x-forwarded-host").map_err(unclear)? {
            Some(host) => host,
            None => single(headers, header::HOST.as_str()).map_err(unclear)?.unwrap_or_default(),
        };
        let handed = match door {
            Door::NginxAnswer => single(headers, HANDED_HEADER).map_err(unclear)?,
            _ => None,
        };
        let handed = handed.map(|token| match token.strip_prefix(HANDED_PASS) {
            Some(pass) => Handed::Pass(pass),
            None => Handed::Ticket(token),
        });
        // It takes the place of one that the client shows.
        let shown = handed.map(|handed| match handed {
            Handed::Ticket(ticket) => (TICKET_HEADER, ticket.as_bytes()),
            Handed::Pass(pass) => (PASS_HEADER, pass.as_bytes()),
        });
        let replaced = shown.map(|(name, _)| name);
        let passed_on = headers.iter().filter(|(name, _)| is_the_clients(name, replaced));
        let passed_on = passed_on.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let asked = Asked {
            http: Some(Http {
                method: required("x-forwarded-method")?,
                path: required("x-forwarded-uri")?,
                host,
                raw_headers: passed_on.chain(shown).collect(),
                ..Http::default()
            }),
            // Only named: its limits are those of the rooms file.
            context_extensions: room.map(|room| ("room", room.as_str())).into_iter().collect(),
            ..Asked::default()
        };
        Ok(Self { door, question: gate.recognised(asked.into()), handed })
    }

    async fn ask(&self, gate: &Gate) -> Response {
        let give = |verdict: &_, policy: Option<&Policy>| {
            answer::in_short(self.door, verdict).unwrap_or_else(|| {
                answer::in_full(self.door, gate.render(verdict, policy, &self.question), &self.question)
            })
        };
        let purpose = match self.door {
            Door::NginxAnswer => Purpose::Answer { handed: self.handed },
            _ => Purpose::Pass,
        };
        gate.checked(&self.question, purpose, give).await
    }
}

impl Gate {
    /// A room that the proxy names. The rooms file must have it: a name alone brings no limits.
    fn filed(&self, name: &str) -> Result<&RoomName, Unclear> {
        if let Some(policy) = self.limits.named(name) {
            return Ok(&policy.room);
        }
        self.rooms.metrics().config_error();
        // Apart from the other mistakes: anybody can make these up, and must not use up the log for those.
        if self.strangers.is_news(name) {
            let name: String = name.chars().take(64).collect();
            tracing::warn!(
                room = name,
                "forward auth asks for a room that the rooms file does not have: name it in --rooms"
            );
        }
        let detail = "the rooms file has no room of this name".to_owned();
        Err(Unclear { status: StatusCode::NOT_FOUND, detail })
    }
}

/// Whether a header is the client's own, and neither what the proxy says about it nor `replaced`.
fn is_the_clients(name: &HeaderName, replaced: Option<&str>) -> bool {
    let name = name.as_str();
    // Whom the proxy heard from, at its end.
    let tells_address = name == "x-forwarded-for";
    (tells_address || !name.starts_with(FORWARDED)) && name != HANDED_HEADER && Some(name) != replaced
}

/// The value of a header that may stand there once: of two, one may be the client's.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(format!("{name} stands there twice: the proxy must replace what a client sends"));
    }
    let Some(value) = value else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| format!("{name} is no text"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}
