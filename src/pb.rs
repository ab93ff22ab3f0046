//! Protobuf: the generated code, which is named from here only, and what reads and writes the hot messages by hand.
//!
//! The modules are nested as the packages are, because the generated code finds its neighbours by `super`.

pub mod check;
pub mod codec;
pub mod wire;

/// Every message and service here, encoded as a `google.protobuf.FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Declares the module of one package. What the generator writes is not held to our lints.
macro_rules! package {
    ($name:ident, $package:literal, $what:literal) => {
        #[doc = $what]
        #[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
        #[allow(missing_docs, unreachable_pub)]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

/// `anteroom`
pub mod anteroom {
    package!(v1, "anteroom.v1", "`anteroom.v1`: our own service for clients.");
}

/// `envoy`
pub mod envoy {
    /// `envoy.config`
    pub mod config {
        /// `envoy.config.core`
        pub mod core {
            package!(v3, "envoy.config.core.v3", "`envoy.config.core.v3`: headers, metadata, addresses.");
        }
    }
    /// `envoy.service`
    pub mod service {
        /// `envoy.service.auth`
        pub mod auth {
            package!(v3, "envoy.service.auth.v3", "`envoy.service.auth.v3`: the question and the answer.");
        }
    }
    /// `envoy.type`
    pub mod r#type {
        package!(v3, "envoy.r#type.v3", "`envoy.type.v3`: HTTP status.");
    }
}

/// `google`
pub mod google {
    package!(rpc, "google.rpc", "`google.rpc`: the outcome of a call.");
}
