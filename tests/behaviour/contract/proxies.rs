//! What proxies are answered that ask for each request whether it may enter (forward auth), held to the description.

use std::io::Write as _;

use anteroom::identity::settings::JwksSource;
use anteroom::room::deny::{Entry, Whom};
use anteroom::room::gates::Gates;

use super::{Contract, all_behind, all_of, all_over};
use crate::api::Api;
use crate::identity::Users;
use crate::probe::Mood;
use crate::signer::{Signer, jwks};
use crate::world::{Doors, World};

/// What they are told of visitors, with and without a store, and of questions that are not clear.
pub(super) async fn asked(c: &mut Contract) {
    let asked = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/shop?x=1")];
    for method in ["GET", "POST"] {
        let call = |query: &str| format!("{method} /anteroom/v1/auth{query}");
        let api = all_of("capacity=1");
        c.send(&api, &call(""), &[], "").await.is(400);
        c.send(&api, &call("?room=elsewhere"), &asked, "").await.is(404);
        let entered = c.send(&api, &call("?door=caddy"), &asked, "").await;
        let pass = entered.is(200).header("x-anteroom-pass").to_owned();
        let inside = [asked[0], asked[1], ("x-anteroom-pass", &pass)];
        c.send(&api, &call("?room=shop"), &inside, "").await.is(200);
        c.send(&api, &call("?door=nginx-answer"), &inside, "").await.is(307);
        c.send(&api, &call(""), &[asked[0], ("x-forwarded-uri", "/open")], "").await.is(200);
        c.send(&api, &call(""), &asked, "").await.is(429);
        let page = c.send(&api, &call(""), &[asked[0], asked[1], ("accept", "text/html")], "").await;
        assert!(page.is(429).header("content-type").starts_with("text/html"));
        let ticket = c.send(&api, &call("?door=nginx"), &asked, "").await;
        let ticket = ticket.is(401).header("x-anteroom-ticket").to_owned();
        let handed = [asked[0], asked[1], ("x-anteroom-handed", &ticket)];
        c.send(&api, &call("?door=nginx-answer"), &handed, "").await.is(429);
        let html = [asked[0], asked[1], ("accept", "text/html")];
        let users = all_of("capacity=0 identity=subject");
        c.send(&users, &call(""), &asked, "").await.is(401);
        let page = c.send(&users, &call(""), &html, "").await;
        assert!(page.is(401).header("content-type").starts_with("text/html"));
        let out = all_of("capacity=0 on_outage=closed");
        out.world.probe.set(Mood::Fails);
        c.send(&out, &call(""), &asked, "").await.is(503);
        c.send(&out, &call(""), &html, "").await.is(503);
        // Whoever comes new is held without a number.
        let holds = all_of("capacity=0");
        holds.world.probe.set(Mood::Fails);
        c.send(&holds, &call(""), &asked, "").await.is(429);
        c.send(&holds, &call(""), &html, "").await.is(429);
        let grpc = [asked[0], asked[1], ("content-type", "application/grpc")];
        let web = [asked[0], asked[1], ("content-type", "application/grpc-web+proto")];
        for (api, over_grpc) in [(&api, 429), (&users, 401), (&out, 503)] {
            let refused = c.send(api, &call(""), &grpc, "").await;
            assert_ne!(refused.is(over_grpc).header("grpc-status"), "");
            c.send(api, &call(""), &web, "").await.is(429);
        }
    }
    gates(c).await;
}

/// The endpoint behind these gates, in a room where everybody is let in.
fn behind(gates: &[(&str, &str)]) -> Api {
    let gates = Gates::default().with(gates.iter().copied()).unwrap();
    all_behind(World::new(), "capacity=9", &gates)
}

/// What the gates before and behind the room say; to browsers as a page, over gRPC as a status.
async fn gates(c: &mut Contract) {
    let asked = [("x-forwarded-uri", "/shop"), ("x-forwarded-for", "192.0.2.1")];
    let (get, post) = (("x-forwarded-method", "GET"), ("x-forwarded-method", "POST"));
    let denies = behind(&[]);
    let network = Whom::Network("192.0.2.0/24".parse().unwrap());
    denies.world.denials.file(vec![Entry { whom: network, until: None, note: None }]).unwrap();
    let keys = behind(&[("idempotency", "require")]);
    let key = ("idempotency-key", "8e03978e-40d5-43dd-bc93-6894a57f9324");
    let first = c.send(&keys, "GET /anteroom/v1/auth", &[asked[0], asked[1], post, key], "").await;
    let pass = ("x-anteroom-pass", first.is(200).header("x-anteroom-pass"));
    let nobody = behind(&[("anonymous", "refuse")]);
    for method in ["GET", "POST"] {
        let forms = [("accept", "*/*"), ("accept", "text/html"), ("content-type", "application/grpc")];
        for form in forms {
            let call = format!("{method} /anteroom/v1/auth");
            c.send(&denies, &call, &[asked[0], asked[1], get, form], "").await.is(403);
            c.send(&keys, &call, &[asked[0], asked[1], post, form], "").await.is(400);
            c.send(&keys, &call, &[asked[0], asked[1], post, form, key, pass], "").await.is(409);
            c.send(&nobody, &call, &[asked[0], asked[1], get, form], "").await.is(401);
            for limit in ["limit_ip", "limit_client"] {
                let counts = behind(&[(limit, "1/h burst 1")]);
                c.send(&counts, &call, &[asked[0], asked[1], get, form], "").await.is(200);
                c.send(&counts, &call, &[asked[0], asked[1], get, form], "").await.is(429);
            }
            let join_limit = "1/h burst 1".parse().ok();
            let places = all_over(World::behind(Doors { join_limit, ..Doors::default() }), "capacity=9");
            c.send(&places, &call, &[asked[0], asked[1], get, form], "").await.is(200);
            c.send(&places, &call, &[asked[0], asked[1], get, form], "").await.is(429);
        }
    }
    users(c).await;
}

/// What becomes of users' tokens.
async fn users(c: &mut Contract) {
    let asked = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/shop")];
    let signer = Signer::es256("a");
    let mut keys = tempfile::NamedTempFile::new().unwrap();
    keys.write_all(jwks(&[&signer]).as_bytes()).unwrap();
    let users = Users::with(JwksSource::File(keys.path().to_owned()), |_| {});
    let token = format!("Bearer {}", users.token(&signer, "ann"));
    let identity = Some(users.identity.clone());
    let knows = all_over(World::behind(Doors { identity, ..Doors::default() }), "capacity=9");
    for method in ["GET", "POST"] {
        let call = format!("{method} /anteroom/v1/auth");
        let known = c.send(&knows, &call, &[asked[0], asked[1], ("authorization", &token)], "").await;
        assert_eq!(known.is(200).header("x-user-id"), "ann");
        c.send(&knows, &call, &[asked[0], asked[1], ("authorization", "Bearer x")], "").await.is(401);
    }
}
