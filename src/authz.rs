//! The `ext_authz` side: Envoy's question read, and the answer written. Both are pure.

pub mod request;
pub mod response;
