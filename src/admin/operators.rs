//! What operators see of rooms and do to them, over HTTP: with a token, and each control with an audit line.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::overview::{List, Overview, brief};
use super::token::AdminToken;
use crate::listen::Remote;
use crate::room::name::RoomName;
use crate::room::rate::Rate;
use crate::room::snapshot::Snapshot;
use crate::room::state::{Control, Limits};
use crate::rooms::{Room, Rooms};
use crate::store::StoreError;
use crate::telemetry::logs::OncePer;
use crate::telemetry::metrics::label::{Label as _, OperatorCall, OperatorResult};

/// The largest body read, in bytes.
const MAX_BODY: usize = 4 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(5);
/// The most calls answered at once; an operator or two need no more, and the store is the visitors' first.
const MAX_CALLS: usize = 8;
/// Rooms on a page, unless told otherwise, and at most.
const PAGE: usize = 1_000;
/// The longest request id that is taken over into the audit log, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Answers operators.
pub struct Operators {
    rooms: Arc<Rooms>,
    token: Option<AdminToken>,
    calls: Semaphore,
    /// Who was turned away, each logged once.
    strangers: OncePer,
}

/// Why a call is refused.
struct Refusal {
    status: StatusCode,
    counted: OperatorResult,
    detail: String,
}

type Answer<T> = Result<T, Refusal>;
type Shared = State<Arc<Operators>>;

impl Refusal {
    fn wrong(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, counted: OperatorResult::Wrong, detail: detail.into() }
    }

    fn unavailable(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, counted: OperatorResult::Unavailable, detail: detail.into() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoRoom(_) => Self {
                status: StatusCode::NOT_FOUND,
                counted: OperatorResult::NoRoom,
                detail: format!("{error}: a room is known from its first Check on, or from the rooms file"),
            },
            error => Self::unavailable(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let document = json!({"title": title, "status": self.status.as_u16(), "detail": self.detail});
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, document.to_string()).into_response();
        let extra = match self.status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer realm=\"anteroom\"")),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The calls on rooms, to be merged with the rest of the admin listener.
pub fn router(operators: Arc<Operators>) -> Router {
    Router::new()
        .route("/rooms", get(list))
        .route("/rooms/{room}", get(show))
        .route("/rooms/{room}/pause", post(pause))
        .route("/rooms/{room}/resume", post(resume))
        .route("/rooms/{room}/limits", post(limits).delete(clear))
        .route("/rooms/{room}/reset", post(reset))
        .with_state(operators)
}

async fn list(State(operators): Shared, RawQuery(query): RawQuery, request: Request) -> Response {
    let asked = Asked::new(OperatorCall::List, "", &request);
    let listed = operators.clone().list(&asked, query.unwrap_or_default()).await;
    operators.tell(&asked, listed)
}

async fn show(State(operators): Shared, Path(name): Path<String>, request: Request) -> Response {
    let asked = Asked::new(OperatorCall::Show, &name, &request);
    let shown = operators.show(&asked).await;
    operators.tell(&asked, shown)
}

async fn pause(operators: Shared, name: Path<String>, request: Request) -> Response {
    act(operators, OperatorCall::Pause, name, request).await
}

async fn resume(operators: Shared, name: Path<String>, request: Request) -> Response {
    act(operators, OperatorCall::Resume, name, request).await
}

async fn limits(operators: Shared, name: Path<String>, request: Request) -> Response {
    act(operators, OperatorCall::Limits, name, request).await
}

async fn clear(operators: Shared, name: Path<String>, request: Request) -> Response {
    act(operators, OperatorCall::Clear, name, request).await
}

async fn reset(operators: Shared, name: Path<String>, request: Request) -> Response {
    act(operators, OperatorCall::Reset, name, request).await
}

async fn act(
    State(operators): Shared,
    call: OperatorCall,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let asked = Asked::new(call, &name, &request);
    let done = operators.act(&asked, request.into_body()).await;
    if let Err(refusal) = &done
        && refusal.counted != OperatorResult::Unauthorized
    {
        asked.audit(refusal.counted, "", &refusal.detail);
    }
    operators.tell(&asked, done)
}

/// A call, and who makes it.
struct Asked {
    call: OperatorCall,
    /// As the path has it.
    name: String,
    token: Option<Vec<u8>>,
    peer: Remote,
    request_id: Option<String>,
}

impl Asked {
    fn new(call: OperatorCall, name: &str, request: &Request) -> Self {
        let headers = request.headers();
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Self {
            call,
            name: name.to_owned(),
            token: bearer(headers),
            peer: request.extensions().get().copied().unwrap_or_default(),
            request_id: id.filter(|id| id.len() <= MAX_REQUEST_ID).map(str::to_owned),
        }
    }

    fn room(&self) -> Answer<RoomName> {
        let rule = || Refusal::wrong(format!("a room name is {}", RoomName::RULE));
        RoomName::parse(&self.name).ok_or_else(rule)
    }

    /// Says who has done what to which room, and how that went.
    fn audit(&self, result: OperatorResult, before: &str, after: &str) {
        tracing::info!(
            target: "anteroom::audit",
            op = self.call.as_str(),
            // Whatever stands in a path: shown only as far as a name may go.
            room = RoomName::parse(&self.name).as_ref().map_or("(no room name)", RoomName::as_str),
            result = result.as_str(),
            before,
            after,
            peer = %self.peer,
            request = self.request_id,
            "an operator's call"
        );
    }
}

impl Operators {
    /// Answers operators who show this token; without one nobody is answered.
    pub fn new(rooms: Arc<Rooms>, token: Option<AdminToken>) -> Self {
        Self { rooms, token, calls: Semaphore::new(MAX_CALLS), strangers: OncePer::new() }
    }

    fn admit(&self, asked: &Asked) -> Answer<()> {
        let (status, detail) = match (&self.token, &asked.token) {
            (Some(token), Some(shown)) if token.is(shown) => return Ok(()),
            (None, _) => (
                StatusCode::FORBIDDEN,
                "rooms cannot be looked at or controlled here: set --admin-token-file (ANTEROOM_ADMIN_TOKEN_FILE)",
            ),
            (Some(_), None) => {
                (StatusCode::UNAUTHORIZED, "show the operators' token: Authorization: Bearer TOKEN")
            }
            (Some(_), Some(_)) => (StatusCode::UNAUTHORIZED, "the token is not the operators' token"),
        };
        if self.strangers.is_news((asked.peer.ip(), asked.call.as_str())) {
            tracing::warn!(
                target: "anteroom::audit",
                op = asked.call.as_str(), peer = %asked.peer, status = status.as_u16(),
                "turned away, without the operators' token; further calls like this are only counted"
            );
        }
        Err(Refusal { status, counted: OperatorResult::Unauthorized, detail: detail.to_owned() })
    }

    fn tell<T: serde::Serialize>(&self, asked: &Asked, answer: Answer<T>) -> Response {
        let (counted, mut response) = match answer {
            Ok(told) => (OperatorResult::Done, Json(told).into_response()),
            Err(refusal) => (refusal.counted, refusal.into_response()),
        };
        self.rooms.metrics().operator_called(asked.call, counted);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn slot(&self) -> Answer<tokio::sync::SemaphorePermit<'_>> {
        let busy = |_| Refusal::unavailable(format!("{MAX_CALLS} calls are being answered; try again"));
        self.calls.try_acquire().map_err(busy)
    }

    async fn list(self: Arc<Self>, asked: &Asked, query: String) -> Answer<List> {
        self.admit(asked)?;
        let page = Page::read(&query)?;
        let _slot = self.slot()?;
        let rooms = self.rooms.clone();
        // Off the workers that tick: there may be a million.
        let named = tokio::task::spawn_blocking(move || page.of(rooms.all())).await;
        let (rooms, next, known) = named.map_err(|lost| Refusal::unavailable(lost.to_string()))?;
        self.rooms.look_at(&rooms).await;
        let rooms = rooms.iter().filter_map(|room| self.rooms.knows(room));
        Ok(List { rooms: rooms.map(|known| Overview::of(&known)).collect(), next, known })
    }

    async fn show(&self, asked: &Asked) -> Answer<Overview> {
        self.admit(asked)?;
        let name = asked.room()?;
        let _slot = self.slot()?;
        let room = self.rooms.room_named(&name).await?;
        self.rooms.look_at(std::slice::from_ref(&room)).await;
        self.overview(&room)
    }

    fn overview(&self, room: &Room) -> Answer<Overview> {
        let unseen = || Refusal::unavailable("the store has not told anything of this room yet");
        self.rooms.knows(room).map(|known| Overview::of(&known)).ok_or_else(unseen)
    }

    async fn act(&self, asked: &Asked, body: Body) -> Answer<Overview> {
        self.admit(asked)?;
        let name = asked.room()?;
        let _slot = self.slot()?;
        let control = control(asked.call, &name, &whole(body).await?)?;
        let room = self.rooms.room_named(&name).await?;
        let before = brief(&*self.rooms.refresh(&room).await?);
        let after = self.rooms.control(&room, control).await.map_err(|error| match error {
            StoreError::Unavailable(why) => Refusal::unavailable(format!(
                "the store does not answer ({why}): this may have been done or not; look at the room"
            )),
            error => error.into(),
        })?;
        let seen = |snapshot: &Arc<Snapshot>| brief(snapshot);
        let after = after.as_ref().map_or_else(|| "not seen yet".to_owned(), seen);
        asked.audit(OperatorResult::Done, &before, &after);
        self.overview(&room)
    }
}

/// What is asked for, from the body.
fn control(call: OperatorCall, name: &RoomName, body: &[u8]) -> Answer<Control> {
    match call {
        OperatorCall::Limits => {
            let Stated { capacity, rate, burst } =
                read(body, r#"{"capacity": 500, "rate": "50/s", "burst": 50}"#)?;
            Limits::stated(capacity, rate, burst).map(Control::Limits).map_err(Refusal::wrong)
        }
        OperatorCall::Reset => {
            let example = format!(r#"{{"confirm": "{name}"}}"#);
            let Confirmed { confirm } = read(body, &example)?;
            if confirm != name.as_str() {
                let why = "everybody in line would lose their place, and everybody inside their pass";
                return Err(Refusal::wrong(format!("{why}: to do so, send {example}")));
            }
            Ok(Control::Reset)
        }
        _ if !body.trim_ascii().is_empty() => Err(Refusal::wrong("this call takes no body")),
        OperatorCall::Pause => Ok(Control::Pause),
        OperatorCall::Resume => Ok(Control::Resume),
        OperatorCall::Clear => Ok(Control::Limits(Limits::default())),
        OperatorCall::List | OperatorCall::Show => Err(Refusal::wrong("this call only looks")),
    }
}

/// An operator's limits, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    capacity: Option<u32>,
    rate: Option<Rate>,
    burst: Option<u32>,
}

/// That a reset is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    confirm: String,
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8], example: &str) -> Answer<T> {
    let wrong =
        |error| Refusal::wrong(format!("the body cannot be understood: {error}; send JSON like {example}"));
    serde_json::from_slice(body).map_err(wrong)
}

async fn whole(body: Body) -> Answer<axum::body::Bytes> {
    let read = tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await;
    let incomplete = |_| Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        ..Refusal::wrong(format!("the body did not come whole within {} s", BODY_TIME.as_secs()))
    };
    let unread = |_| Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        ..Refusal::wrong(format!("the body is larger than {MAX_BODY} bytes, or broke off"))
    };
    read.map_err(incomplete)?.map_err(unread)
}

fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii().to_vec())
}

/// Which rooms a list is to show.
#[derive(Debug, PartialEq)]
struct Page {
    after: String,
    limit: usize,
}

impl Page {
    fn read(query: &str) -> Answer<Self> {
        let mut page = Self { after: String::new(), limit: PAGE };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "after" => page.after = value.into_owned(),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
                    let wrong = || Refusal::wrong(format!("limit is a number from 1 to {PAGE}"));
                    page.limit = limit.ok_or_else(wrong)?;
                }
                _ => return Err(Refusal::wrong("only after and limit can be asked for")),
            }
        }
        Ok(page)
    }

    /// The rooms of the page, what to ask for next, and how many there are in all.
    fn of(&self, mut rooms: Vec<Arc<Room>>) -> (Vec<Arc<Room>>, Option<String>, usize) {
        let known = rooms.len();
        rooms.retain(|room| room.name().as_str() > self.after.as_str());
        rooms.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let more = rooms.len() > self.limit;
        rooms.truncate(self.limit);
        let next = rooms.last().filter(|_| more).map(|room| room.name().to_string());
        (rooms, next, known)
    }
}
