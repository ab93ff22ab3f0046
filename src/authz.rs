//! The Check: Envoy asks about a request, and hears whether its visitor may enter.

pub mod forward;
pub mod grpc;
mod idempotency;
mod identity;
pub mod limits;
mod order;
mod pass;
pub mod request;
pub mod response;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::client_address::Proxies;
use crate::cookie::{CookiePolicy, TokenCookie};
use crate::guard::Guard;
use crate::guard::deny::Denials;
use crate::identity::Identity;
use crate::page::{Lang, Page, View, content_security_policy};
use crate::pb::check::Unreadable;
use crate::room::binding::Bearer;
use crate::room::decision::{Admission, Bypass, Verdict};
use crate::room::gates::Stated;
use crate::room::name::RoomName;
use crate::room::policy::{Mistake, Policy};
use crate::room::state::Subject;
use crate::room::token::{Claims, Kind};
use crate::rooms::Rooms;
use crate::rooms::visit::Shown;
use crate::telemetry::logs::OncePer;
use crate::telemetry::metrics::label::VerdictLabel;
use crate::telemetry::trace::{TraceContext, Tracer};
use limits::LimitsReader;
use order::{Handed, Purpose};
use pass::ShortWay;
use request::Question;
use response::{Answer, Html, PASS_HEADER, TICKET_HEADER};

/// Answers Checks.
pub struct Gate {
    rooms: Arc<Rooms>,
    limits: LimitsReader,
    cookies: CookiePolicy,
    page: Page,
    tracer: Tracer,
    /// How long a Check may take, under Envoy's own timeout.
    budget: Duration,
    in_flight: Semaphore,
    mistakes: OncePer,
    /// Names of rooms that forward auth asked for and nobody knows.
    strangers: OncePer,
    short_way: ShortWay,
    proxies: Arc<Proxies>,
    denials: Arc<Denials>,
    guard: Arc<Guard>,
    identity: Option<Arc<Identity>>,
}

/// What a [`Gate`] is made of.
pub struct GateParts {
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// Which limits requests stand under.
    pub limits: LimitsReader,
    /// How cookies are set.
    pub cookies: CookiePolicy,
    /// What browsers see while they wait.
    pub page: Page,
    /// Where spans go.
    pub tracer: Tracer,
    /// How long a Check may take.
    pub budget: Duration,
    /// The most Checks in flight; one more is shed.
    pub max_checks: usize,
    /// Whose word on clients' addresses counts.
    pub proxies: Arc<Proxies>,
    /// Who is refused before anything else.
    pub denials: Arc<Denials>,
    /// What counts requests.
    pub guard: Arc<Guard>,
    /// Who knows users by their tokens; `None`: only Envoy's `jwt_authn` does.
    pub identity: Option<Arc<Identity>>,
}

impl Gate {
    /// A gate over the rooms.
    pub fn new(parts: GateParts) -> Self {
        Self {
            in_flight: Semaphore::new(parts.max_checks.min(Semaphore::MAX_PERMITS)),
            mistakes: OncePer::new(),
            strangers: OncePer::new(),
            short_way: ShortWay::default(),
            rooms: parts.rooms,
            limits: parts.limits,
            cookies: parts.cookies,
            page: parts.page,
            tracer: parts.tracer,
            budget: parts.budget,
            proxies: parts.proxies,
            denials: parts.denials,
            guard: parts.guard,
            identity: parts.identity,
        }
    }

    /// Answers Envoy's question, a `CheckRequest`, with a `CheckResponse`, which comes behind what is in `answer`
    /// already. `traceparent`: that of the call, where there is one. An error if the question cannot be read.
    pub async fn check(
        &self,
        message: &[u8],
        traceparent: Option<&str>,
        mut answer: Vec<u8>,
    ) -> Result<Vec<u8>, Unreadable> {
        let question = self.recognised(Question::read(message)?.called_by(traceparent));
        if self.let_through(&question, &mut answer).is_some() {
            return Ok(answer);
        }
        let give = |verdict: &Verdict, policy: Option<&Policy>| {
            self.render(verdict, policy, &question).encode(&mut answer);
            answer
        };
        // Apart, so that what goes the short way does not carry the long one along.
        Ok(Box::pin(self.checked(&question, Purpose::Pass, give)).await)
    }

    /// Makes a Check, and gives its verdict to whoever answers; all of it is measured, traced and logged.
    async fn checked<T>(
        &self,
        question: &Question<'_>,
        purpose: Purpose<'_>,
        give: impl FnOnce(&Verdict, Option<&Policy>) -> T,
    ) -> T {
        let _open = self.rooms.metrics().check_begun();
        let begun = Instant::now();
        let (mut verdict, policy) = if question.is_http() {
            self.answer(question, purpose).await
        } else {
            let message = "the CheckRequest has no attributes.request.http: ask about HTTP requests";
            (Verdict::Error { message: message.to_owned() }, None)
        };
        if let (Purpose::Answer { handed: Some(handed) }, Some(policy)) = (purpose, policy.as_deref()) {
            self.hand_over(&mut verdict, policy, handed);
        }
        let answer = give(&verdict, policy.as_deref());
        let room = policy.as_ref().map(|policy| &policy.room);
        self.note(question, begun, room, VerdictLabel::from(&verdict), position(&verdict));
        answer
    }

    /// Whether anybody wants to know which trace a Check belongs to.
    fn notes_traces(&self) -> bool {
        self.tracer.is_on() || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Measures, traces and logs a Check that was answered just now.
    fn note(
        &self,
        question: &Question<'_>,
        begun: Instant,
        room: Option<&RoomName>,
        label: VerdictLabel,
        position: Option<u64>,
    ) {
        let took = begun.elapsed();
        self.rooms.metrics().check_took(label, took);
        if !self.notes_traces() {
            return;
        }
        let trace = question.traceparents().find_map(TraceContext::parse);
        let begun_at = SystemTime::now() - took;
        if let Some(span) = trace.as_ref().and_then(|trace| self.tracer.check_span(trace, begun_at)) {
            span.finish(room, label, position);
        }
        tracing::debug!(
            request = question.request_id(),
            trace = trace.as_ref().map(|trace| tracing::field::display(trace.trace_id())),
            room = room.map(RoomName::as_str),
            verdict = ?label,
            "checked"
        );
    }

    /// The answer to a verdict under the room's limits.
    fn render<'v>(
        &self,
        verdict: &'v Verdict,
        policy: Option<&Policy>,
        question: &Question<'v>,
    ) -> Answer<'v> {
        let origins = policy.map(|policy| &policy.allow_origins);
        response::render(verdict, question, origins, &self.cookies, &|view| self.html(question, view))
    }

    /// Lets the answer carry a token that its visitor was not given yet: a ticket if it is that of the place told, a pass
    /// if it is the one that counts, or if the request is refused for itself.
    fn hand_over(&self, verdict: &mut Verdict, policy: &Policy, handed: Handed<'_>) {
        let (keys, now) = (self.rooms.keys(), self.rooms.now());
        let left = |claims: &Claims| claims.exp.saturating_sub(now / 1_000);
        match (handed, verdict) {
            (Handed::Ticket(ticket), Verdict::Wait(wait)) if wait.ticket.is_none() => {
                if let Ok(claims) = keys.verify(Kind::Ticket, &policy.room, ticket, now)
                    && claims.number == wait.standing.number
                {
                    wait.ticket = Some((ticket.to_owned(), left(&claims)));
                }
            }
            (Handed::Pass(pass), Verdict::Admit(admission)) => admission.fresh |= admission.pass == pass,
            (Handed::Pass(pass), Verdict::Refuse { kept, .. }) => {
                if let Ok(claims) = keys.verify(Kind::Pass, &policy.room, pass, now) {
                    *kept = Some(Admission {
                        room: policy.room.clone(),
                        place: claims.place(),
                        pass: pass.to_owned(),
                        expires_at: claims.ends_at(),
                        max_age: left(&claims),
                        fresh: true,
                    });
                }
            }
            _ => {}
        }
    }

    /// What the request comes to, and the limits of the room it was meant for.
    async fn answer(&self, question: &Question<'_>, purpose: Purpose<'_>) -> (Verdict, Option<Arc<Policy>>) {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            self.rooms.metrics().check_shed();
            let message = "too many Checks are in flight; try again".to_owned();
            return (Verdict::Error { message }, None);
        };
        let deadline = tokio::time::Instant::now() + self.budget;
        let Stated { room, gates } = match self.limits.of(question) {
            Ok(stated) => stated,
            Err(mistakes) => return (self.misconfigured(question, &mistakes), None),
        };
        let meant = room.as_ref().map(|(policy, _)| policy.clone());
        let refused = |reason| Verdict::refuse(meant.as_ref().map(|policy| &policy.room), reason);
        let key = match self.turned_away(question, meant.as_deref(), &gates, purpose, deadline).await {
            Ok(key) => key,
            Err(reason) => return (refused(reason), meant),
        };
        let repeat = async |policy: Option<&Policy>, verdict: &Verdict| {
            self.stopped_as_repeat(question, policy, key?, verdict, purpose, deadline).await
        };
        let Some((policy, source)) = room else {
            let verdict = Verdict::Bypass(Bypass::NoRoom);
            return (repeat(None, &verdict).await.map_or(verdict, refused), None);
        };
        let shown = self.shown(question, &policy);
        let check = self.rooms.check(&policy, source, question.is_preflight(), &shown);
        let mut verdict = match timeout_at(deadline, check).await {
            Ok(verdict) => verdict,
            Err(_) => self.rooms.out_of_time(&policy, &shown),
        };
        if let Some(reason) = repeat(Some(&policy), &verdict).await {
            let kept = if let Verdict::Admit(admission) = verdict { Some(admission) } else { None };
            verdict = Verdict::Refuse { room: Some(policy.room.clone()), reason, kept };
        }
        if let Verdict::Error { message } = &verdict
            && self.mistakes.is_news(message)
        {
            tracing::error!(
                request = question.request_id(),
                room = %policy.room,
                reason = message,
                "a Check could not be answered"
            );
        }
        self.rooms.metrics().room(&policy.room).checked(VerdictLabel::from(&verdict));
        (verdict, Some(policy))
    }

    /// A configuration that cannot be understood: said once in the log, counted always.
    fn misconfigured(&self, question: &Question<'_>, mistakes: &[Mistake]) -> Verdict {
        self.rooms.metrics().config_error();
        let list: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let list = list.join("; ");
        let metadata = question.route_metadata().unwrap_or_default();
        let stated = question.context_extensions().iter().copied();
        let stated = stated.chain(metadata.iter().map(|(key, value)| (*key, value.as_ref())));
        let room = stated.filter(|(key, _)| *key == "room").map(|(_, room)| room).next().unwrap_or("(none)");
        if self.mistakes.is_news((room, &list)) {
            tracing::error!(
                request = question.request_id(),
                room,
                mistakes = list,
                "the room's configuration in Envoy cannot be understood; `anteroom check-config FILE` finds this \
                 before it is rolled out"
            );
        }
        Verdict::Error { message: format!("room {room} is configured wrongly: {list}") }
    }

    fn html(&self, question: &Question<'_>, view: View<'_>) -> Html {
        let nonce = Uuid::new_v4().simple().to_string();
        let lang = Lang::from_accept_language(question.accept_language());
        Html {
            body: self.page.render(lang, &view, &nonce),
            content_security_policy: content_security_policy(&nonce),
        }
    }

    /// What a request shows, and who Envoy says it comes from.
    fn shown(&self, question: &Question<'_>, policy: &Policy) -> Shown {
        let tokens = |cookie: TokenCookie| {
            cookie.shown(&policy.room, question.header(cookie.header()), question.cookies())
        };
        let bearer = self.bearer(question);
        Shown {
            tickets: tokens(TokenCookie::Ticket),
            passes: tokens(TokenCookie::Pass),
            ticket_stated: question.header(TICKET_HEADER).is_some(),
            pass_stated: question.header(PASS_HEADER).is_some(),
            subject: bearer.subject,
            knows_users: true,
            address: bearer.address,
            user_agent: bearer.user_agent.map(<[u8]>::to_vec),
            // A Check lets nobody in by one: whoever recorded the request could send it again.
            nonce: None,
        }
    }

    /// Who shows it.
    fn bearer<'q>(&self, question: &Question<'q>) -> Bearer<'q> {
        Bearer {
            subject: question.subject(None).map(|subject| Subject::of(&[subject.issuer, subject.name])),
            knows_users: true,
            address: question.client(&self.proxies),
            user_agent: question.user_agent(),
        }
    }
}

fn position(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::Wait(wait) => Some(wait.standing.position),
        _ => None,
    }
}
