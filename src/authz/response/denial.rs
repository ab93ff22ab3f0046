//! A request that is not let through: what its client is told, as a page, as JSON or as gRPC.

use serde::Serialize;
use serde_json::{Value, json};
use tonic::Code;

use super::{Html, TICKET_HEADER, allowed, has_no_cookies, set, set_cookie};
use crate::authz::request::{Grpc, Question};
use crate::authz::response::allowed::Told;
use crate::cookie::{CookiePolicy, TokenCookie};
use crate::cors;
use crate::identity::RETRY_AFTER;
use crate::page::{Lang, View, refusal};
use crate::pb::envoy::config::core::v3::HeaderValueOption;
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse};
use crate::pb::envoy::r#type::v3::HttpStatus;
use crate::pb::google::rpc::Status;
use crate::room::decision::{Admission, Refusal, Wait};
use crate::room::name::RoomName;
use crate::room::origins::Origins;
use crate::room::standing::{self, Status as StandingStatus};

/// The request headers that a denial's form depends on.
const VARY: &str = "accept, accept-language, content-type, cookie, origin";

/// When to come back after a refusal because the store is out, in seconds.
const OUTAGE_RETRY_AFTER: u32 = 10;

/// A denial in the making.
pub(super) struct Denial {
    code: Code,
    message: String,
    http: DeniedHttpResponse,
}

impl Denial {
    /// In line: the page for browsers, otherwise the standing and the ticket.
    pub(super) fn wait(
        wait: &Wait,
        question: &Question<'_>,
        cookies: &CookiePolicy,
        page: &dyn Fn(View<'_>) -> Html,
    ) -> Self {
        let Wait { standing, status, ticket } = wait;
        let room = &standing.room;
        let message = match standing.status {
            StandingStatus::Waiting => format!(
                "waiting in room {room}: number {}, position {} of {}; ask again in {} s",
                standing.number, standing.position, standing.waiting, standing.poll_after
            ),
            _ => format!(
                "room {room}: number {} is {}; ask again in {} s",
                standing.number,
                standing.status.as_str(),
                standing.poll_after
            ),
        };
        let mut denial = Self::new(*status, Code::ResourceExhausted, message, question);
        denial.header("retry-after", standing.poll_after.to_string());
        if let Some((ticket, max_age)) = ticket {
            denial.http.headers.push(set_cookie(TokenCookie::Ticket.set(room, ticket, *max_age, cookies)));
            if has_no_cookies(question, room) {
                denial.header(TICKET_HEADER, ticket.as_str());
            }
        }
        let ticket = ticket.as_ref().map(|(ticket, _)| ticket.as_str());
        denial.page_or_json(
            question,
            page,
            View::Standing(standing),
            &standing::Told { standing, ticket, pass: None },
        );
        denial
    }

    /// In line without a number, because the store is out.
    pub(super) fn hold(
        room: &RoomName,
        status: u16,
        retry_after: u32,
        question: &Question<'_>,
        page: &dyn Fn(View<'_>) -> Html,
    ) -> Self {
        let message = format!("waiting in room {room}: no number yet; ask again in {retry_after} s");
        let mut denial = Self::new(status, Code::ResourceExhausted, message, question);
        denial.header("retry-after", retry_after.to_string());
        // The keys of a standing, so that clients need to know one form only.
        let body = json!({
            "status": StandingStatus::Waiting, "room": room, "number": null, "position": null,
            "waiting": null, "eta": null, "poll_after": retry_after,
        });
        denial.page_or_json(question, page, View::Hold { room, retry_after }, &body);
        denial
    }

    /// Not let in and not in line.
    pub(super) fn refuse(room: Option<&RoomName>, reason: Refusal, question: &Question<'_>) -> Self {
        let name = room.map_or_else(|| "this".to_owned(), |room| format!("room {room}"));
        let (status, code, title, detail) = match reason {
            Refusal::Denied => (
                403,
                Code::PermissionDenied,
                "Not let in",
                // Not by which entry: whoever is meant should not learn what to change.
                "this client is not let in".to_owned(),
            ),
            Refusal::NoUser => (
                401,
                Code::Unauthenticated,
                "Sign in first",
                format!("{name} is for signed-in users, and this request names none"),
            ),
            // Not why: whoever makes up tokens should not learn what to change.
            Refusal::BadToken => (
                401,
                Code::Unauthenticated,
                "Sign in again",
                "the token that this request shows proves nobody, or has expired".to_owned(),
            ),
            Refusal::UserUnknown => (
                503,
                Code::Unavailable,
                "Nobody can be recognised for the moment",
                "the keys that prove who is asking cannot be fetched; try again".to_owned(),
            ),
            Refusal::NoSubject => (
                401,
                Code::Unauthenticated,
                "Sign in first",
                format!("{name} keeps one place for each signed-in user, and this request names none"),
            ),
            Refusal::Limited(limited) => {
                (429, Code::ResourceExhausted, "Too many requests", limited.to_string())
            }
            Refusal::NoKey => (
                400,
                Code::InvalidArgument,
                "An idempotency key is needed",
                "send one Idempotency-Key header with a UUID, a new one for each new request".to_owned(),
            ),
            Refusal::Repeated => (
                409,
                Code::AlreadyExists,
                "Sent before",
                "a request with this Idempotency-Key has been passed on already".to_owned(),
            ),
            Refusal::Outage => (
                503,
                Code::Unavailable,
                "Closed for the moment",
                format!("{name} lets nobody in until its line can be reached again"),
            ),
        };
        let mut denial = Self::new(status, code, detail, question);
        match reason {
            Refusal::Outage => denial.header("retry-after", OUTAGE_RETRY_AFTER.to_string()),
            Refusal::UserUnknown => denial.header("retry-after", RETRY_AFTER.to_string()),
            Refusal::NoSubject | Refusal::NoUser => denial.header("www-authenticate", "Bearer"),
            Refusal::BadToken => denial.header("www-authenticate", "Bearer error=\"invalid_token\""),
            Refusal::Limited(limited) => {
                limited.headers().into_iter().for_each(|(name, value)| denial.header(name, value));
            }
            Refusal::Denied | Refusal::NoKey | Refusal::Repeated => {}
        }
        denial.page_or_problem(question, Some(&reason), title, room);
        denial
    }

    /// The visitor gets the tokens of a place that this request took: the next one need not take another.
    pub(super) fn keep(&mut self, admission: &Admission, question: &Question<'_>, cookies: &CookiePolicy) {
        for Told { name, value } in allowed::tokens(admission, question, cookies) {
            self.http.headers.push(if name == "set-cookie" { set_cookie(value) } else { set(name, value) });
        }
    }

    /// Could not be understood or answered.
    pub(super) fn error(message: &str, question: &Question<'_>) -> Self {
        let mut denial = Self::new(503, Code::Unavailable, message.to_owned(), question);
        denial.page_or_problem(question, None, "The waiting room cannot answer", None);
        denial
    }

    /// Lets the scripts of origins that the policy allows read it. `vary` names the origin in any case: what other
    /// origins get has no such headers.
    pub(super) fn readable_by(mut self, origins: Option<&Origins>, question: &Question<'_>) -> Self {
        let origin = question.header("origin");
        if let Some(grant) = origins.zip(origin).and_then(|(origins, origin)| origins.grant(origin)) {
            for (name, value) in cors::of_answer(grant) {
                self.header(name, value);
            }
        }
        self
    }

    /// Envoy's denial.
    pub(super) fn into_response(self) -> CheckResponse {
        let Self { code, message, http } = self;
        CheckResponse {
            status: Some(Status { code: code.into(), message }),
            http_response: Some(HttpResponse::DeniedResponse(http)),
            dynamic_metadata: None,
        }
    }

    /// Envoy's error, for which `failure_mode_allow` counts.
    pub(super) fn into_error_response(self) -> CheckResponse {
        let Self { code, message, http } = self;
        CheckResponse {
            status: Some(Status { code: code.into(), message }),
            http_response: Some(HttpResponse::ErrorResponse(http)),
            dynamic_metadata: None,
        }
    }

    fn new(status: u16, code: Code, message: String, question: &Question<'_>) -> Self {
        let status = match question.grpc() {
            // Its clients read `grpc-status` only from a 200; for native gRPC Envoy sees to that itself.
            Grpc::Web => 200,
            Grpc::Native | Grpc::No => status,
        };
        let http = DeniedHttpResponse {
            status: Some(HttpStatus { code: status.into() }),
            headers: vec![set("cache-control", "no-store"), set("vary", VARY)],
            body: String::new(),
        };
        Self { code, message, http }
    }

    fn page_or_json(
        &mut self,
        question: &Question<'_>,
        page: &dyn Fn(View<'_>) -> Html,
        waiting: View<'_>,
        json: &impl Serialize,
    ) {
        if question.grpc() != Grpc::No {
            self.grpc(question);
        } else if wants_page(question) {
            self.page(page(waiting));
        } else {
            self.json("application/json", json);
        }
    }

    /// For browsers a page, for everybody else an RFC 9457 problem document; gRPC clients get its detail.
    fn page_or_problem(
        &mut self,
        question: &Question<'_>,
        refusal: Option<&Refusal>,
        title: &str,
        room: Option<&RoomName>,
    ) {
        if question.grpc() != Grpc::No {
            self.grpc(question);
            return;
        }
        if wants_page(question) {
            let lang = Lang::from_accept_language(question.accept_language());
            self.page(Html {
                body: refusal::render(lang, refusal),
                content_security_policy: refusal::content_security_policy().to_owned(),
            });
            return;
        }
        let status = self.http.status.as_ref().map(|status| status.code);
        let mut problem =
            json!({"type": "about:blank", "title": title, "status": status, "detail": self.message});
        if let (Value::Object(problem), Some(room)) = (&mut problem, room) {
            problem.insert("room".to_owned(), json!(room));
        }
        self.json("application/problem+json", &problem);
    }

    /// `grpc-status` and `grpc-message` as headers and no body: Envoy keeps a `grpc-status` that is there, and takes
    /// a body, if there were one, for the message. (For gRPC-Web, Envoy 1.40 drops the content type of an answer
    /// without a body; its clients go by `grpc-status`.)
    fn grpc(&mut self, question: &Question<'_>) {
        let status = tonic::Status::new(self.code, self.message.as_str());
        let mut headers = http::HeaderMap::new();
        // Fails only for a message that is no header after percent-encoding, which then stays away.
        if status.add_header(&mut headers).is_err() {
            headers.clear();
        }
        let content_type = match question.grpc() {
            Grpc::Web => "application/grpc-web",
            Grpc::Native | Grpc::No => "application/grpc",
        };
        self.header("content-type", content_type);
        self.header("grpc-status", i32::from(self.code).to_string());
        if let Some(message) = headers.get("grpc-message").and_then(|message| message.to_str().ok()) {
            self.header("grpc-message", message);
        }
    }

    fn page(&mut self, html: Html) {
        self.header("content-security-policy", html.content_security_policy);
        self.body("text/html; charset=utf-8", html.body);
    }

    fn json(&mut self, content_type: &str, value: &impl Serialize) {
        // Serialising plain fields with text keys cannot fail; an empty body would still carry the status.
        let body = serde_json::to_string(value).unwrap_or_default();
        self.body(content_type, body);
    }

    /// A body, for `HEAD` too: Envoy itself leaves it out there, and takes `content-length` from it. Without a body
    /// Envoy would also drop the content type.
    fn body(&mut self, content_type: &str, body: String) {
        self.header("content-type", content_type);
        self.http.body = body;
    }

    fn header(&mut self, name: &str, value: impl Into<String>) {
        let header: HeaderValueOption = set(name, value);
        self.http.headers.push(header);
    }
}

/// Whether a browser is to show the answer.
fn wants_page(question: &Question<'_>) -> bool {
    question.accepts_html() && !question.is_websocket()
}
