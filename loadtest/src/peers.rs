//! Who is asked: a server, its question, and what a right answer is.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message as _;

use crate::cores::Cores;
use crate::drive::{Ask, Pool};
use crate::envoy::Envoy;
use crate::h2::head::Head;
use crate::h2::{Answer, Broken, Connection};
use crate::process::Process;
use crate::question::{CHECK, Verdict, framed, message};
use crate::redis::ports;
use crate::service::Service;
use crate::{Failed, service, stop};

/// Says what is wrong with an answer, if anything.
pub(crate) type Judge = Box<dyn FnMut(&Answer) -> Result<(), String>>;

/// A server that is measured.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) head: Head,
    pub(crate) ask: Ask,
    pub(crate) judge: Judge,
    /// The process that keeps its rooms, if that is another one.
    pub(crate) store: Option<u32>,
    /// The Envoy in front of it, if there is one.
    pub(crate) envoy: Option<Envoy>,
}

/// The process behind a peer.
pub(crate) enum Server {
    Anteroom(Service),
    Other(Process),
}

impl Server {
    pub(crate) fn process(&mut self) -> &mut Process {
        match self {
            Self::Anteroom(service) => &mut service.process,
            Self::Other(process) => process,
        }
    }
}

impl Peer {
    /// Anteroom, asked about one and the same request.
    pub(crate) fn anteroom(name: &'static str, service: Service, body: Vec<u8>, judge: Judge) -> Self {
        let (address, head) = (service.authz, Head::grpc(CHECK));
        let ask = Ask { body, ..Ask::default() };
        let server = Server::Anteroom(service);
        Self { name, server, address, head, ask, judge, store: None, envoy: None }
    }

    /// The same service, asked by an Envoy, which is asked for a page with these headers: 200 if the service says yes.
    pub(crate) fn behind(
        self,
        program: &Path,
        page: Head,
        cores: Option<Cores>,
        files: &Path,
    ) -> Result<Self, Failed> {
        let mut envoy = Envoy::start(program, &format!("envoy-{}", self.name), self.address, cores, files)?;
        until_open(&mut envoy.process, envoy.public, &page)?;
        let judge = same(|answer| match answer.status {
            200 if !answer.reset => Ok(()),
            status => Err(format!("HTTP {status} from Envoy: {:?}", String::from_utf8_lossy(&answer.body))),
        });
        Ok(Self { address: envoy.public, head: page, ask: Ask::default(), judge, envoy: Some(envoy), ..self })
    }

    /// The no-op service or the floor (`peer`), asked the same.
    pub(crate) fn yes(
        peer: &'static str,
        body: Vec<u8>,
        cores: Option<Cores>,
        files: &Path,
    ) -> Result<Self, Failed> {
        let core = cores.map(|cores| cores.service);
        let mut process = Process::serve(peer, core, &[OsString::from(peer)], files)?;
        let address = process.address()?;
        let judge = same(|answer| match Verdict::of(answer)? {
            Verdict::Ok(_) => Ok(()),
            Verdict::Denied(_) => Err("a no from a service that only says yes".to_owned()),
        });
        let ask = Ask { body, ..Ask::default() };
        let head = Head::grpc(CHECK);
        let server = Server::Other(process);
        Ok(Self { name: peer, server, address, head, ask, judge, store: None, envoy: None })
    }

    /// Limitador, in memory, asked its own question: may this one pass?
    pub(crate) fn limitador(binary: &Path, cores: Option<Cores>, files: &Path) -> Result<Self, Failed> {
        let limits = files.join("limits.yaml");
        let text = "- namespace: loadtest\n  max_value: 1000000000\n  seconds: 60\n  conditions: []\n  variables: []\n";
        std::fs::write(&limits, text).map_err(|error| Failed(format!("{}: {error}", limits.display())))?;
        let (grpc, http) = (ports::free(), ports::free());
        let mut words: Vec<OsString> = vec!["program".into(), binary.into()];
        for (flag, value) in [("--rls-ip", "127.0.0.1"), ("--http-ip", "127.0.0.1")] {
            words.extend([flag.into(), value.into()]);
        }
        for (flag, port) in [("--rls-port", grpc), ("--http-port", http)] {
            words.extend([flag.into(), port.to_string().into()]);
        }
        words.extend([limits.into(), "memory".into()]);
        let mut process = Process::serve("limitador", cores.map(|cores| cores.service), &words, files)?;
        let address = SocketAddr::from(([127, 0, 0, 1], grpc));
        let entry = Entry { key: "visitor".into(), value: "203.0.113.7".into() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let question =
            RateLimitRequest { domain: "loadtest".into(), descriptors: vec![descriptor], hits_addend: 1 };
        let ask = Ask { body: framed(&question.encode_to_vec()), ..Ask::default() };
        let head = Head::grpc("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
        let judge = same(|answer| {
            let told = RateLimitResponse::decode(message(answer)?).map_err(|error| error.to_string())?;
            if told.overall_code() == Code::Ok { Ok(()) } else { Err(format!("limited: {told:?}")) }
        });
        until_open(&mut process, address, &head)?;
        let server = Server::Other(process);
        Ok(Self { name: "limitador", server, address, head, ask, judge, store: None, envoy: None })
    }

    /// So many new connections to it.
    pub(crate) fn connect(&self, connections: u16, streams: usize) -> Result<Pool, Broken> {
        let open = || Connection::open(self.address, self.head.clone());
        Ok(Pool::new((0..connections).map(|_| open()).collect::<Result<_, _>>()?, streams))
    }

    /// Asks once, and judges the answer: a peer that answers wrongly is not measured.
    pub(crate) fn try_it(&mut self) -> Result<(), Failed> {
        let answer = service::once(self.address, self.head.clone(), self.ask.clone())?;
        (self.judge)(&answer).map_err(|why| Failed(format!("{} answers wrongly: {why}", self.name)))
    }
}

/// Waits until a server that does not say when it is ready takes a connection.
fn until_open(process: &mut Process, address: SocketAddr, head: &Head) -> Result<(), Failed> {
    let deadline = Instant::now() + service::SOON;
    loop {
        let Err(why) = Connection::open(address, head.clone()) else { return Ok(()) };
        let (name, log) = (process.name().to_owned(), process.log());
        if !process.runs() {
            return Err(Failed(format!("{name} has ended; the end of its log:\n{log}")));
        }
        if Instant::now() > deadline {
            return Err(Failed(format!("{name} is not ready ({why}); the end of its log:\n{log}")));
        }
        stop::sleep(Duration::from_millis(50))?;
    }
}

/// Judges answers that are all alike: the whole check for one that differs from the last right one.
pub(crate) fn same(mut check: impl FnMut(&Answer) -> Result<(), String> + 'static) -> Judge {
    let mut known: Option<Vec<u8>> = None;
    Box::new(move |answer| {
        let is_whole =
            answer.status == 200 && answer.grpc_status.is_none_or(|status| status == 0) && !answer.reset;
        if is_whole && known.as_ref() == Some(&answer.body) {
            return Ok(());
        }
        check(answer)?;
        known = Some(answer.body.clone());
        Ok(())
    })
}
