//! Hostile names and tokens reach no other room's keys, and make none.

use reqwest::Method;
use serde_json::json;

use crate::door::{Tokens, Told};
use crate::fleet::Fleet;
use crate::redis::server::Server;

const ROOMS: &str = "rooms:\n  shop:\n    capacity: 0\n  vault:\n    capacity: 0\n";

/// Names as they stand in Envoy's configuration or a gRPC message.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        " ",
        "{shop}",
        "shop}",
        "{vault}:line",
        "shop:line",
        "anteroom:{shop}:room",
        "x}:{shop",
        "shop\0",
        "shop\n",
        "shop\r\nFLUSHALL\r\n",
        "*",
        "sho?",
        "shop ",
        "Ｓhop",
        "шоп",
        "shop\u{200b}",
        "../vault",
        "%7Bshop%7D",
        "🎟",
        "-shop",
        ".shop",
        "shop/vault",
        "shop\\",
        "'shop'",
        "\"shop\"",
        "shop;DEL",
    ]
    .map(str::to_owned)
    .into();
    names.push("s".repeat(65));
    names.push("s".repeat(100_000));
    names
}

/// The same as they come in a path.
fn encoded(name: &str) -> String {
    name.bytes().take(4_000).flat_map(|byte| format!("%{byte:02X}").into_bytes()).map(char::from).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rooms_that_the_policy_names_have_keys() {
    let redis = Server::start().await;
    let fleet = Fleet::serving("trespass", &redis.url(), ROOMS, 1).await;
    let door = &fleet.doors()[0];
    let shop = door.check("shop", &Tokens::default()).await;
    assert_eq!(shop.told, Told::Waiting(1));
    assert_eq!(door.check("vault", &Tokens::default()).await.told, Told::Waiting(1));
    // Beside the rooms there is only who is there.
    let keys = || -> Vec<String> {
        redis.keys().into_iter().filter(|key| !key.starts_with("anteroom:{~muster}:")).collect()
    };
    let known = keys();
    let of_rooms = |keys: &[String]| {
        keys.iter().all(|key| key.starts_with("anteroom:{shop}:") || key.starts_with("anteroom:{vault}:"))
    };
    assert!(!known.is_empty() && of_rooms(&known), "{known:?}");

    for name in names() {
        let told = door.check(&name, &shop.tokens).await.told;
        // Space around a value in Envoy's configuration means nothing.
        let expected = name.trim() == "shop" && told == Told::Waiting(1);
        assert!(expected || matches!(told, Told::Failed(_)), "{name:?}: {told:?}");
        let mut paths = vec![encoded(&name)];
        // As it is, where a client could send it so.
        paths.extend(
            name.bytes().all(|byte| byte.is_ascii_graphic()).then(|| name.chars().take(4_000).collect()),
        );
        for path in paths {
            for (method, call) in
                [(Method::POST, "join"), (Method::GET, "position"), (Method::DELETE, "ticket")]
            {
                let status = door.status(method, &format!("{path}/{call}"), &shop.tokens).await;
                assert!((400..500).contains(&status) || status == 0, "{path}/{call}: {status}");
            }
        }
    }
    // A valid name that nobody's policy has.
    for call in ["join", "enter"] {
        assert_eq!(door.status(Method::POST, &format!("nowhere/{call}"), &Tokens::default()).await, 404);
    }

    forged_tickets_move_nobody(&fleet, &shop.tokens).await;
    assert_eq!(keys(), known);
    assert_eq!(door.poll("shop", &shop.tokens).await.told, Told::Waiting(1));
}

async fn forged_tickets_move_nobody(fleet: &Fleet, shop: &Tokens) {
    let door = &fleet.doors()[0];
    let (generation, number) = shop.place().expect("a ticket");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = |room: &str, generation: u64, number: u64| json!({"aud": room, "gen": generation, "num": number, "iat": now, "exp": now + 3_600});
    let mut forged = vec![
        fleet.token("ticket", &claims("shop", generation, number), false),
        fleet.token("ticket", &claims("vault", generation, number), true),
        fleet.token("ticket", &claims("{shop}", generation, number), true),
        fleet.token("ticket", &claims("shop:line", generation, number), true),
        fleet.token("pass", &claims("shop", generation, number), true),
        "a.b.c".to_owned(),
        "x".repeat(7_000),
        format!("{}}}:{{vault", shop.ticket.as_deref().unwrap_or_default()),
    ];
    forged.push(fleet.token("ticket", &claims("shop", 1 << 60, 1), true));
    for ticket in forged {
        let tokens = Tokens { ticket: Some(ticket.clone()), pass: None };
        for (method, call) in [(Method::GET, "position"), (Method::POST, "enter")] {
            let status = door.status(method, &format!("shop/{call}"), &tokens).await;
            assert!((400..500).contains(&status), "{call} with {ticket}: {status}");
        }
        // Nothing to give up is no error.
        door.status(Method::DELETE, "shop/ticket", &tokens).await;
    }
}
