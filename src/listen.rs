//! Listeners: addresses, sockets bound once and checked, and serving HTTP on them within limits.

mod accept;
mod backlog;
mod http;
mod progress;
mod work;
mod workers;

pub use self::http::serve_http;
pub use self::progress::Progress;
pub use self::work::Arriving;
pub use self::workers::{Ends, ThreadEnded, Workers};

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

/// How many connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 4_096;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A unix socket's absolute path.
    Unix(PathBuf),
}

impl Listen {
    /// The longest path of a unix socket, in bytes: what `sun_path` holds less its end.
    const MAX_PATH: usize = 107;

    /// Binds the address. `flag` is the setting it came from, for the error.
    ///
    /// A unix socket's file left over from an earlier run is replaced, but only if nobody listens on it;
    /// the new one is open to owner and group. Must be called within a tokio runtime.
    pub async fn bind(&self, flag: &str) -> Result<Bound, BindError> {
        let bound = match self {
            Self::Tcp(address) => bind_tcp(*address),
            Self::Unix(path) => bind_unix(path).await,
        };
        bound.map_err(|source| BindError { address: self.clone(), flag: flag.to_owned(), source })
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RIGHT: &str =
            "write an IP address and port, like 127.0.0.1:8081 or [::1]:8081, or unix:/absolute/path";
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| RIGHT.to_owned());
        };
        if path.len() > Self::MAX_PATH {
            return Err(format!("write a path of at most {} bytes, this has {}", Self::MAX_PATH, path.len()));
        }
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(RIGHT.to_owned());
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({flag}): {source}; {}", remedy(source.kind()))]
pub struct BindError {
    /// The address.
    pub address: Listen,
    /// The setting it came from.
    pub flag: String,
    /// What the system said.
    pub source: io::Error,
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another address",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 or a directory that may be written to",
        io::ErrorKind::NotFound => "create the socket's directory first",
        io::ErrorKind::AlreadyExists => "remove that file, or choose another path",
        _ => "choose another address",
    }
}

/// A socket that listens. A unix socket's file goes when this is dropped.
#[derive(Debug)]
pub struct Bound {
    address: Listen,
    socket: Socket,
    workers: Workers,
}

impl Bound {
    /// The address it listens on, with the port that the system chose where that was 0.
    pub fn local_addr(&self) -> &Listen {
        &self.address
    }

    /// Lets these threads serve its connections, and not the runtime in which it was bound.
    #[must_use]
    pub fn served_by(self, workers: &Workers) -> Self {
        Self { workers: workers.clone(), ..self }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; further ones are closed at once and counted.
    pub max_connections: usize,
    /// HTTP/2 requests and streams open at once on one connection.
    pub max_streams_per_connection: u32,
    /// How long a client may take to send the head of a request, and keep an HTTP/1 connection idle.
    pub header_read: Duration,
    /// How long a client may leave a full socket unread.
    pub write_stall: Duration,
    /// How often a quiet HTTP/2 connection is asked whether anybody is there.
    pub keepalive: Duration,
    /// How long the answer to that may take.
    pub keepalive_answer: Duration,
    /// Whether requests carry a [`Remote`] among their extensions, which costs an allocation each.
    pub tell_remote: bool,
}

/// Who is at the other end of a connection; displayed as an address, or `unix` for a unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote(pub Option<SocketAddr>);

impl Remote {
    /// Their IP address, where they have one.
    pub fn ip(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip())
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams_per_connection: 1_000,
            header_read: Duration::from_secs(15),
            write_stall: Duration::from_secs(30),
            keepalive: Duration::from_secs(30),
            keepalive_answer: Duration::from_secs(20),
            tell_remote: false,
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Bound> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = Listen::Tcp(listener.local_addr()?);
    Ok(Bound { address, socket: Socket::Tcp(listener), workers: Workers::here() })
}

async fn bind_unix(path: &Path) -> io::Result<Bound> {
    remove_stale(path).await?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::of(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let (address, socket) = (Listen::Unix(path.to_owned()), Socket::Unix { listener, _file: file });
    Ok(Bound { address, socket, workers: Workers::here() })
}

/// Removes a socket's file that nobody listens on.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// A unix socket's file, removed when this is dropped.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), device_and_inode: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put a socket of their own in its place: that one is not ours to remove.
        if identity(&self.path).is_ok_and(|found| found == self.device_and_inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the unix socket's file could not be removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
