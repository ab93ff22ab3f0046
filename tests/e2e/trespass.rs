//! Nobody gets past the line: forged tokens, spoofed headers, other spellings of a path, odd rooms, absurd cookies.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Method;

use crate::harness::Scene;
use crate::harness::tokens::{Parts, SigningKey};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_expired_or_foreign_pass_never_enters() {
    let scene = Scene::new("a_forged_expired_or_foreign_pass_never_enters").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    let pass = first.cookie("anteroom_pass_shop").expect("a pass cookie");
    let ticket = waiting.cookie("anteroom_ticket_shop").unwrap();
    let genuine = Parts::of(&pass);
    let key = &scene.key;
    let kid = genuine.header["kid"].as_str().expect("a key id").to_owned();
    let other_key = SigningKey::fresh(&kid);
    let last = if pass.ends_with('A') { "E" } else { "A" };

    let forged = [
        ("signed with another key", other_key.sign(&genuine)),
        ("not signed", genuine.unsigned()),
        ("alg none", genuine.clone().header("alg", "none").unsigned()),
        ("alg none, with a signature", key.sign(&genuine.clone().header("alg", "none"))),
        ("another algorithm", key.sign(&genuine.clone().header("alg", "HS384"))),
        ("an unknown key id", key.sign(&genuine.clone().header("kid", "nobody"))),
        ("expired", key.sign(&genuine.clone().claim("iat", now() - 7200).claim("exp", now() - 3600))),
        ("another room's", key.sign(&genuine.clone().claim("aud", "other"))),
        ("a ticket where a pass belongs", ticket.clone()),
        ("a ticket's type", key.sign(&genuine.clone().header("typ", "ticket"))),
        ("truncated", pass[..pass.len() / 2].to_owned()),
        ("its signature cut off", pass.rsplit_once('.').unwrap().0.to_owned()),
        ("one bit changed", format!("{}{last}", &pass[..pass.len() - 1])),
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, token) in &forged {
        let stranger = scene.visitor();
        stranger.set_cookie("anteroom_pass_shop", token);
        let answer = stranger.get("/shop").await;
        assert_eq!(answer.status, 429, "as a cookie, {what}: {answer:?}");
        let answer = scene.visitor().send(Method::GET, "/shop", &[("x-anteroom-pass", token)]).await;
        assert_eq!(answer.status, 429, "as a header, {what}: {answer:?}");
    }
    // In a ticket's place they are no place in front either; the two that are rightly signed tickets aside.
    for (what, token) in forged.iter().filter(|(what, _)| !what.contains("ticket")) {
        let stranger = scene.visitor();
        stranger.set_cookie("anteroom_ticket_shop", token);
        let answer = stranger.get("/shop").await;
        assert_eq!(answer.status, 429, "{what}");
        assert_ne!(answer.json()["position"], 1, "{what}");
    }
    assert_eq!(scene.backend.requests(), 2, "none of them reached the backend");
    assert!(!scene.service_log().contains(&pass), "a pass in the log");

    // The control: signed with the right key and otherwise the same, it does enter.
    let holder = scene.visitor();
    holder.set_cookie("anteroom_pass_shop", &key.sign(&genuine));
    assert_eq!(holder.get("/shop").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_ticket_of_a_small_number_takes_no_place_in_front() {
    let scene = Scene::new("a_forged_ticket_of_a_small_number_takes_no_place_in_front").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (waiting, _) = scene.in_line().await;
    let genuine = Parts::of(&waiting.cookie("anteroom_ticket_shop").unwrap());
    let kid = genuine.header["kid"].as_str().unwrap();
    let forged = SigningKey::fresh(kid).sign(&genuine.claim("num", 1));
    let stranger = scene.visitor();
    stranger.set_cookie("anteroom_ticket_shop", &forged);
    let answer = stranger.get("/shop").await;
    assert_eq!((answer.status, answer.json()["position"].as_u64()), (429, Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_about_itself_never_reaches_the_backend() {
    let scene = Scene::new("what_a_client_says_about_itself_never_reaches_the_backend").await;
    let spoofed = [
        ("x-anteroom-room", "spoofed"),
        ("x-anteroom-number", "spoofed"),
        ("x-anteroom-expires", "spoofed"),
        ("x-anteroom-pass", "spoofed"),
        ("x-anteroom-ticket", "spoofed"),
        ("x_anteroom_room", "spoofed"),
        ("X-Anteroom-Vip", "spoofed"),
    ];
    let inside = scene.visitor();
    for path in ["/shop", "/shop"] {
        let answer = inside.send(Method::GET, path, &spoofed).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains("spoofed"), "{}", answer.text);
        assert_eq!(answer.json()["headers"]["x-anteroom-room"], "shop");
        assert_eq!(answer.json()["headers"]["x-anteroom-number"], "1");
    }
    // Where nobody asks the service, Envoy removes the names that mean something.
    let answer = scene.visitor().send(Method::GET, "/open", &spoofed[..6]).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("spoofed"), "{}", answer.text);
}

/// Ways to write a path that some backend takes for `/shop`.
const SPELLINGS: &str = include_str!("../data/spellings.txt");

/// Whoever writes the path in another way waits, is sent to the plain path, or is refused.
pub(crate) async fn assert_all_lead_to_the_line(scene: &Scene) {
    for path in SPELLINGS.lines() {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = crate::protocols::raw(scene.ports.public, request.as_bytes()).await;
        let status: u16 = answer.split(' ').nth(1).expect("a status").parse().unwrap();
        assert!([307, 308, 400, 404, 429].contains(&status), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_the_path_leads_around_the_line() {
    let scene = Scene::new("no_spelling_of_the_path_leads_around_the_line").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let (_waiting, _) = scene.in_line().await;
    assert_all_lead_to_the_line(&scene).await;
    assert_eq!(scene.backend.requests(), 2, "only the two inside reached the backend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_odd_rooms_are_refused_and_forgotten() {
    let scene = Scene::new("a_thousand_odd_rooms_are_refused_and_forgotten").await;
    let inside = scene.inside().await;
    let visitor = scene.visitor();
    for at in 0..1000 {
        let room = match at % 5 {
            0 => format!("room-{at}"),
            1 => format!("%7Broom{at}%7D"),
            2 => format!("{}{at}", "x".repeat(100)),
            3 => format!("%EC%83%81%EC%A0%90{at}"),
            _ => format!("a%20b;{at}%0A"),
        };
        let (method, call) = match at % 3 {
            0 => (Method::GET, "position"),
            1 => (Method::POST, "join"),
            _ => (Method::GET, "stream"),
        };
        let answer = visitor.send(method, &format!("/anteroom/v1/rooms/{room}/{call}"), &[]).await;
        assert!((400..500).contains(&answer.status), "{room} {call}: {answer:?}");
    }
    let metrics = crate::harness::visitor::plain_client().get(scene.ports.admin_url("/metrics"));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("room-5"), "rooms that nobody configured grow the metrics");
    assert_eq!(inside.get("/shop").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_cookies_are_survived() {
    let scene = Scene::new("absurd_cookies_are_survived").await;
    let first = scene.inside().await;
    let _second = scene.inside().await;
    let pass = first.cookie("anteroom_pass_shop").unwrap();
    let (waiting, _) = scene.in_line().await;
    let ticket = waiting.cookie("anteroom_ticket_shop").unwrap();

    // 64 KB are over Envoy's own limit; 48 KB reach the service.
    let huge = "x".repeat(64 * 1024);
    let cookie = format!("anteroom_pass_shop={huge}");
    let answer = scene.visitor().send(Method::GET, "/shop", &[("cookie", &cookie)]).await;
    assert_eq!(answer.status, 431);
    let cookie = format!("anteroom_pass_shop={}", &huge[..48 * 1024]);
    assert_eq!(scene.visitor().send(Method::GET, "/shop", &[("cookie", &cookie)]).await.status, 429);
    let cookie = format!("anteroom_ticket_shop={}", &huge[..48 * 1024]);
    let position = "/anteroom/v1/rooms/shop/position";
    let poll = scene.visitor().send(Method::GET, position, &[("cookie", &cookie)]).await;
    assert!((400..500).contains(&poll.status), "{poll:?}");

    // Garbage around a good one hides it neither from a Check nor from a poll.
    let around = |name: &str, token: &str| {
        format!("=; ;;a; b=\"c; {name}=bad; session=1=2=3; {name}={token}; =x; ütf=✓; {name}_x=1")
    };
    let cookie = around("anteroom_pass_shop", &pass);
    assert_eq!(scene.visitor().send(Method::GET, "/shop", &[("cookie", &cookie)]).await.status, 200);
    let cookie = around("anteroom_ticket_shop", &ticket);
    let garbled = scene.visitor().send(Method::GET, "/shop", &[("cookie", &cookie)]).await;
    assert_eq!((garbled.status, garbled.json()["position"].as_u64()), (429, Some(1)));
    let poll = scene.visitor().send(Method::GET, position, &[("cookie", &cookie)]).await;
    assert_eq!((poll.status, poll.json()["position"].as_u64()), (200, Some(1)));
}
