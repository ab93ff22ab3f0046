//! The polling API that Anteroom replaces: its clients say who they are, once a minute, and hear whether to wait.
//!
//! They keep no cookies. Users are told apart by `loginId` (or the client's address, where there is none) and host, as
//! they say themselves; nobody verifies it, as nobody did before.

mod form;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;

use self::form::Form;
use super::entrance::{BadToken, Entrance};
use super::http::cross_origin::{self, Sender};
use super::http::never_cached;
use super::problem::{Problem, problem};
use crate::room::decision::{Verdict, without_store};
use crate::room::name::RoomName;
use crate::room::policy::{Mode, Policy, Source};
use crate::room::state::Subject;
use crate::rooms::poll::Turn;
use crate::rooms::visit::VisitError;
use crate::rooms::{Room, Rooms};
use crate::routes::Routes;
use crate::routes::path::normalise_host;
use crate::store::StoreError;
use crate::telemetry::metrics::label::PollAnswer;

/// Keeps these users apart from those that `jwt_authn` has verified.
const DOMAIN: &str = "anteroom tracer 1";

/// Where the room is told by host and page.
const EVERY_ROOM: &str = "/anteroom/v1/tracer";

/// What the polling API works with.
#[derive(Clone)]
pub struct TracerDesk {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// Which requests belong to which of them.
    pub routes: Arc<Routes>,
    /// Who is turned away before the rooms are asked.
    pub entrance: Arc<Entrance>,
}

/// The API's routes: `/anteroom/v1/tracer`, and the same for one room under its name.
pub fn router(desk: TracerDesk) -> Router {
    let polls = || get(poll).post(poll).options(cross_origin::any_preflight).fallback(other_method);
    Router::new()
        .route(EVERY_ROOM, polls())
        .route("/anteroom/v1/rooms/{room}/tracer", polls())
        .layer(from_fn(never_cached))
        .with_state(desk)
}

async fn other_method(method: Method) -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} is not what this path takes"))
}

/// The room in the path, where there is one.
type Named = Result<Path<String>, PathRejection>;

async fn poll(desk: State<TracerDesk>, name: Named, request: Request) -> Response {
    let domain = domain(&request);
    let sender = Sender::of(request.headers());
    let in_path = request.uri().path() != EVERY_ROOM;
    let address = match desk.entrance.visitor(request.headers(), BadToken::Unread).await {
        Ok(visitor) => visitor.address,
        Err(refused) => {
            desk.rooms.metrics().polled(PollAnswer::Error);
            return Problem::Visit(refused).into_response();
        }
    };
    let form = match Form::read(request).await {
        Ok(form) => form,
        Err((status, detail)) => {
            desk.rooms.metrics().polled(PollAnswer::Error);
            return problem(status, &detail);
        }
    };
    // A name that is not even text is still one that was meant.
    let name = in_path.then(|| name.map_or_else(|_| String::new(), |Path(name)| name));
    let room = desk.room(name.as_deref(), &form).await;
    let policy = room.as_ref().ok().and_then(Option::as_ref).and_then(|room| room.policy());
    // Also by GET, which takes a place here: a foreign page need only show an image of that address.
    if sender.is_refused(policy.as_deref()) {
        desk.rooms.metrics().polled(PollAnswer::Error);
        let mut response = cross_origin::refusal();
        sender.may_read(&mut response, policy.as_deref());
        return response;
    }
    let (turn, counted) = match room {
        Ok(Some(room)) => desk.turn(&room, &form, address).await,
        Ok(None) => (Ok(None), PollAnswer::NoRoom),
        Err(problem) => (Err(problem), PollAnswer::Error),
    };
    desk.rooms.metrics().polled(counted);
    let mut response = match turn {
        Ok(turn) => Json(Answer::of(turn.as_ref(), &form, &domain)).into_response(),
        Err(problem) => problem.into_response(),
    };
    sender.may_read(&mut response, policy.as_deref());
    response
}

impl TracerDesk {
    /// The room that is meant: the one in the path, else the rooms file's by host and page, else `?room=`. `None`:
    /// there is no such room, so there is nothing to wait for. But one in the path was meant for sure, and not to know
    /// it (yet) must not open the door.
    async fn room(&self, name: Option<&str>, form: &Form) -> Result<Option<Arc<Room>>, Problem> {
        if let Some(name) = name {
            let name = RoomName::parse(name).ok_or(Problem::BadName)?;
            let found = self.named(&name).await?;
            return found.ok_or_else(|| Problem::Visit(StoreError::NoRoom(name).into())).map(Some);
        }
        // The page comes without its method: the rules for GET count.
        if let Some(policy) = self.routes.policy_for(Method::GET.as_str(), &form.host, &form.page_url) {
            return self.opened(policy).map(Some);
        }
        match &form.room {
            Some(name) => self.named(&RoomName::parse(name).ok_or(Problem::BadName)?).await,
            None => Ok(None),
        }
    }

    async fn named(&self, name: &RoomName) -> Result<Option<Arc<Room>>, Problem> {
        if let Some(policy) = self.routes.by_name(name.as_str()) {
            return self.opened(policy).map(Some);
        }
        match self.rooms.room_named(name).await {
            Ok(room) => Ok(Some(room)),
            Err(StoreError::NoRoom(_)) => Ok(None),
            Err(error) => Err(Problem::Visit(error.into())),
        }
    }

    fn opened(&self, policy: &Arc<Policy>) -> Result<Arc<Room>, Problem> {
        self.rooms.room_with(policy, Source::RoomsFile).map_err(|error| Problem::Visit(error.into()))
    }

    async fn turn(
        &self,
        room: &Arc<Room>,
        form: &Form,
        address: Option<IpAddr>,
    ) -> (Result<Option<Turn>, Problem>, PollAnswer) {
        let user = Subject::of(&[DOMAIN, &normalise_host(&form.host), form.user()]);
        match self.rooms.poll(room, user, address).await {
            Ok(turn) => {
                let answer = if turn.may_enter { PollAnswer::Go } else { PollAnswer::Wait };
                (Ok(Some(turn)), answer)
            }
            Err(VisitError::Store(StoreError::Unavailable(why))) => {
                let turn = in_outage(room).ok_or(StoreError::Unavailable(why));
                (turn.map(Some).map_err(|error| Problem::Visit(error.into())), PollAnswer::Outage)
            }
            Err(error) => (Err(Problem::Visit(error)), PollAnswer::Error),
        }
    }
}

/// What the room's `on_outage` gives a user without a place; `None`: nothing.
fn in_outage(room: &Room) -> Option<Turn> {
    let policy = room.policy()?;
    let may_enter = match without_store(&policy) {
        _ if policy.mode == Mode::Off => true,
        Verdict::Bypass(_) => true,
        Verdict::Hold { .. } => false,
        _ => return None,
    };
    let waiting = room.snapshot().map_or(0, |snapshot| snapshot.waiting);
    // Behind everybody, as far as that is known: they get a number when the store is back.
    let position = if may_enter { 0 } else { waiting + 1 };
    Some(Turn { may_enter, position, first: position, waiting: waiting.max(position), policy })
}

/// The answer's fields, as their clients know them.
#[derive(Serialize)]
struct Answer<'a> {
    host: &'a str,
    ip: &'a str,
    #[serde(rename = "loginId")]
    login_id: &'a str,
    port: &'a Value,
    #[serde(rename = "pageUrl")]
    page_url: &'a str,
    #[serde(rename = "isWait")]
    is_wait: &'static str,
    #[serde(rename = "waitCnt")]
    position: u64,
    #[serde(rename = "limitCnt")]
    capacity: u32,
    session_time_out: u64,
    #[serde(rename = "waitQueueSize")]
    waiting: u64,
    #[serde(rename = "waitMyCnt")]
    first: u64,
    #[serde(rename = "userAgent")]
    user_agent: &'a str,
    tracer_domain: &'a str,
}

impl<'a> Answer<'a> {
    fn of(turn: Option<&Turn>, form: &'a Form, domain: &'a str) -> Self {
        let waits = turn.is_some_and(|turn| !turn.may_enter);
        Self {
            host: &form.host,
            ip: &form.ip,
            login_id: form.user(),
            port: &form.port,
            page_url: &form.page_url,
            is_wait: if waits { "T" } else { "F" },
            position: turn.map_or(0, |turn| turn.position),
            capacity: turn.and_then(|turn| turn.policy.capacity).unwrap_or(0),
            session_time_out: turn.map_or(0, |turn| turn.policy.session_ttl / 1_000),
            waiting: turn.map_or(0, |turn| turn.waiting),
            first: turn.map_or(0, |turn| turn.first),
            user_agent: &form.user_agent,
            tracer_domain: domain,
        }
    }
}

/// Under which name the client has reached this API.
fn domain(request: &Request) -> String {
    let by_header = |headers: &HeaderMap| Some(headers.get(header::HOST)?.to_str().ok()?.to_owned());
    let by_uri = || request.uri().authority().map(ToString::to_string);
    by_header(request.headers()).or_else(by_uri).unwrap_or_default()
}
