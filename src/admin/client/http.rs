//! One request to an admin listener, over TCP or a unix socket, bounded in time and size.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::{Failure, UNSURE};

/// How long a call may take, from connecting to the end of its answer. docs/operators.md has it.
const TIME: Duration = Duration::from_secs(10);
/// The largest answer read, in bytes: a page of a thousand rooms takes some 2 MiB.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Host and port.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl Target {
    /// `http://host:port` or `unix:/path`; `None`: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(PathBuf::from(path)));
        }
        let uri: Uri = text.trim_end_matches('/').parse().ok()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        if uri.scheme_str() != Some("http") || uri.path().len() > 1 || uri.query().is_some() {
            return None;
        }
        Some(Self::Tcp(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80))))
    }

    /// As it is written.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Unix(_) => "localhost",
        }
    }
}

/// Asks one admin listener.
pub(super) struct Client {
    target: Target,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(target: Target, token: Option<String>) -> Self {
        Self { target, token }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Makes a call; the JSON that it is answered. An admin listener's has a field `named`, in any version: whoever answers
    /// something else is none, and has done nothing.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        named: &str,
    ) -> Result<Value, Failure> {
        let is_look = method == Method::GET;
        let unreachable = |why: String| Failure::Unreachable(format!("{}: {why}", self.target.written()));
        // Once a control was sent, it may have been done whatever comes back.
        let lost = |why: String| match unreachable(why) {
            Failure::Unreachable(why) if !is_look => Failure::Unsure(format!("{why}; {UNSURE}")),
            failure => failure,
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.target.host());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map(|body| Bytes::from(body.to_string()));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        // Neither the path, made of checked names, nor the token, checked too, can fail here.
        let request = request.map_err(|error| unreachable(error.to_string()))?;
        let deadline = Instant::now() + TIME;
        let late = |_| format!("no answer within {} s", TIME.as_secs());
        let connected = timeout_at(deadline, self.connect()).await.map_err(late).map_err(unreachable)?;
        let connection = connected.map_err(|error| unreachable(told(&error)))?;
        let answered =
            timeout_at(deadline, exchange(connection, request)).await.map_err(late).map_err(lost)?;
        let (status, bytes) = answered.map_err(|error| lost(told(&*error)))?;
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        let strange = || {
            format!(
                "status {status}, and not as an admin listener answers: is this the address of --admin-listen?"
            )
        };
        let is_ours = |json: &Value| {
            if status.is_success() { !json[named].is_null() } else { json["result"].is_string() }
        };
        let Some(json) = json.filter(is_ours) else {
            // It may have been passed on, and done, only by a gateway that says that something broke behind it.
            return Err(if status.is_server_error() { lost(strange()) } else { unreachable(strange()) });
        };
        // Of Anteroom's listeners only this one says what came of a call.
        match json["result"].as_str() {
            _ if status.is_success() => Ok(json),
            _ if status.is_client_error() => Err(Failure::Refused(detail(status, &json))),
            Some("unavailable") => Err(unreachable(detail(status, &json))),
            // It says itself that this may have been done.
            Some("unsure") => Err(Failure::Unsure(detail(status, &json))),
            _ => Err(lost(detail(status, &json))),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match &self.target {
            Target::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

/// TCP or a unix socket.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

type Lost = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    stream: Box<dyn Connection>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Lost> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped, with the answer.
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?;
        Ok((status, body.to_bytes()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

/// The innermost reason: the outer ones only say that there was one.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut reason = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    match reason.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
        _ => reason.to_string(),
    }
}

fn detail(status: StatusCode, answer: &Value) -> String {
    answer["detail"].as_str().map_or_else(|| format!("status {status}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hosts_with_ports_or_sockets() {
        let tcp = |text: &str| Some(Target::Tcp(text.to_owned()));
        assert_eq!(Target::parse("http://127.0.0.1:9102"), tcp("127.0.0.1:9102"));
        assert_eq!(Target::parse("http://[::1]:9102/"), tcp("[::1]:9102"));
        assert_eq!(Target::parse("http://anteroom"), tcp("anteroom:80"));
        assert_eq!(Target::parse("unix:/run/a.sock"), Some(Target::Unix("/run/a.sock".into())));
        for wrong in [
            "",
            "127.0.0.1:9102",
            "https://a:1",
            "http://",
            "http://user@a:1",
            "http://a:1/rooms",
            "http://a:1?x",
            "unix:relative",
        ] {
            assert_eq!(Target::parse(wrong), None, "{wrong}");
        }
    }
}
