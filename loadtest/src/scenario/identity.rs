//! `identity`: a Check with a valid pass by a user whose token (ES256) is remembered, next to the same without an identity
//! file: with the token in the question, and without.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::pass::is_admitted;
use super::{PASS, SHOP, Stage, pass_of};
use crate::Failed;
use crate::cli::Plan;
use crate::peers::{Judge, Peer, same};
use crate::question::{Accept, Question, Verdict, admitted, header};
use crate::report::Report;

/// A key pair of the tests: it protects nothing.
const PRIVATE: &str = include_str!("../../../tests/data/identity/es256-1.pem");
const JWKS: &str = include_str!("../../../tests/data/identity/jwks.json");
const IDENTITY: &str =
    "issuers:\n- { issuer: bench, audiences: [shop], jwks: { file: jwks.json }, algorithms: [ES256] }\n";
const USER: &str = "5f7c1a52-6f0e-4f6a-9d0b-6f1f7f6f2b11";

pub(super) fn run(stage: Stage, rounds: &Plan) -> Result<Report, Failed> {
    let folder = stage.files.path();
    let (jwks, identity) = (folder.join("jwks.json"), folder.join("identity.yaml"));
    for (file, text) in [(&jwks, JWKS), (&identity, IDENTITY)] {
        std::fs::write(file, text).map_err(|error| Failed(format!("{}: {error}", file.display())))?;
    }
    let token = token()?;
    let knowing = stage.anteroom_with("memory", &["--identity".into(), identity.into()])?;
    let (plain, passing) = (stage.anteroom("memory")?, stage.anteroom("memory")?);
    let question = |service, bearer| {
        let pass = pass_of(service)?;
        let token = Some((PASS, pass.as_str()));
        Ok::<_, Failed>(Question { limits: &SHOP, accept: Accept::Html, token, bearer }.framed())
    };
    let asked = question(&knowing, Some(&token))?;
    let what = format!("a Check with a valid pass and a user's token, 19 headers, {} bytes", asked.len());
    let (without, unread) = (question(&plain, None)?, question(&passing, Some(&token))?);
    let peers = vec![
        Peer::anteroom("identity", knowing, asked, is_ann()),
        Peer::anteroom("no identity", plain, without, is_admitted()),
        Peer::anteroom("token unread", passing, unread, is_admitted()),
    ];
    let notes = vec![
        "no identity: no identity file, and no token in the question; token unread: no identity file"
            .to_owned(),
    ];
    stage.measure("identity", what, (peers, notes), 1, rounds)
}

fn token() -> Result<String, Failed> {
    let failed = |error: jsonwebtoken::errors::Error| Failed(format!("the user's token: {error}"));
    let key = EncodingKey::from_ec_pem(PRIVATE.as_bytes()).map_err(failed)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let end = now + Duration::from_hours(24).as_secs();
    let claims =
        json!({"iss": "bench", "aud": "shop", "sub": USER, "iat": now, "exp": end, "user_type": "member"});
    let header = Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, &key).map_err(failed)
}

fn is_ann() -> Judge {
    same(|answer| match Verdict::of(answer)? {
        Verdict::Ok(ok) => {
            admitted(&ok, "shop")?;
            match header(&ok.headers, "x-user-id") {
                Some(USER) => Ok(()),
                other => Err(format!("let through as {other:?}")),
            }
        }
        Verdict::Denied(denied) => Err(format!("turned away with a valid pass: {}", denied.body)),
    })
}
