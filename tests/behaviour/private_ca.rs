//! Keys over TLS: an issuer's server is believed where its own authority vouches for it, as an identity file says.

use std::path::Path;
use std::sync::Arc;

use anteroom::config::identity_file;
use anteroom::identity::settings::JwksSource;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::identity::{Users, url};
use crate::jwks_server::{JwksServer, Says};
use crate::signer::{Signer, jwks};

/// An authority of nobody else.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// All of them have one name: only their keys tell them apart.
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a private authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// What a server of this name shows, with the authority's word for it.
    fn vouch_for(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(tls))
    }
}

fn https(server: &JwksServer) -> String {
    server.url().replace("http://", "https://")
}

/// Where the keys are that an identity file names, with this text in `ca.pem` beside it.
fn read(folder: &Path, address: &str, ca: &str) -> JwksSource {
    std::fs::write(folder.join("ca.pem"), ca).unwrap();
    let text = format!(
        "issuers: [{{issuer: a, audiences: [b], algorithms: [ES256], jwks: {{url: '{address}', ca: ca.pem}}}}]"
    );
    let settings = identity_file::parse(&text, &folder.join("identity.yaml")).unwrap();
    settings.issuers.into_iter().next().unwrap().jwks
}

#[tokio::test]
async fn only_an_issuers_own_authority_vouches_for_its_server() {
    let (ours, other) = (Authority::new(), Authority::new());
    let signer = Signer::es256("a");
    let says = || Says::Text(jwks(&[&signer]));
    let folder = tempfile::tempdir().unwrap();
    let server = JwksServer::start_tls(ours.vouch_for("127.0.0.1"), says()).await;
    let address = https(&server);

    for wrong in [url(&address), read(folder.path(), &address, &other.pem)] {
        let users = Users::with(wrong, |_| {});
        users.found_unreachable().await;
        users.is_unavailable(&users.token(&signer, "ann")).await;
    }
    assert_eq!(server.asked(), 0, "it was asked without being believed");

    for right in [ours.pem.clone(), format!("{}{}", other.pem, ours.pem)] {
        let users = Users::with(read(folder.path(), &address, &right), |_| {});
        users.is_user(&users.token(&signer, "ann"), "ann").await;
    }

    // The authority's word is for one name, and not for whoever has another one of its certificates.
    let elsewhere = JwksServer::start_tls(ours.vouch_for("other.example"), says()).await;
    let users = Users::with(read(folder.path(), &https(&elsewhere), &ours.pem), |_| {});
    users.found_unreachable().await;
    assert_eq!(elsewhere.asked(), 0);
}
