//! A server of an issuer's keys that says whatever it is told to, and counts who asks.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What TLS begins with, where this does not speak it.
const TLS: u8 = 0x16;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// 200 and this text.
    Text(String),
    /// This status, with keys that would be good.
    Status(u16, String),
    /// Sends elsewhere.
    Redirect(String),
    /// Less than it has promised, and an end.
    Half(String),
    /// Nothing, for ever.
    Nothing,
    /// A byte now and then, for ever.
    Drip,
    /// More than anybody wants, without saying how much.
    Flood,
    /// An end.
    HangUp,
}

/// Everything but an answer with keys that could be used. `keys` would be good; `elsewhere` is where a redirect leads.
pub(crate) fn lies(keys: &str, elsewhere: &JwksServer) -> [Says; 11] {
    let keys = || keys.to_owned();
    [
        Says::Status(500, keys()),
        Says::Status(404, keys()),
        Says::Redirect(elsewhere.url()),
        Says::Text("<html>keys</html>".to_owned()),
        Says::Text("{\"keys\": []}".to_owned()),
        Says::Text(format!("{}{}", keys(), " ".repeat(300_000))),
        Says::Half(keys()),
        Says::Flood,
        Says::HangUp,
        Says::Drip,
        Says::Nothing,
    ]
}

/// The server. It ends with its owner.
pub(crate) struct JwksServer {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl JwksServer {
    pub(crate) async fn start(says: Says) -> Self {
        Self::start_over(None, says).await
    }

    /// The same over TLS: it is to be asked at `https`.
    pub(crate) async fn start_tls(tls: TlsAcceptor, says: Says) -> Self {
        Self::start_over(Some(tls), says).await
    }

    async fn start_over(tls: Option<TlsAcceptor>, says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn({
            let (says, asked) = (says.clone(), asked.clone());
            async move {
                let mut answering = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let (says, asked, tls) = (says.clone(), asked.clone(), tls.clone());
                    // A client that hangs up, or does not believe the server, is none of the server's business.
                    answering.spawn(async move {
                        drop(match tls {
                            None => answer(client, &says, &asked).await,
                            Some(tls) => match tls.accept(client).await {
                                Ok(client) => answer(client, &says, &asked).await,
                                Err(error) => Err(error),
                            },
                        });
                    });
                }
            }
        });
        Self { address, says, asked, task }
    }

    pub(crate) fn says(&self, says: Says) {
        *self.says.lock() = says;
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }
}

async fn answer(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    says: &Mutex<Says>,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
        if head[0] == TLS {
            return Ok(());
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let says = says.lock().clone();
    let whole = |status: u16, extra: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{extra}connection: close\r\n\r\n{body}",
            body.len()
        )
    };
    match says {
        Says::Text(text) => {
            client.write_all(whole(200, "", &text).as_bytes()).await?;
            client.shutdown().await
        }
        Says::Status(status, text) => client.write_all(whole(status, "", &text).as_bytes()).await,
        Says::Redirect(to) => {
            client.write_all(whole(302, &format!("location: {to}\r\n"), "").as_bytes()).await
        }
        Says::Half(text) => {
            let whole = whole(200, "", &text);
            client.write_all(&whole.as_bytes()[..whole.len() - text.len() / 2]).await
        }
        Says::Nothing => std::future::pending().await,
        Says::Drip => {
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                client.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Says::Flood => {
            client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            let blanks = vec![b' '; 64 << 10];
            for _ in 0..1_000 {
                client.write_all(&blanks).await?;
            }
            Ok(())
        }
        Says::HangUp => Ok(()),
    }
}
