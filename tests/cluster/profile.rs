//! CPU profiles of the running program: one at a time, and no drain waits for one.

use crate::fleet::Fleet;
use crate::redis::{SOON, until};

#[tokio::test]
async fn a_profile_tells_where_the_time_goes_and_ends_with_the_program() {
    let limits = "rooms:\n  shop:\n    capacity: 0\n";
    let mut fleet = Fleet::new("profile", "memory", limits).with(&["--profile", "true", "--drain", "30s"]);
    fleet.add("serve");
    let service = &fleet.replicas()[0];
    service.until_ready().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let at = |query: &str| format!("http://127.0.0.1:{}/debug/profile{query}", service.admin);
    let join = format!("http://127.0.0.1:{}/anteroom/v1/rooms/shop/join", service.http);

    let first = tokio::spawn({
        let (client, url) = (client.clone(), at("?seconds=60&format=text"));
        // The one below may have come before it.
        async move {
            until("it is this one's turn", SOON, || async {
                let told = client.get(&url).send().await.unwrap();
                (told.status() != 409).then_some(told)
            })
            .await
        }
    });
    // Whoever comes second is refused; until the first has begun, it is the second that takes one.
    until("a profile is being taken", SOON, || async {
        let second = client.get(at("?seconds=1")).send().await.unwrap();
        (second.status() == 409).then_some(())
    })
    .await;
    for _ in 0..2_000 {
        assert_eq!(client.post(&join).send().await.unwrap().status(), 201);
    }
    service.terminate().await;
    let told = first.await.unwrap();
    assert_eq!(told.status(), 200);
    let text = told.text().await.unwrap();
    let counted = |line: &str| line.rsplit_once(' ').is_some_and(|(_, count)| count.parse::<u32>().is_ok());
    assert!(text.lines().all(counted), "{text}");
    // Whole stacks, from the thread's start into our code. Connections are there whenever anything is done for a visitor;
    // a handler is through so soon that in some runs no sample meets one.
    let whole = |line: &&str| line.contains("thread_start") && line.contains("anteroom::listen::http");
    assert!(text.lines().find(whole).is_some(), "{text}");
}
