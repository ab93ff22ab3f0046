//! The client HTTP API under `/anteroom/v1/`.

pub(super) mod body;
pub(super) mod cross_origin;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use std::sync::Arc;

use super::entrance::{BadToken, values};
use super::problem::{Problem, problem};
use super::watching::Watching;
use super::{Desk, NONCE_HEADER, document, nonce, sse};
use crate::cookie::TokenCookie;
use crate::room::name::RoomName;
use crate::room::standing::{Status, Told};
use crate::rooms::Room;
use crate::rooms::visit::{Answer, Issued, Shown, VisitError};
use crate::telemetry::metrics::label::StreamKind;

/// The API's routes.
pub fn router(desk: Desk) -> Router {
    let room = Router::new()
        .route("/join", post(join))
        .route("/position", get(position))
        .route("/stream", get(stream))
        .route("/enter", post(enter))
        .route("/leave", post(leave))
        .route("/away", post(away))
        .route("/ticket", delete(leave_line))
        .route("/pass", delete(leave_room))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(desk.clone(), cross_origin::guard));
    let public = Router::new()
        .route("/anteroom/v1/jwks.json", get(jwks))
        .route("/anteroom/v1/openapi.json", get(document::openapi))
        .route("/anteroom/v1/anteroom.js", get(document::script))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(cross_origin::public));
    Router::new()
        .nest("/anteroom/v1/rooms/{room}", room)
        .merge(public)
        .fallback(nothing_here)
        .layer(from_fn(never_cached))
        .with_state(desk)
}

pub(super) async fn never_cached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn nothing_here() -> Response {
    problem(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn wrong_method(method: Method) -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, &format!("{method} is not what this path takes"))
}

/// The room's name in the path; a rejection is a name that is not even text.
type Name = Result<Path<String>, PathRejection>;

async fn join(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers, BadToken::Refused).await?;
    let answer = desk.rooms.join(&room, &shown).await?;
    let status = if answer.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(desk.tell(&room, &headers, status, &answer))
}

async fn position(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers, BadToken::RefusedInHeader).await?;
    let answer = desk.rooms.position(&room, &shown).await?;
    Ok(desk.tell(&room, &headers, StatusCode::OK, &answer))
}

async fn enter(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, mut shown) = desk.visitor(room, &headers, BadToken::Refused).await?;
    shown.nonce = nonce(values(&headers, NONCE_HEADER));
    let answer = desk.let_in(&room, &shown).await?;
    Ok(desk.tell(&room, &headers, StatusCode::OK, &answer))
}

async fn stream(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers, BadToken::RefusedInHeader).await?;
    let watch = desk.rooms.watch(&room, &shown).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let watching = Watching::new(desk.streaming.clone(), StreamKind::Sse, watch, sse::told_before(last));
    // nginx buffers unless told not to.
    let headers = [(CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    Ok((headers, Body::new(sse::Events::new(watching))).into_response())
}

async fn leave_line(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers, BadToken::RefusedInHeader).await?;
    desk.rooms.leave_line(&room, &shown).await?;
    Ok(desk.cleared(TokenCookie::Ticket, &room))
}

async fn leave_room(desk: State<Desk>, room: Name, headers: HeaderMap) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor(room, &headers, BadToken::RefusedInHeader).await?;
    desk.rooms.leave_room(&room, &shown).await?;
    Ok(desk.cleared(TokenCookie::Pass, &room))
}

/// Both at once, and by a body too: for a page that goes away.
async fn leave(desk: State<Desk>, room: Name, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor_by_body(room, &headers, body).await?;
    if !desk.rooms.leave_altogether(&room, &shown).await? {
        return Err(VisitError::NoToken.into());
    }
    let mut response = desk.cleared(TokenCookie::Ticket, &room);
    append_cookie(&mut response, &TokenCookie::Pass.clear(room.name(), &desk.cookies));
    Ok(response)
}

/// The ticket is kept: the page may come back with it.
async fn away(desk: State<Desk>, room: Name, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let (room, shown) = desk.visitor_by_body(room, &headers, body).await?;
    if !desk.rooms.away(&room, &shown).await? {
        return Err(VisitError::NoToken.into());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn jwks(desk: State<Desk>) -> Response {
    Json(desk.rooms.keys().published()).into_response()
}

impl Desk {
    async fn room_in(&self, name: Name) -> Result<Arc<Room>, Problem> {
        let name = name.ok().and_then(|name| RoomName::parse(&name)).ok_or(Problem::BadName)?;
        Ok(self.rooms.room_named(&name).await.map_err(VisitError::Store)?)
    }

    /// The room that is meant, and what the visitor shows for it.
    async fn visitor(
        &self,
        name: Name,
        headers: &HeaderMap,
        bad_token: BadToken,
    ) -> Result<(Arc<Room>, Shown), Problem> {
        let visitor = self.entrance.visitor(headers, bad_token).await?;
        let room = self.room_in(name).await?;
        let shown = Shown {
            tickets: tokens(headers, TokenCookie::Ticket, room.name()),
            passes: tokens(headers, TokenCookie::Pass, room.name()),
            ticket_stated: by_header(headers, TokenCookie::Ticket).is_some(),
            pass_stated: by_header(headers, TokenCookie::Pass).is_some(),
            ..visitor
        };
        Ok((room, shown))
    }

    /// The same, with the tokens of the body after those of the headers and before those of the cookies.
    async fn visitor_by_body(
        &self,
        name: Name,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Arc<Room>, Shown), Problem> {
        let (room, mut shown) = self.visitor(name, headers, BadToken::RefusedInHeader).await?;
        let body::Tokens { ticket, pass } = body::tokens(headers, body).await?;
        if let Some(ticket) = ticket {
            shown.tickets.insert(usize::from(shown.ticket_stated), ticket);
            shown.ticket_stated = true;
        }
        if let Some(pass) = pass {
            shown.passes.insert(usize::from(shown.pass_stated), pass);
            shown.pass_stated = true;
        }
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
    cookie.shown(room, by_header(headers, cookie), values(headers, COOKIE.as_str()))
}

fn by_header(headers: &HeaderMap, cookie: TokenCookie) -> Option<&str> {
    headers.get(cookie.header()).and_then(|value| value.to_str().ok())
}
