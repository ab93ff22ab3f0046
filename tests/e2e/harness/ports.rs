//! Ports for the programs of one scene.

pub(crate) use super::free_port::free;

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
