//! The client HTTP API under `/anteroom/v1/`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

use super::watching::Watching;
use super::{Desk, sse};
use crate::cookie::TokenCookie;
use crate::room::name::RoomName;
use crate::room::standing::{Standing, Status, Told};
use crate::rooms::Room;
use crate::rooms::visit::{Answer, Issued, Shown, VisitError};
use crate::store::StoreError;
use crate::telemetry::metrics::label::StreamKind;

/// The API's routes.
pub fn router(desk: Desk) -> Router {
    let room = Router::new()
        .route("/join", post(join))
        .route("/position", get(position))
        .route("/stream", get(stream))
        .route("/enter", post(enter))
        .route("/ticket", delete(leave_line))
        .route("/pass", delete(leave_room));
    Router::new()
        .nest("/anteroom/v1/rooms/{room}", room)
        .route("/anteroom/v1/jwks.json", get(jwks))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|method: Method| async move {
            problem(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} is not what this path takes"))
        })
        .layer(from_fn(never_cached))
        .with_state(desk)
}

pub(super) async fn never_cached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The room's name in the path; a rejection is a name that is not even text.
type Name = Result<Path<String>, PathRejection>;

async fn join(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    let answer = desk.rooms.join(&room, &shown).await?;
    let status = if answer.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(desk.tell(&room, &headers, status, &answer))
}

async fn position(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    let answer = desk.rooms.position(&room, &shown).await?;
    Ok(desk.tell(&room, &headers, StatusCode::OK, &answer))
}

async fn enter(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    let answer = desk.rooms.enter(&room, &shown).await?;
    Ok(desk.tell(&room, &headers, StatusCode::OK, &answer))
}

async fn stream(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    let (watch, permit) = desk.rooms.watch(&room, &shown).await?;
    let watching = Watching::new(desk.0, StreamKind::Sse, watch, permit);
    // nginx buffers unless told not to.
    let headers = [(CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    Ok((headers, sse::body(watching)).into_response())
}

async fn leave_line(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    desk.rooms.leave_line(&room, &shown).await?;
    Ok(desk.cleared(TokenCookie::Ticket, &room))
}

async fn leave_room(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers).await?;
    desk.rooms.leave_room(&room, &shown).await?;
    Ok(desk.cleared(TokenCookie::Pass, &room))
}

async fn jwks(desk: State<Desk>) -> Response {
    Json(desk.rooms.keys().published()).into_response()
}

impl Desk {
    /// The room that is meant, and what the visitor shows for it.
    async fn visitor(&self, name: Name, headers: &HeaderMap) -> Result<(Arc<Room>, Shown), Problem> {
        let name = name.ok().and_then(|name| RoomName::parse(&name)).ok_or(Problem::BadName)?;
        let shown = Shown {
            tickets: tokens(headers, TokenCookie::Ticket, &name),
            passes: tokens(headers, TokenCookie::Pass, &name),
            subject: None,
        };
        let room = self.rooms.room_named(&name).await.map_err(VisitError::Store)?;
        Ok((room, shown))
    }

    fn tell<'a>(&self, room: &Room, headers: &HeaderMap, status: StatusCode, answer: &'a Answer) -> Response {
        let token = |issued: &'a Option<Issued>| issued.as_ref().map(|issued| issued.token.as_str());
        let (ticket, pass) = (token(&answer.ticket), token(&answer.pass));
        let body = Told { standing: &answer.standing, ticket, pass };
        let mut cookies = Vec::new();
        if let Some(ticket) = &answer.ticket {
            cookies.push(TokenCookie::Ticket.set(room.name(), &ticket.token, ticket.max_age, &self.cookies));
        }
        if let Some(pass) = &answer.pass {
            cookies.push(TokenCookie::Pass.set(room.name(), &pass.token, pass.max_age, &self.cookies));
        }
        let spent = matches!(answer.standing.status, Status::Admitted | Status::Gone);
        if spent && !tokens(headers, TokenCookie::Ticket, room.name()).is_empty() {
            cookies.push(TokenCookie::Ticket.clear(room.name(), &self.cookies));
        }
        let mut response = (status, Json(body)).into_response();
        for cookie in cookies {
            append_cookie(&mut response, &cookie);
        }
        response
    }

    fn cleared(&self, cookie: TokenCookie, room: &Room) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        append_cookie(&mut response, &cookie.clear(room.name(), &self.cookies));
        response
    }
}

fn append_cookie(response: &mut Response, cookie: &str) {
    // A JWS, a checked room name and a checked domain are always a header value.
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}

/// The tokens of a kind that a request shows.
fn tokens(headers: &HeaderMap, cookie: TokenCookie, room: &RoomName) -> Vec<String> {
    let by_header = headers.get(cookie.header()).and_then(|value| value.to_str().ok());
    cookie.shown(room, by_header, headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes))
}

/// Why a request gets no answer, as an RFC 9457 problem document.
pub(super) enum Problem {
    BadName,
    Visit(VisitError),
}

impl From<VisitError> for Problem {
    fn from(error: VisitError) -> Self {
        Self::Visit(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = match self {
            Self::BadName => {
                return problem(StatusCode::BAD_REQUEST, &format!("a room name is {}", RoomName::RULE));
            }
            Self::Visit(error) => error,
        };
        let (status, standing): (_, Option<&Standing>) = match &error {
            VisitError::NoToken | VisitError::NoSubject => (StatusCode::UNAUTHORIZED, None),
            VisitError::NotCalled(standing) => (StatusCode::FORBIDDEN, Some(standing)),
            VisitError::Gone(standing) => (StatusCode::GONE, Some(standing)),
            VisitError::Store(StoreError::NoRoom(_)) => (StatusCode::NOT_FOUND, None),
            VisitError::TooManyStreams | VisitError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
            VisitError::Signing(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let mut body = document(status, &error.told());
        if let Some(standing) = standing {
            body["standing"] = json!(standing);
        }
        let mut response = answer(status, &body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    answer(status, &document(status, detail))
}

fn document(status: StatusCode, detail: &str) -> serde_json::Value {
    let title = status.canonical_reason().unwrap_or("Error");
    json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail})
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
