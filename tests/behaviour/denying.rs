//! Operators' entries of the deny list: over all replicas, beside those of the file.

use std::time::Duration;

use anteroom::guard::deny::shared::{Change, ChangeError};
use anteroom::room::deny::{Asker, Entry, MAX_USER_AGENTS, Whom};
use serde_json::{Value, json};

use crate::operators::Listener;
use crate::world::World;

/// Two replicas that hear of each other.
fn replicas() -> (World, World) {
    let mut one = World::new();
    let mut other = one.beside();
    one.run_guard();
    other.run_guard();
    (one, other)
}

/// Longer than it takes until every replica has heard.
async fn heard() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn refuses(world: &World, address: &str) -> bool {
    let asker = Asker { address: Some(address.parse().unwrap()), ..Asker::default() };
    world.denials.refuses(&asker, world.rooms.now())
}

fn entries(told: &Value) -> Vec<[String; 2]> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    told["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| [text(entry, "ip"), text(entry, "source")])
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_entry_counts_for_every_replica_until_it_is_taken_back() {
    let (one, other) = replicas();
    let (here, there) = (Listener::over(&one), Listener::over(&other));
    let file = Entry { whom: Whom::Network("10.0.0.0/8".parse().unwrap()), until: None, note: None };
    one.denials.file(vec![file]).unwrap();

    let body = r#"{"ip": "192.0.2.0/24", "note": "a scraper", "until": "2999-01-01T00:00:00Z"}"#;
    let told = here.done("POST /deny", body).await;
    assert_eq!(told["entry"]["ip"], "192.0.2.0/24");
    assert!(refuses(&one, "192.0.2.7"), "at once where it was asked for");
    heard().await;
    assert!(refuses(&other, "192.0.2.8") && refuses(&other, "192.0.2.9"));
    let listed = there.done("GET /deny", "").await;
    let entry = &listed["entries"][0];
    assert_eq!(
        (&entry["source"], &entry["hits"], &entry["note"]),
        (&json!("operators"), &json!(2), &json!("a scraper"))
    );
    assert_eq!(entry["until"], "2999-01-01T00:00:00.000Z");
    let listed = here.done("GET /deny", "").await;
    let both = [["10.0.0.0/8", "file"], ["192.0.2.0/24", "operators"]].map(|pair| pair.map(str::to_owned));
    assert_eq!(entries(&listed), both);
    let page = here.done("GET /deny?limit=1", "").await;
    assert_eq!((&page["next"], &page["known"], entries(&page).len()), (&json!(1), &json!(2), 1));
    let page = here.done("GET /deny?limit=1&after=1", "").await;
    assert_eq!((&page["next"], entries(&page)), (&Value::Null, vec![both[1].clone()]));

    there.done("DELETE /deny", r#"{"ip": "192.0.2.0/24"}"#).await;
    assert!(!refuses(&other, "192.0.2.7"));
    heard().await;
    assert!(!refuses(&one, "192.0.2.7") && refuses(&one, "10.1.2.3"), "the file's stays");
    let (status, told) = here.ask("DELETE /deny", r#"{"ip": "10.0.0.0/8"}"#).await;
    assert_eq!((status, &told["result"]), (404, &json!("no_entry")), "{told}");
}

#[tokio::test(start_paused = true)]
async fn operators_at_two_replicas_at_once_lose_no_entry() {
    let (one, other) = replicas();
    let (here, there) = (Listener::over(&one), Listener::over(&other));
    for round in 0..20 {
        let body = |side: u8| format!(r#"{{"ip": "192.0.{round}.{side}"}}"#);
        let (first, second) =
            tokio::join!(here.done("POST /deny", body(1)), there.done("POST /deny", body(2)));
        assert!(first["entry"]["ip"].is_string() && second["entry"]["ip"].is_string());
    }
    heard().await;
    for world in [&one, &other] {
        let (listed, known) = world.denials.listed(0, 1_000);
        assert_eq!((listed.len(), known), (40, 40));
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_another_replica_made_a_moment_ago_can_be_taken_back() {
    // Neither hears of the other by itself.
    let one = World::new();
    let other = one.beside();
    let (here, there) = (Listener::over(&one), Listener::over(&other));
    let body = r#"{"ip": "192.0.2.7"}"#;
    here.done("POST /deny", body).await;
    assert!(refuses(&one, "192.0.2.7") && !refuses(&other, "192.0.2.7"));
    there.done("DELETE /deny", body).await;
    let (status, told) = here.ask("DELETE /deny", body).await;
    assert_eq!((status, &told["result"]), (404, &json!("no_entry")), "it is gone for all: {told}");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_and_changes_nothing() {
    let (one, _other) = replicas();
    let here = Listener::over(&one);
    for (body, why) in [
        ("", "no JSON object"),
        ("{}", "exactly one"),
        (r#"{"ip": "192.0.2.7/24"}"#, "ip:"),
        (r#"{"ip": "0.0.0.0/0"}"#, "everybody"),
        (r#"{"ip": "192.0.2.1", "subject": "eve"}"#, "exactly one"),
        (r#"{"address": "192.0.2.1"}"#, "address"),
    ] {
        for call in ["POST /deny", "DELETE /deny"] {
            let (status, told) = here.ask(call, body).await;
            assert!(status == 400 && told["detail"].as_str().unwrap().contains(why), "{call} {body}: {told}");
        }
    }
    assert_eq!(here.ask("GET /deny?limit=0", "").await.0, 400);
    assert_eq!(here.ask("POST /deny", " ".repeat(4 * 1024 + 1)).await.0, 413);
    assert!(one.denials.is_empty());
    let over = r#"{"ip": "192.0.2.1", "until": "2000-01-01T00:00:00Z"}"#;
    assert_eq!(here.ask("POST /deny", over).await.0, 400, "it would refuse nobody");
    here.done("POST /deny", r#"{"ip": "192.0.2.1", "until": "2199-01-01T00:00:00Z"}"#).await;
    here.done("POST /deny", r#"{"ip": "192.0.2.1"}"#).await;
    assert_eq!(one.denials.listed(0, 10).1, 1, "in place of the one for the same");
    assert!(refuses(&one, "192.0.2.1"));
    here.done("POST /deny", r#"{"user_agent": "BadBot"}"#).await;
    here.done("DELETE /deny", r#"{"user_agent": "badbot"}"#).await;
}

const MINUTE: u64 = 60_000;

/// An operator's change at a replica whose clock says `now`.
async fn change_at(world: &World, now: u64, change: Change) -> Result<(), ChangeError> {
    world.guard.change_shared(&change, &world.denials, now).await
}

fn add(whom: Whom, until: u64) -> Change {
    Change::Add(Entry { whom, until: Some(until), note: None })
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_clock_is_ahead_takes_nothing_back_for_the_others() {
    let (one, other) = replicas();
    let network = |text: &str| Whom::Network(text.parse().unwrap());
    let [first, second, third] = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"].map(network);
    let now = one.rooms.now();
    change_at(&one, now, add(first.clone(), now + 10 * MINUTE)).await.unwrap();
    let ahead = now + 20 * MINUTE;
    change_at(&other, ahead, add(second.clone(), ahead + 200 * MINUTE)).await.unwrap();
    heard().await;
    assert!(refuses(&one, "192.0.2.1") && refuses(&one, "192.0.2.2"), "its time is not over here");

    // What is over by a clock can be replaced and taken back by it.
    change_at(&other, ahead, add(first.clone(), ahead + 10 * MINUTE)).await.unwrap();
    assert_eq!(other.denials.listed(0, 10).1, 2);
    change_at(&other, ahead + 20 * MINUTE, Change::Remove(first)).await.unwrap();
    assert_eq!(other.denials.listed(0, 10).1, 1);

    // Nothing is kept for ever.
    change_at(&one, now, add(third.clone(), now + 10 * MINUTE)).await.unwrap();
    change_at(&one, now + 71 * MINUTE, Change::Remove(second)).await.unwrap();
    assert_eq!(one.denials.listed(0, 10).1, 0);
    let gone = change_at(&one, now + 71 * MINUTE, Change::Remove(third)).await;
    assert!(matches!(gone, Err(ChangeError::NotThere(_))), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_marked_and_takes_nobodys_room() {
    let (one, _other) = replicas();
    let agent = |name: &str| Whom::UserAgent(name.to_owned());
    let file =
        |count| (0..count).map(|n| Entry { whom: agent(&format!("bot {n}")), until: None, note: None });
    one.denials.file(file(MAX_USER_AGENTS - 1).collect()).unwrap();
    let now = one.rooms.now();
    change_at(&one, now - MINUTE, add(agent("for a moment"), now - 1)).await.unwrap();
    let last = format!("GET /deny?after={}", MAX_USER_AGENTS - 1);
    let listed = Listener::over(&one).done(&last, "").await;
    assert_eq!((&listed["entries"][0]["over"], &listed["known"]), (&json!(true), &json!(MAX_USER_AGENTS)));
    // There is room for one, and its is over.
    change_at(&one, now, add(agent("the last one"), now + MINUTE)).await.unwrap();
    let listed = Listener::over(&one).done(&last, "").await;
    assert_eq!(
        (&listed["entries"][0]["user_agent"], &listed["entries"][0]["over"]),
        (&json!("the last one"), &json!(false))
    );
    let refused = change_at(&one, now, add(agent("one too many"), now + MINUTE)).await;
    assert!(matches!(refused, Err(ChangeError::Deny(_))), "{refused:?}");
}

/// It was shared first: others had it, and its operator was told that it had been refused.
#[tokio::test(start_paused = true)]
async fn what_the_deny_file_leaves_no_room_for_is_refused_before_anybody_has_it() {
    let (one, other) = replicas();
    let here = Listener::over(&one);
    let agent = |number: usize| Whom::UserAgent(format!("grabber {number}"));
    let of_file = |count| (0..count).map(|number| Entry { whom: agent(number), until: None, note: None });
    one.denials.file(of_file(MAX_USER_AGENTS - 1).collect()).unwrap();
    here.done("POST /deny", r#"{"user_agent": "the last one"}"#).await;
    let (status, told) = here.ask("POST /deny", r#"{"user_agent": "one too many"}"#).await;
    let why = told["detail"].as_str().unwrap();
    assert!(status == 400 && why.contains("1001 user agents; keep at most 1000"), "{status}: {told}");
    heard().await;
    let known = |world: &World| world.denials.listed(0, 10_000).0;
    assert_eq!((known(&one).len(), known(&other).len()), (MAX_USER_AGENTS, 1), "{:?}", known(&other));

    // What is done for others is not told as undone, where only this one cannot use it.
    let there = Listener::over(&other);
    for number in 1..=3 {
        there.done("POST /deny", format!(r#"{{"user_agent": "other {number}"}}"#)).await;
    }
    let taken = r#"{"user_agent": "other 1"}"#;
    let (status, told) = here.ask("DELETE /deny", taken).await;
    assert_eq!((status, &told["result"]), (503, &json!("unsure")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("the change is made"), "{told}");
    assert_eq!(there.ask("DELETE /deny", taken).await.0, 404, "it is gone");
    for number in 2..=3 {
        there.done("DELETE /deny", format!(r#"{{"user_agent": "other {number}"}}"#)).await;
    }

    // Taking back is never refused, however long the list is.
    here.done("DELETE /deny", r#"{"user_agent": "the last one"}"#).await;
    heard().await;
    assert!(known(&other).is_empty());
}
