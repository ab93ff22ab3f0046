//! What is asked: the real `ext_authz` service, a no-op one, and the client API, each on a port of its own.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anteroom::authz::limits::LimitsReader;
use anteroom::authz::{Gate, GateParts, grpc};
use anteroom::clock::Clock;
use anteroom::config::keys;
use anteroom::cookie::CookiePolicy;
use anteroom::drain::{Shutdown, Tasks};
use anteroom::listen::{Bound, Limits, Listen, serve_http};
use anteroom::page::Page;
use anteroom::pb;
use anteroom::position::cadence::Cadence;
use anteroom::position::{Desk, Streaming, http::router};
use anteroom::room::policy::{Mistake, Policy};
use anteroom::room::token::KeyRing;
use anteroom::rooms::visit::{Issued, Shown};
use anteroom::rooms::{Options, Rooms};
use anteroom::routes::Routes;
use anteroom::store::memory::MemoryStore;
use anteroom::telemetry::metrics::Metrics;
use anteroom::telemetry::metrics::label::ListenerLabel;
use anteroom::telemetry::trace::Tracer;
use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3 as official;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::google::rpc::Status;
use http::{Request, StatusCode};
use http_body_util::Full;
use official::authorization_server::{Authorization, AuthorizationServer as OfficialServer};
use prost::Message as _;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;

use crate::cpu;
use crate::load::{Answer, Target};
use crate::question;

/// How many wait in the line that is polled.
const WAITING: usize = 100_000;
/// Requests at once that no server refuses.
const MANY: u32 = 1_000_000;

/// The servers, until this is dropped.
pub(crate) struct Servers {
    pub(crate) targets: Vec<Target>,
    _tasks: Tasks,
    _runtime: Runtime,
}

impl Servers {
    /// Starts all of them on `threads` threads.
    pub(crate) fn start(threads: usize) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(cpu::SERVER_THREAD)
            .enable_all()
            .build()?;
        let tasks = Tasks::new();
        let targets = runtime.block_on(targets(tasks.shutdown()))?;
        Ok(Self { targets, _tasks: tasks, _runtime: runtime })
    }
}

async fn targets(shutdown: Shutdown) -> Result<Vec<Target>, Box<dyn Error>> {
    let metrics = Arc::new(Metrics::new(16));
    let rooms = rooms(metrics.clone())?;
    let (closing, feeding) = (shutdown.closing(), rooms.clone());
    tokio::spawn(async move { feeding.feed(closing).await });

    let shop = rooms.room_with(&policy(&question::POLICY)?)?;
    let inside = rooms.join(&shop, &Shown::default()).await?;
    let question = question::framed(&token(inside.pass)?);
    let line = rooms.room_with(&policy(&[("room", "line"), ("capacity", "0"), ("patience", "31d")])?)?;
    let mut ticket = None;
    for at in 0..WAITING {
        let waiting = rooms.join(&line, &Shown::default()).await?;
        if at == WAITING / 2 {
            ticket = waiting.ticket;
        }
    }

    let listeners = Listeners { metrics, shutdown };
    let gate = listeners.checks(gate(rooms.clone())).await?;
    let noop = usual(OfficialServer::new(Noop))?;
    let poll = listeners.http(rooms).await?;
    Ok(vec![
        Target {
            name: "Check, valid pass",
            address: gate,
            request: grpc(gate, &question)?,
            check: is_admitted,
        },
        Target { name: "no-op ext_authz", address: noop, request: grpc(noop, &question)?, check: is_ok },
        Target {
            name: "poll, 100,000 in line",
            address: poll,
            request: get(poll, &token(ticket)?)?,
            check: is_waiting,
        },
    ])
}

fn rooms(metrics: Arc<Metrics>) -> Result<Arc<Rooms>, Box<dyn Error>> {
    // The program's own defaults.
    let options = Options {
        tick: Duration::from_millis(200),
        store_budget: Duration::from_millis(20),
        ticket_ttl: 24 * 3_600_000,
        max_rooms: 16,
        max_streams: 16,
    };
    let clock = Clock::system();
    let store = Arc::new(MemoryStore::new(clock, options.max_rooms));
    let ring = KeyRing::new(&[keys::generate().0])?;
    Ok(Arc::new(Rooms::new(options, store, ring, clock, metrics)))
}

fn policy(pairs: &[(&str, &str)]) -> Result<Arc<Policy>, String> {
    let told =
        |mistakes: Vec<Mistake>| mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; ");
    Policy::parse(pairs.iter().copied()).map(Arc::new).map_err(told)
}

fn token(issued: Option<Issued>) -> Result<String, &'static str> {
    issued.map(|issued| issued.token).ok_or("no token was issued: the room should have given one")
}

fn gate(rooms: Arc<Rooms>) -> Gate {
    Gate::new(GateParts {
        rooms,
        limits: LimitsReader::new(Arc::new(Routes::new(Vec::new()))),
        cookies: cookies(),
        page: Page::builtin(),
        tracer: Tracer::off(),
        budget: Duration::from_millis(60),
        max_checks: MANY as usize,
    })
}

fn cookies() -> CookiePolicy {
    CookiePolicy { secure: true, domain: None }
}

/// Serves the no-op service the usual way: by tonic's own server, with nothing beside it.
fn usual(service: OfficialServer<Noop>) -> Result<SocketAddr, Box<dyn Error>> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let server = tonic::transport::Server::builder().max_concurrent_streams(Some(MANY)).add_service(service);
    // It ends with the runtime; should it end before, the client's requests fail.
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}

/// Listens as the program does.
struct Listeners {
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Listeners {
    const LIMITS: fn() -> Limits = || Limits { max_streams_per_connection: MANY, ..Limits::default() };

    async fn checks(&self, gate: Gate) -> Result<SocketAddr, Box<dyn Error>> {
        let (address, bound) = bind().await?;
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let others = tonic::service::Routes::new(health).add_service(reflection).prepare();
        let service = grpc::service(Arc::new(gate), others);
        let meter = self.metrics.listener(ListenerLabel::Authz);
        // It ends with the runtime; should it end before, the client's requests fail.
        tokio::spawn(serve_http(bound, service, Self::LIMITS(), meter, self.shutdown.clone()));
        Ok(address)
    }

    async fn http(&self, rooms: Arc<Rooms>) -> Result<SocketAddr, Box<dyn Error>> {
        let (address, bound) = bind().await?;
        let shutdown = self.shutdown.clone();
        let streaming =
            Streaming { rooms: rooms.clone(), cadence: Cadence::default(), shutdown: shutdown.clone() };
        let desk = Desk { rooms, cookies: cookies(), streaming: Arc::new(streaming) };
        let meter = self.metrics.listener(ListenerLabel::Client);
        tokio::spawn(serve_http(bound, router(desk), Self::LIMITS(), meter, shutdown));
        Ok(address)
    }
}

async fn bind() -> Result<(SocketAddr, Bound), Box<dyn Error>> {
    let bound =
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))).bind("a free port of the loopback").await?;
    let Listen::Tcp(address) = *bound.local_addr() else {
        return Err(io::Error::other("a TCP listener has a TCP address").into());
    };
    Ok((address, bound))
}

/// Reads the question with the official messages, and says yes.
struct Noop;

#[tonic::async_trait]
impl Authorization for Noop {
    async fn check(
        &self,
        _question: tonic::Request<official::CheckRequest>,
    ) -> Result<tonic::Response<official::CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(official::CheckResponse {
            status: Some(Status::default()),
            http_response: Some(HttpResponse::OkResponse(official::OkHttpResponse::default())),
            ..Default::default()
        }))
    }
}

fn grpc(address: SocketAddr, framed: &Bytes) -> http::Result<Request<Full<Bytes>>> {
    Request::post(format!("http://{address}/envoy.service.auth.v3.Authorization/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed.clone()))
}

fn get(address: SocketAddr, ticket: &str) -> http::Result<Request<Full<Bytes>>> {
    Request::get(format!("http://{address}/anteroom/v1/rooms/line/position"))
        .header("cookie", format!("anteroom_ticket_line={ticket}"))
        .body(Full::default())
}

fn is_ok(answer: &Answer) -> Result<(), String> {
    ok_response(answer).map(|_| ())
}

fn is_admitted(answer: &Answer) -> Result<(), String> {
    let ok = ok_response(answer)?;
    let headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
    let room = headers.filter(|header| header.key == "x-anteroom-room").map(|header| header.value.as_str());
    match room.collect::<Vec<_>>()[..] {
        ["shop"] => Ok(()),
        ref other => Err(format!("let through without being admitted to the room: {other:?}")),
    }
}

fn ok_response(answer: &Answer) -> Result<official::OkHttpResponse, String> {
    let grpc_status = answer.trailers.get("grpc-status").map(http::HeaderValue::as_bytes);
    if answer.status != StatusCode::OK || grpc_status != Some(b"0") {
        return Err(format!("HTTP {}, trailers {:?}", answer.status, answer.trailers));
    }
    let message = answer.body.get(5..).ok_or("an answer without a message")?;
    let told = official::CheckResponse::decode(message).map_err(|error| error.to_string())?;
    match told.http_response {
        Some(HttpResponse::OkResponse(ok)) if told.status.as_ref().is_some_and(|s| s.code == 0) => Ok(ok),
        other => Err(format!("not let through: {:?}, {other:?}", told.status)),
    }
}

fn is_waiting(answer: &Answer) -> Result<(), String> {
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let position = (WAITING / 2 + 1) as u64;
    let right = answer.status == StatusCode::OK
        && told["status"] == "waiting"
        && told["position"].as_u64() == Some(position);
    if right {
        Ok(())
    } else {
        Err(format!("HTTP {}, {told}: it should wait at position {position}", answer.status))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(told: &official::CheckResponse, grpc_status: &'static str) -> Answer {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(grpc_status));
        let body = [&[0; 5][..], &told.encode_to_vec()].concat().into();
        Answer { status: StatusCode::OK, trailers, body }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_right_fails_the_run() {
        let yes =
            Noop.check(tonic::Request::new(official::CheckRequest::default())).await.unwrap().into_inner();
        assert_eq!(is_ok(&answer(&yes, "0")), Ok(()));
        assert!(is_ok(&answer(&yes, "13")).is_err());
        assert!(is_admitted(&answer(&yes, "0")).is_err(), "let through, but by nobody's room");
        let denied = HttpResponse::DeniedResponse(official::DeniedHttpResponse::default());
        let no = official::CheckResponse { http_response: Some(denied), ..Default::default() };
        assert!(is_ok(&answer(&no, "0")).is_err());
        assert!(is_waiting(&answer(&yes, "0")).is_err());
    }
}
