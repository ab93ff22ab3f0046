//! Where keys come from: a file, or an issuer over HTTP. Each look is bounded in time and size by itself.
//!
//! `hyper-rustls` over hyper's own client: both libraries and rustls were in the program already. A server is vouched for by
//! the issuer's own roots where it has some, else by the system's, as for Redis. Redirects are not followed: what is
//! configured is what is asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use tokio::io::AsyncReadExt as _;

use super::jwks::{MAX_JWKS, Unusable};
use super::roots::SystemRoots;
use super::settings::JwksSource;
use crate::room::policy::quoted;

/// How long a look may take, from the name's look-up to the last byte.
pub const MAX_LOOK: Duration = Duration::from_secs(5);

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file could not be read.
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    /// No connection, no TLS, or no HTTP.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing whole within [`MAX_LOOK`].
    #[error("it did not answer within 5 s")]
    TimedOut,
    /// Another answer than 200.
    #[error("it answers with status {0}; redirects are not followed")]
    Status(StatusCode),
    /// It is compressed, although that was not asked for.
    #[error("it answers with content-encoding {0}, although only identity (nothing) is accepted")]
    Encoded(String),
    /// What came is of no use.
    #[error("{0}")]
    Unusable(#[from] Unusable),
}

/// Something that keys come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The JWKS as it is now, at most [`MAX_JWKS`] bytes. May take any time: [`look`] bounds it.
    async fn read(&self) -> Result<Bytes, FetchError>;
}

/// A look at a source, within [`MAX_LOOK`].
pub async fn look(source: &dyn Source) -> Result<Bytes, FetchError> {
    tokio::time::timeout(MAX_LOOK, source.read()).await.unwrap_or(Err(FetchError::TimedOut))
}

/// The source that is configured. Fails where the system's roots are needed to check an `https` server, and it has none.
pub(super) fn source(jwks: &JwksSource, system: &SystemRoots) -> io::Result<Box<dyn Source>> {
    Ok(match jwks {
        JwksSource::File(path) => Box::new(File(path.clone())),
        JwksSource::Url { url, roots } if url.scheme_str() == Some("https") => {
            let roots = roots.as_ref().map_or_else(|| system.store(), |roots| Ok(roots.store()))?;
            let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
            Box::new(Https { client: client(https), url: url.clone() })
        }
        JwksSource::Url { url, .. } => {
            Box::new(Http { client: client(HttpConnector::new()), url: url.clone() })
        }
    })
}

struct File(PathBuf);

#[async_trait]
impl Source for File {
    async fn read(&self) -> Result<Bytes, FetchError> {
        let mut text = Vec::new();
        let most = MAX_JWKS as u64 + 1;
        tokio::fs::File::open(&self.0).await?.take(most).read_to_end(&mut text).await?;
        if text.len() > MAX_JWKS { Err(Unusable::TooLarge.into()) } else { Ok(text.into()) }
    }
}

/// Keys are fetched every few minutes: no connection is worth keeping.
fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

struct Http {
    client: Client<HttpConnector, Empty<Bytes>>,
    url: Uri,
}

struct Https {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: Uri,
}

#[async_trait]
impl Source for Http {
    async fn read(&self) -> Result<Bytes, FetchError> {
        get(&self.client, &self.url).await
    }
}

#[async_trait]
impl Source for Https {
    async fn read(&self) -> Result<Bytes, FetchError> {
        get(&self.client, &self.url).await
    }
}

async fn get<C>(client: &Client<C, Empty<Bytes>>, url: &Uri) -> Result<Bytes, FetchError>
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let request = Request::get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("anteroom/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| unreachable(&error))?;
    let response = client.request(request).await.map_err(|error| unreachable(&error))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
    let is_plain =
        |value: &HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(encoding) = encodings.find(|value| !is_plain(value)) {
        return Err(FetchError::Encoded(quoted(&String::from_utf8_lossy(encoding.as_bytes()))));
    }
    match Limited::new(response.into_body(), MAX_JWKS).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Unusable::TooLarge.into()),
        Err(error) => Err(unreachable(&*error)),
    }
}

/// An error with all that lies beneath it: hyper's own says only that there is one.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> FetchError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let told: Vec<String> = causes.take(8).map(ToString::to_string).collect();
    FetchError::Unreachable(told.join(": "))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// What a look at a server brings that answers with these headers, and what the server was asked.
    async fn looked(headers: &str) -> (Result<Bytes, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        let answer =
            format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\nconnection: close\r\n\r\n{{}}");
        let served = async {
            let (client, _) = listener.accept().await.unwrap();
            let (mut client, mut asked) = (BufReader::new(client), String::new());
            while !asked.ends_with("\r\n\r\n") {
                client.read_line(&mut asked).await.unwrap();
            }
            client.write_all(answer.as_bytes()).await.unwrap();
            asked
        };
        let source = source(&JwksSource::Url { url, roots: None }, &SystemRoots::default()).unwrap();
        tokio::join!(look(&*source), served)
    }

    #[tokio::test]
    async fn keys_are_asked_for_as_they_are_and_what_is_packed_is_named() {
        for plain in ["", "content-encoding: identity\r\n"] {
            let (read, asked) = looked(plain).await;
            assert_eq!(read.unwrap(), "{}", "{plain}");
            assert!(asked.contains("accept-encoding: identity\r\n"), "{asked}");
        }
        for packed in ["gzip", "identity, br", "identity\r\ncontent-encoding: zstd"] {
            let error = looked(&format!("content-encoding: {packed}\r\n")).await.0.unwrap_err().to_string();
            let last = packed.rsplit(' ').next().unwrap();
            assert!(error.contains("content-encoding") && error.contains(last), "{error}");
        }
    }
}
