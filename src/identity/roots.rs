//! Who vouches for the servers of issuers: the authorities of a PEM file, or those that the system believes.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor};

/// The variable that names a file of authorities in place of the system's, as OpenSSL has it.
const NAMED_FILE: &str = "SSL_CERT_FILE";

/// How many files of the system that cannot be read are told.
const TOLD: usize = 10;

/// The authorities that vouch for one issuer's server, and nobody else does. One at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<TrustAnchor<'static>>);

/// Why a file names no authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableRoots {
    /// Nothing in it is a certificate.
    #[error("has no certificate in it")]
    None,
    /// It is no PEM after so many certificates.
    #[error("is no sound PEM: what comes after {0} good certificates is cut short or damaged")]
    Pem(usize),
    /// A certificate cannot be read. Counted from 1.
    #[error("certificate {0} cannot be used: {1}")]
    Certificate(usize, String),
}

impl Roots {
    /// Reads the certificates of a PEM text. Other parts of it do not matter; a broken one does.
    pub fn read(pem: &str) -> Result<Self, UnusableRoots> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let before = store.len();
            // What the library says shows bytes of the text, which may be of a private key beside.
            let certificate = certificate.map_err(|_| UnusableRoots::Pem(before))?;
            store
                .add(certificate)
                .map_err(|error| UnusableRoots::Certificate(before + 1, error.to_string()))?;
        }
        if store.is_empty() { Err(UnusableRoots::None) } else { Ok(Self(store.roots)) }
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::new(RootCertStore { roots: self.0.clone() })
    }
}

/// The authorities that the system believes, read when they are first asked for: some 300 KB of files.
#[derive(Default)]
pub(super) struct SystemRoots(OnceCell<Arc<RootCertStore>>);

impl SystemRoots {
    /// Fails where there is none. What cannot be read is logged.
    pub(super) fn store(&self) -> io::Result<Arc<RootCertStore>> {
        if let Some(store) = self.0.get() {
            return Ok(store.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors.iter().take(TOLD) {
            tracing::warn!(%error, "root certificates cannot be read");
        }
        if std::env::var_os(NAMED_FILE).is_some_and(|file| says_nothing(&file)) {
            tracing::warn!("the file that {NAMED_FILE} names has no certificate in it");
        }
        let mut store = RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there are none"));
        }
        if unusable > 0 {
            tracing::debug!(unusable, "root certificates of the system were passed over");
        }
        Ok(self.0.get_or_init(|| Arc::new(store)).clone())
    }
}

/// Whether a file has no certificate in it, and the library passes over it without an error.
fn says_nothing(file: &OsStr) -> bool {
    let found = rustls_native_certs::load_certs_from_paths(Some(file.as_ref()), None);
    found.certs.is_empty() && found.errors.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    #[test]
    fn certificates_are_read_and_what_is_none_is_refused() {
        let (one, other) = (authority(), authority());
        let both = Roots::read(&format!("# ours\n{one}\nand\n{other}")).unwrap();
        assert_eq!(both.store().len(), 2);
        for nothing in ["", "garbage", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert_eq!(Roots::read(nothing), Err(UnusableRoots::None), "{nothing}");
        }
        let half = &one[..one.len() / 2];
        assert!(matches!(Roots::read(&format!("{other}{half}")), Err(UnusableRoots::Pem(1))));
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Roots::read(&format!("{one}{empty}")), Err(UnusableRoots::Certificate(2, _))));
    }

    #[test]
    fn a_named_file_without_a_certificate_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "garbage").unwrap();
        assert!(says_nothing(file.as_ref()));
        std::fs::write(&file, authority()).unwrap();
        assert!(!says_nothing(file.as_ref()));
    }
}
