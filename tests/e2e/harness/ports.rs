//! Ports for the programs of one scene.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what systems hand out to outgoing connections, of which the visitors make thousands: a port that was free a
/// moment ago would else be taken by one of those before its program binds it.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// The ports of one scene.
pub(crate) struct Ports {
    /// Envoy, for visitors.
    pub(crate) public: u16,
    pub(crate) backend: u16,
    pub(crate) authz: u16,
    pub(crate) grpc: u16,
    pub(crate) http: u16,
    pub(crate) admin: u16,
    pub(crate) envoy_admin: u16,
}

impl Ports {
    /// Free ports, beside that of the backend, which listens already.
    pub(crate) fn choose(backend: u16) -> Self {
        Self {
            public: free(),
            backend,
            authz: free(),
            grpc: free(),
            http: free(),
            admin: free(),
            envoy_admin: free(),
        }
    }

    /// A URL at Envoy, as visitors use it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.public)
    }

    /// A URL at the service's admin listener.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }
}

/// A port nobody listens on. No two calls in this process give the same, and two processes begin at different ones.
pub(crate) fn free() -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below COUNT");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
