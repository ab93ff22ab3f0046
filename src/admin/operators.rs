//! What operators see of rooms and the deny list, and do to them, over HTTP: with a token, and each control with an audit
//! line.

mod body;
mod deny;
mod record;
mod refusal;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use self::body::{control, whole};
use self::record::{Asked, Record};
use self::refusal::{Answer, Refusal};
use super::overview::{List, Overview, brief};
use super::token::AdminToken;
use crate::guard::Guard;
use crate::guard::deny::Denials;
use crate::rooms::{Room, Rooms};
use crate::store::StoreError;
use crate::telemetry::logs::OncePer;
use crate::telemetry::metrics::label::{Label as _, OperatorCall, OperatorResult};

/// The most calls answered at once; an operator or two need no more, and the store is the visitors' first.
const MAX_CALLS: usize = 8;
/// Rooms on a page, unless told otherwise, and at most.
const PAGE: usize = 1_000;

/// Answers operators.
pub struct Operators {
    rooms: Arc<Rooms>,
    guard: Arc<Guard>,
    denials: Arc<Denials>,
    token: Option<AdminToken>,
    calls: Semaphore,
    /// Who was turned away, each logged once.
    strangers: OncePer,
}

type Shared = State<Arc<Operators>>;
type Named = Result<Path<String>, PathRejection>;

/// The calls on rooms, to be merged with the rest of the admin listener.
pub fn router(operators: Arc<Operators>) -> Router {
    let rooms = Router::new()
        .route("/", get(list))
        .route("/{room}", get(show))
        .route("/{room}/pause", post(pause))
        .route("/{room}/resume", post(resume))
        .route("/{room}/limits", post(limits).delete(clear))
        .route("/{room}/reset", post(reset));
    let below = |calls: Router<_>| calls.fallback(nothing_here).method_not_allowed_fallback(wrong_method);
    Router::new()
        .nest("/rooms", below(rooms))
        .nest("/deny", below(deny::router()))
        // These two are not led into the routers above.
        .route("/rooms/", any(nothing_here))
        .route("/deny/", any(nothing_here))
        .with_state(operators)
}

async fn nothing_here(operators: Shared, request: Request) -> Response {
    stray(
        &operators,
        StatusCode::NOT_FOUND,
        &request,
        "there is nothing at this path; GET / says what is here".into(),
    )
}

async fn wrong_method(operators: Shared, request: Request) -> Response {
    let detail = format!("{} is not what this path takes; GET / says what is here", request.method());
    stray(&operators, StatusCode::METHOD_NOT_ALLOWED, &request, detail)
}

/// What is none of the calls: whoever has no token does not learn even that.
fn stray(operators: &Operators, status: StatusCode, request: &Request, detail: String) -> Response {
    let asked = Asked::new(OperatorCall::Other, String::new(), request);
    let refused = operators.admit(&asked).and(Err::<(), _>(Refusal { status, ..Refusal::wrong(detail) }));
    operators.tell(&asked, refused)
}

async fn list(State(operators): Shared, RawQuery(query): RawQuery, request: Request) -> Response {
    let asked = Asked::new(OperatorCall::List, String::new(), &request);
    let listed = operators.clone().list(&asked, query.unwrap_or_default()).await;
    operators.tell(&asked, listed)
}

async fn show(State(operators): Shared, name: Named, request: Request) -> Response {
    let asked = Asked::new(OperatorCall::Show, text(name), &request);
    let shown = operators.show(&asked).await;
    operators.tell(&asked, shown)
}

/// The room's name as the path has it. What is not even text is no name, and is told so like any other: after the token
/// was seen, and counted.
fn text(name: Named) -> String {
    name.map_or_else(|_| String::new(), |Path(name)| name)
}

async fn pause(operators: Shared, name: Named, request: Request) -> Response {
    act(operators, OperatorCall::Pause, name, request).await
}

async fn resume(operators: Shared, name: Named, request: Request) -> Response {
    act(operators, OperatorCall::Resume, name, request).await
}

async fn limits(operators: Shared, name: Named, request: Request) -> Response {
    act(operators, OperatorCall::Limits, name, request).await
}

async fn clear(operators: Shared, name: Named, request: Request) -> Response {
    act(operators, OperatorCall::Clear, name, request).await
}

async fn reset(operators: Shared, name: Named, request: Request) -> Response {
    act(operators, OperatorCall::Reset, name, request).await
}

async fn act(State(operators): Shared, call: OperatorCall, name: Named, request: Request) -> Response {
    let asked = Asked::new(call, text(name), &request);
    let done = operators.act(&asked, request.into_body()).await;
    operators.tell(&asked, done)
}

impl Operators {
    /// Answers operators who show this token; without one nobody is answered.
    pub fn new(
        rooms: Arc<Rooms>,
        guard: Arc<Guard>,
        denials: Arc<Denials>,
        token: Option<AdminToken>,
    ) -> Self {
        Self { rooms, guard, denials, token, calls: Semaphore::new(MAX_CALLS), strangers: OncePer::new() }
    }

    fn admit(&self, asked: &Asked) -> Answer<()> {
        let (status, detail) = match (&self.token, &asked.token) {
            (Some(token), Some(shown)) if token.is(shown) => return Ok(()),
            (None, _) => (
                StatusCode::FORBIDDEN,
                "nothing can be looked at or controlled here: set --admin-token-file (ANTEROOM_ADMIN_TOKEN_FILE)",
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
        let mut record = Record::of(asked, self.rooms.metrics());
        let done = self.control(asked, body, &mut record).await;
        record.write(&done);
        done
    }

    async fn control(&self, asked: &Asked, body: Body, record: &mut Record<'_>) -> Answer<Overview> {
        let name = asked.room()?;
        let _slot = self.slot()?;
        let control = control(asked.call, &name, &whole(body).await?, &mut record.asked)?;
        let room = self.rooms.room_named(&name).await?;
        record.before = Some(brief(&*self.rooms.refresh(&room).await?));
        let after = self.rooms.control(&room, control).await.map_err(|error| match error {
            StoreError::Unavailable(why) => Refusal::unsure(format!(
                "the store does not answer ({why}): this may have been done or not; look at the room"
            )),
            error => error.into(),
        })?;
        record.after = Some(after.map_or_else(|| "not seen yet".to_owned(), |snapshot| brief(&snapshot)));
        self.overview(&room)
    }
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
