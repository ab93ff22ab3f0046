//! The embedded store and its directory: what is there after a restart, and what is told when the disk is full.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::door::{Tokens, Told};
use crate::fleet::Fleet;
use crate::operators::{json, token_file};
use crate::redis::{SOON, until};

const BOTH: &str = "rooms:\n  shop:\n    capacity: 2\n  extra:\n    capacity: 0\n";
const ONE: &str = "rooms:\n  shop:\n    capacity: 2\n";

/// Names and sources of the rooms of a list.
fn rooms(listed: &Value) -> Vec<(&str, &str)> {
    let rooms = listed["rooms"].as_array().unwrap().iter();
    rooms.map(|room| (room["room"].as_str().unwrap(), room["policy"]["source"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_listed_from_the_start_and_those_kept_after_a_restart() {
    let token = token_file();
    let flags = ["--drain", "2s", "--admin-token-file", token.path().to_str().unwrap()];
    let mut fleet = Fleet::new("listed_from_the_start", "memory", BOTH).with(&flags);
    fleet.add("serve");
    let replica = &fleet.replicas()[0];
    replica.until_ready().await;
    let listed = json(replica, &token, "list").await;
    assert_eq!(rooms(&listed), [("extra", "rooms_file"), ("shop", "rooms_file")], "nobody has come yet");
    let told = fleet.doors()[0].check("extra", &Tokens::default()).await.told;
    assert_eq!(told, Told::Waiting(1));
    replica.terminate().await;

    fleet.use_rooms(ONE);
    fleet.restart(0);
    replica.until_ready().await;
    let listed = json(replica, &token, "list").await;
    assert_eq!(rooms(&listed), [("extra", "store"), ("shop", "rooms_file")]);
    assert_eq!(listed["rooms"][0]["counts"]["waiting"], json!(1), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_as_long_as_it_lasts_and_makes_nobody_unready() {
    let mut fleet = Fleet::new("full_disk", "memory", ONE);
    fleet.add("serve");
    let replica = &fleet.replicas()[0];
    replica.until_ready().await;
    let failing = async |value: f64| {
        until("the metric says so", SOON, || async {
            let told = replica.metric("anteroom_checkpoint_failing").await;
            ((told - value).abs() < f64::EPSILON).then_some(())
        })
        .await;
    };
    failing(0.0).await;
    let draft = fleet.state_dir().join("rooms/shop.draft");
    // Every write to it fails for want of space. The room's own first checkpoint may be under way still.
    until("the draft is not in use", SOON, || async { symlink("/dev/full", &draft).ok() }).await;
    until("no number can be reserved", SOON, || async {
        let told = fleet.doors()[0].check("shop", &Tokens::default()).await.told;
        (told == Told::Held).then_some(())
    })
    .await;
    failing(1.0).await;
    assert_eq!(replica.admin("/readyz").await.0, 200, "who is inside or in line needs no disk");
    std::fs::remove_file(&draft).unwrap();
    failing(0.0).await;
    let told = fleet.doors()[0].check("shop", &Tokens::default()).await.told;
    assert_eq!(told, Told::Inside);
}
