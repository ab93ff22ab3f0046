//! A TCP proxy that can fall silent, break off, and heal.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What it does with traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Hands it on.
    Open,
    /// Connections stay, and new ones are taken, but no byte passes: as if the network were cut.
    Cut,
    /// Connections are reset, new ones at once.
    Closed,
}

/// A proxy on 127.0.0.1. It ends when this is dropped.
pub(crate) struct Proxy {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `to`, open.
    pub(crate) async fn start(to: u16) -> Self {
        Self::start_at(super::ports::free(), to).await
    }

    /// The same at a port chosen before.
    pub(crate) async fn start_at(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (state, changes) = watch::channel(State::Open);
        let task = tokio::spawn(serve(listener, to, changes));
        Self { port, state, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Falls silent, without closing anything. What was on its way arrives once it heals, as on a real network.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Resets every connection, and every new one.
    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// Hands everything on again.
    pub(crate) fn heal(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, to: u16, changes: watch::Receiver<State>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        connections.spawn(connection(socket, to, changes.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut near: TcpStream, to: u16, mut changes: watch::Receiver<State>) {
    let mut ended = changes.clone();
    let hand_over = async {
        // A connection made during a cut reaches nobody until it heals.
        open(&mut changes).await?;
        let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let replication = AtomicBool::new(false);
        tokio::try_join!(
            copy(near_in, far_out, changes.clone(), &replication),
            copy(far_in, near_out, changes.clone(), &replication),
        )
    };
    tokio::select! {
        // Who hangs up or breaks off ends both sides; that is all there is to do.
        _ = hand_over => {}
        _ = ended.wait_for(|state| *state == State::Closed) => {
            // Dropped with a linger of zero, a socket is reset. One that is closed already needs no reset.
            near.set_zero_linger().ok();
        }
    }
}

async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut changes: watch::Receiver<State>,
    replication: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // Between nodes everything goes on: what is cut off is the service.
        let is_cut = || !replication.load(Ordering::Relaxed);
        if is_cut() {
            open(&mut changes).await?;
        }
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        let bytes = &buffer[..count];
        if bytes.windows(8).any(|window| window.eq_ignore_ascii_case(b"REPLCONF")) {
            replication.store(true, Ordering::Relaxed);
        }
        if is_cut() {
            open(&mut changes).await?;
        }
        to.write_all(bytes).await?;
    }
}

async fn open(changes: &mut watch::Receiver<State>) -> io::Result<()> {
    // The sender is gone only when the proxy is.
    changes.wait_for(|state| *state == State::Open).await.map(|_| ()).map_err(io::Error::other)
}
