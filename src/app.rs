//! The wiring: which store, which listeners, which tasks, and how they end.

mod deny;
mod health;
mod identity;
mod keys;
mod store;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::runtime::{self, Runtime};
use tonic::server::NamedService;
use tonic::service::Routes as GrpcRoutes;
use tonic_health::pb::health_server::{self, Health, HealthServer};
use tracing::info;

use crate::admin::operators::{self, Operators};
use crate::admin::{self, Readiness};
use crate::authz::limits::LimitsReader;
use crate::authz::{self, Gate, GateParts};
use crate::client_address::Proxies;
use crate::clock::Clock;
use crate::config::settings::{Role, Settings};
use crate::cookie::CookiePolicy;
use crate::drain::{DrainError, DrainTimes, Shutdown, Tasks};
use crate::guard::deny::Denials;
use crate::guard::{self, Guard};
use crate::identity::Identity;
use crate::listen::{BindError, Bound, Limits, Listen, Workers, serve_http};
use crate::pb;
use crate::pb::anteroom::v1::waiting_room_server::WaitingRoomServer;
use crate::position::cadence::Cadence;
use crate::position::entrance::Entrance;
use crate::position::tracer::TracerDesk;
use crate::position::{self, Desk, Streaming};
use crate::room::deny::DenyError;
use crate::room::policy::Source;
use crate::room::token::{KeyError, KeyRing};
use crate::rooms::{Options, Rooms};
use crate::store::StoreError;
use crate::store::checkpoint::CheckpointError;
use crate::store::redis::shards::ConnectError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::label::ListenerLabel;
use crate::telemetry::trace::{TraceError, Tracer};
use store::Opened;

/// The most rooms with metrics of their own, at some 60 series each; the others share one.
const MAX_ROOMS_MEASURED: usize = 1_000;
/// From readiness off to closing: what a balancer needs to notice. Part of `--drain`.
const LEAD: Duration = Duration::from_secs(2);

/// Why the program could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The state directory.
    #[error("--state-dir: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The keys.
    #[error("--keys: {0}")]
    Keys(#[from] KeyError),
    /// The key kept in the state directory.
    #[error("{path}: {why}")]
    KeptKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// A file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The identity file's `https` addresses, without roots to check them by.
    #[error(
        "--identity: the system's root certificates cannot be read: {0}; install ca-certificates, or name a file in SSL_CERT_FILE, or in ca beside the address"
    )]
    Roots(io::Error),
    /// Trace export.
    #[error("--otlp-endpoint: {0}")]
    Trace(#[from] TraceError),
    /// A room of the rooms file.
    #[error("--rooms: {0}")]
    Rooms(#[from] StoreError),
    /// The deny list.
    #[error("--deny: {0}")]
    Deny(#[from] DenyError),
    /// A shared store that cannot even be tried.
    #[error("--store: {0}")]
    Store(#[from] ConnectError),
    /// The threads that serve connections.
    #[error(
        "the threads that serve connections could not be started: {0}; lower --threads, or raise the limit on threads"
    )]
    Threads(io::Error),
    /// gRPC reflection.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Tasks that failed.
    #[error(transparent)]
    Drain(#[from] DrainError),
}

/// What [`run`] runs in: for the store, the ticks and the operator. What visitors ask is served by threads of its own
/// ([`Workers`]).
pub fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Runs until one of `stops` comes in and everything is drained.
pub async fn run(
    settings: Settings,
    stops: impl Stream<Item = &'static str> + Unpin,
) -> Result<(), AppError> {
    let mut tasks = Tasks::new();
    let readiness = Readiness::new(tasks.shutdown());
    let starting = readiness.condition("start", "not all listeners are up yet");
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::new(settings.max_rooms.min(MAX_ROOMS_MEASURED)));
    let tracer = match &settings.otlp_endpoint {
        Some(endpoint) => Tracer::to(endpoint)?,
        None => Tracer::off(),
    };
    let store = Opened::open(&settings, clock, &metrics)?;
    let ring = KeyRing::new(&keys::choose(settings.keys.as_deref(), store.state_dir())?)?;
    let options = Options {
        tick: settings.tick,
        store_budget: settings.store_budget,
        ticket_ttl: u64::try_from(settings.ticket_ttl.as_millis()).unwrap_or(u64::MAX),
        max_rooms: settings.max_rooms,
        max_streams: settings.max_streams,
    };
    let guard = guard::Options { budget: settings.store_budget, checks: settings.role != Role::Stream };
    let guard = Arc::new(Guard::new(guard, store.ledger(clock, &metrics), clock, &metrics));
    let mut rooms = Rooms::new(options, store.any(), ring, clock, metrics.clone());
    if let Some(quota) = settings.join_limit {
        rooms = rooms.with_toll(Box::new(guard.clone().toll(quota)));
    }
    let rooms = Arc::new(rooms);
    for policy in settings.routes.policies() {
        // So that the client API knows the rooms of the file before the first Check.
        rooms.room_with(policy, Source::RoomsFile)?;
    }
    let left_out = rooms.open_kept(&store.kept());
    if left_out > 0 {
        tracing::warn!(
            left_out,
            "the state directory holds more rooms than --max-rooms; not all of them can be used"
        );
    }
    let identity = identity::start(&settings, clock, &metrics, &mut tasks).map_err(AppError::Roots)?;
    let (workers, ends) = Workers::start(settings.threads).map_err(AppError::Threads)?;
    tasks.spawn("serving threads", ends.watch(tasks.shutdown()));
    let denials = Arc::new(Denials::new(metrics.guard()));
    if let Some((file, entries)) = &settings.deny {
        denials.file(entries.clone())?;
        let follow = deny::follow(file.clone(), denials.clone(), metrics.guard(), tasks.shutdown());
        tasks.spawn("deny file", follow);
    }
    let proxies = Arc::new(Proxies::new(settings.trusted_hops, metrics.guard()));
    let wiring = Wiring {
        settings: &settings,
        metrics,
        readiness,
        rooms,
        tracer: tracer.clone(),
        workers,
        proxies,
        denials,
        guard,
        identity,
    };
    wiring.listen(&mut tasks).await?;
    tasks.spawn("feed", {
        let (rooms, closing) = (wiring.rooms.clone(), tasks.shutdown().closing());
        async move {
            rooms.feed(closing).await;
            Ok::<_, StoreError>(())
        }
    });
    tasks.spawn("operators' deny list", {
        let (guard, denials) = (wiring.guard.clone(), wiring.denials.clone());
        let closing = tasks.shutdown().closing();
        async move {
            guard.follow_shared(denials, closing).await;
            Ok::<_, Infallible>(())
        }
    });
    tasks.spawn("guard", {
        let (guard, closing) = (wiring.guard.clone(), tasks.shutdown().closing());
        async move {
            guard.tend(closing).await;
            Ok::<_, Infallible>(())
        }
    });
    store.tend(&mut tasks, &wiring.readiness, &wiring.metrics);
    starting.met();
    info!(role = ?settings.role, version = env!("CARGO_PKG_VERSION"), "started");
    let drained = tasks.run_until_drained(drain_times(settings.drain), stops).await;
    store.close().await?;
    if let Err(error) = tracer.shut_down(Duration::from_secs(2)).await {
        tracing::warn!(%error, "the last spans were lost");
    }
    info!("ended");
    Ok(drained?)
}

fn drain_times(drain: Duration) -> DrainTimes {
    let lead = LEAD.min(drain / 2);
    DrainTimes { lead, grace: drain.saturating_sub(lead) }
}

struct Wiring<'a> {
    settings: &'a Settings,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    rooms: Arc<Rooms>,
    tracer: Tracer,
    workers: Workers,
    proxies: Arc<Proxies>,
    denials: Arc<Denials>,
    guard: Arc<Guard>,
    identity: Option<Arc<Identity>>,
}

impl Wiring<'_> {
    /// Binds every listener of the role, and only then serves on any.
    async fn listen(&self, tasks: &mut Tasks) -> Result<(), AppError> {
        let settings = self.settings;
        let admin = bind(&settings.admin_listen, "--admin-listen", "admin").await?;
        let checks = match settings.role {
            Role::Serve | Role::Authz => {
                Some(bind(&settings.authz_listen, "--authz-listen", "ext_authz").await?)
            }
            Role::Stream => None,
        };
        let clients = match settings.role {
            Role::Serve | Role::Stream => Some((
                bind(&settings.grpc_listen, "--grpc-listen", "position gRPC").await?,
                bind(&settings.http_listen, "--http-listen", "client HTTP").await?,
            )),
            Role::Authz => None,
        };
        let shutdown = tasks.shutdown();
        let gate = Arc::new(self.gate());
        let profile = settings.profile.then(|| shutdown.clone());
        let operators = Operators::new(
            self.rooms.clone(),
            self.guard.clone(),
            self.denials.clone(),
            settings.admin_token.clone(),
        );
        let router = admin::router(self.metrics.clone(), self.readiness.clone(), profile)
            .merge(operators::router(Arc::new(operators)));
        let meter = self.metrics.listener(ListenerLabel::Admin);
        // For the audit log.
        let limits = Limits { tell_remote: true, ..Limits::default() };
        tasks.spawn("admin", serve_http(admin, router, limits, meter, shutdown.clone()));
        if let Some(bound) = checks {
            let meter = self.metrics.listener(ListenerLabel::Authz);
            let limits =
                Limits { max_streams_per_connection: clamp(settings.max_checks), ..Limits::default() };
            let service = authz::grpc::service(gate.clone(), self.beside(tasks, authz::grpc::NAME)?);
            tasks.spawn(
                "ext_authz",
                serve_http(bound.served_by(&self.workers), service, limits, meter, shutdown.clone()),
            );
        }
        if let Some((grpc, http)) = clients {
            let desk = self.desk(shutdown.clone());
            tasks.spawn("streams", {
                let streaming = desk.streaming.clone();
                async move {
                    streaming.end().await;
                    Ok::<_, Infallible>(())
                }
            });
            let limits = Limits {
                max_connections: settings.max_streams.saturating_add(Limits::default().max_connections),
                max_streams_per_connection: clamp(settings.max_streams),
                ..Limits::default()
            };
            let meter = self.metrics.listener(ListenerLabel::Position);
            let service = self.beside(tasks, WaitingRoomServer::<Desk>::NAME)?;
            let service = service.add_service(WaitingRoomServer::new(desk.clone())).prepare();
            // tonic's own server cuts off no client that does not read, and waits for ever for connections that do not end.
            tasks.spawn(
                "position gRPC",
                serve_http(grpc.served_by(&self.workers), service, limits, meter, shutdown.clone()),
            );
            let meter = self.metrics.listener(ListenerLabel::Client);
            let polls = position::tracer::router(self.tracer_desk(desk.entrance.clone()));
            let router = position::http::router(desk)
                .merge(polls)
                .merge(authz::forward::router(gate))
                // Envoy checks each cluster's health at the cluster's own port; it leads no client there.
                .route_service(
                    &format!("/{}/{{*call}}", health_server::SERVICE_NAME),
                    self.health(tasks, ""),
                );
            tasks.spawn(
                "client HTTP",
                serve_http(http.served_by(&self.workers), router, limits, meter, shutdown),
            );
        }
        Ok(())
    }

    fn gate(&self) -> Gate {
        Gate::new(GateParts {
            rooms: self.rooms.clone(),
            limits: LimitsReader::new(self.settings.routes.clone()),
            cookies: self.cookies(),
            page: self.settings.page.clone(),
            tracer: self.tracer.clone(),
            budget: self.settings.check_budget,
            max_checks: self.settings.max_checks,
            proxies: self.proxies.clone(),
            denials: self.denials.clone(),
            guard: self.guard.clone(),
            identity: self.identity.clone(),
        })
    }

    fn desk(&self, shutdown: Shutdown) -> Desk {
        let settings = self.settings;
        let cadence = Cadence {
            near: settings.stream_near,
            interval: settings.stream_interval,
            heartbeat: settings.heartbeat,
            stall: settings.stream_stall,
            drain_spread: drain_times(settings.drain).grace / 2,
        };
        let streaming = Arc::new(Streaming { rooms: self.rooms.clone(), cadence, shutdown });
        let entrance = Arc::new(Entrance {
            rooms: self.rooms.clone(),
            denials: self.denials.clone(),
            guard: self.guard.clone(),
            identity: self.identity.clone(),
            api_limit: settings.api_limit,
            proxies: self.proxies.clone(),
            budget: settings.check_budget,
        });
        Desk { rooms: self.rooms.clone(), cookies: self.cookies(), entrance, streaming }
    }

    fn tracer_desk(&self, entrance: Arc<Entrance>) -> TracerDesk {
        TracerDesk { rooms: self.rooms.clone(), routes: self.settings.routes.clone(), entrance }
    }

    fn cookies(&self) -> CookiePolicy {
        CookiePolicy { secure: self.settings.cookie_secure, domain: self.settings.cookie_domain.clone() }
    }

    /// What stands beside the gRPC service of this name: its health, and reflection.
    fn beside(&self, tasks: &mut Tasks, name: &'static str) -> Result<GrpcRoutes, AppError> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        Ok(GrpcRoutes::new(self.health(tasks, name)).add_service(reflection).prepare())
    }

    /// gRPC health, for all and for the service of this name.
    fn health(&self, tasks: &mut Tasks, name: &'static str) -> HealthServer<impl Health + use<>> {
        let (reporter, service) = tonic_health::server::health_reporter();
        tasks.spawn("gRPC health", health::report(name, reporter, self.readiness.clone(), tasks.shutdown()));
        service
    }
}

async fn bind(listen: &Listen, flag: &str, what: &str) -> Result<Bound, BindError> {
    let bound = listen.bind(flag).await?;
    info!(listener = what, address = %bound.local_addr(), "listening");
    Ok(bound)
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
