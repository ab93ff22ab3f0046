//! Anteroom as it runs beside Envoy, with listeners of its own.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::drive::{Ask, Pool, Script, Span, drive};
use crate::h2::head::Head;
use crate::h2::{Answer, Connection};
use crate::process::Process;
use crate::question::{CHECK, Question};
use crate::redis::ports;
use crate::{Failed, cores::Cores, stop};

/// How long it may take until it is ready.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long one question of the preparations may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the passes and tickets are signed with: nobody's secret, and the same for all replicas of a run.
const KEYS: &str =
    "keys:\n- { kid: bench, alg: HS256, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= }\n";

/// Which program it is.
#[derive(Clone, Debug)]
pub(crate) enum Binary {
    /// This one.
    At(PathBuf),
    /// The library, in a process of this harness.
    BuiltIn,
}

/// A running Anteroom; it ends with this.
pub(crate) struct Service {
    pub(crate) process: Process,
    /// Where Envoy asks.
    pub(crate) authz: SocketAddr,
    /// Where visitors poll.
    pub(crate) http: SocketAddr,
    /// Where operators ask.
    pub(crate) admin: SocketAddr,
}

impl Service {
    /// Starts it over a store, as `--store` names it, with `more` flags, and waits until it is ready.
    pub(crate) fn start(
        binary: &Binary,
        cores: Option<Cores>,
        store: &str,
        files: &Path,
        more: &[OsString],
    ) -> Result<Self, Failed> {
        let keys = files.join("keys.yaml");
        std::fs::write(&keys, KEYS).map_err(|error| Failed(format!("{}: {error}", keys.display())))?;
        let [authz, grpc, http, admin] =
            std::array::from_fn(|_| SocketAddr::from(([127, 0, 0, 1], ports::free())));
        let mut words: Vec<OsString> = match binary {
            Binary::At(path) => vec!["program".into(), path.into()],
            Binary::BuiltIn => vec!["anteroom".into(), "--".into()],
        };
        words.extend(["serve".into(), "--store".into(), store.into(), "--keys".into(), keys.into()]);
        for (flag, address) in [
            ("--authz-listen", authz),
            ("--grpc-listen", grpc),
            ("--http-listen", http),
            ("--admin-listen", admin),
        ] {
            words.extend([flag.into(), address.to_string().into()]);
        }
        // The load and Redis share a core here: a store call that is late because of it is no outage.
        words
            .extend(["--store-budget", "500ms", "--check-budget", "1s", "--log", "warn"].map(OsString::from));
        words.extend(["--profile", "true"].map(OsString::from));
        words.extend_from_slice(more);
        let mut process = Process::serve("anteroom", cores.map(|cores| cores.service), &words, files)?;
        let deadline = Instant::now() + SOON;
        while !get(admin, "/readyz", PATIENCE).is_ok_and(|answer| answer.starts_with(b"HTTP/1.0 200 ")) {
            if !process.runs() || Instant::now() > deadline {
                let log = process.log();
                return Err(Failed(format!("anteroom is not ready; the end of its log:\n{log}")));
            }
            stop::sleep(Duration::from_millis(20))?;
        }
        Ok(Self { process, authz, http, admin })
    }

    /// Asks about one visitor's request.
    pub(crate) fn check(&self, question: &Question<'_>) -> Result<Answer, Failed> {
        once(self.authz, Head::grpc(CHECK), Ask { body: question.framed(), ..Ask::default() })
    }
}

/// The whole answer to a GET, head and body, where no part of it takes longer than `patience`.
pub(crate) fn get(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    write!(socket, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Asks one question on a connection of its own.
pub(crate) fn once(address: SocketAddr, head: Head, ask: Ask) -> Result<Answer, Failed> {
    let mut asking = Once { ask: Some(ask), answer: None };
    let mut pools = [Pool::new(vec![Connection::open(address, head)?], 1)];
    let outcome =
        drive(&mut asking, &mut pools, Span { warm_up: Duration::ZERO, length: PATIENCE, open: true })?;
    asking.answer.ok_or_else(|| Failed(format!("{address}: {}", outcome.reasons.join("; "))))
}

struct Once {
    ask: Option<Ask>,
    answer: Option<Answer>,
}

impl Script for Once {
    fn due(&mut self) -> Option<u64> {
        self.ask.is_some().then_some(0)
    }

    fn next(&mut self, ask: &mut Ask) {
        *ask = self.ask.take().unwrap_or_default();
    }

    fn answered(&mut self, _tag: u64, answer: &Answer, _at: u64) -> Result<usize, String> {
        let Answer { status, grpc_status, ref body, reset } = *answer;
        self.answer = Some(Answer { status, grpc_status, body: body.clone(), reset });
        Ok(0)
    }
}
