//! Operators' entries of the deny list over a real Redis: made at one replica, in force at the other, and after a restart.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::fleet::Replica;
use crate::operators::{TOKEN, fleet};
use crate::redis::server::Server;
use crate::redis::{SOON, until};

const GRABBER: &str = "Grabber/1.0";

fn client() -> Client {
    Client::builder().no_proxy().timeout(SOON).build().unwrap()
}

/// Status and what the admin listener answers an operator.
async fn ask(replica: &Replica, method: Method, body: Option<&Value>) -> (u16, Value) {
    let url = format!("http://127.0.0.1:{}/deny", replica.admin);
    let mut request = client().request(method, url).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The same where all goes well.
async fn deny(replica: &Replica, method: Method, body: Option<&Value>) -> Value {
    let (status, told) = ask(replica, method, body).await;
    assert_eq!(status, 200, "{told}");
    told
}

/// Whether a replica refuses this browser, asked as a proxy asks.
async fn refuses(replica: &Replica, user_agent: &str) -> bool {
    let request = client().get(format!("http://127.0.0.1:{}/anteroom/v1/auth?room=shop", replica.http));
    let told = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/"), ("user-agent", user_agent)];
    let request = told.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    // Whoever is not refused is inside, or waits.
    assert!([200, 403, 429].contains(&status), "{status}: {}", answer.text().await.unwrap());
    status == 403
}

async fn until_it(refused: bool, replica: &Replica) {
    let what = if refused { "the grabber is refused" } else { "the grabber is refused no more" };
    until(what, SOON, || async { (refuses(replica, GRABBER).await == refused).then_some(()) }).await;
    assert!(!refuses(replica, "Mozilla/5.0").await, "others are not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_made_at_one_replica_is_in_force_at_the_other_and_after_a_restart() {
    let redis = Server::start().await;
    let (fleet, _token) = fleet("deny", &redis).await;
    let [one, other] = fleet.replicas() else { panic!("two replicas") };
    for replica in [one, other] {
        assert!(!refuses(replica, GRABBER).await);
    }
    let entry = json!({"user_agent": "grabber", "note": "takes every picture"});
    deny(one, Method::POST, Some(&entry)).await;
    assert!(refuses(one, GRABBER).await, "at once where it was asked for");
    until_it(true, other).await;
    let listed = deny(other, Method::GET, None).await;
    let told = &listed["entries"][0];
    assert_eq!((&told["note"], &told["source"]), (&json!("takes every picture"), &json!("operators")));

    // Nobody who knows of it is left but Redis.
    other.kill9();
    one.kill9();
    fleet.restart(1);
    other.until_ready().await;
    until_it(true, other).await;

    fleet.restart(0);
    one.until_ready().await;
    until_it(true, one).await;
    deny(other, Method::DELETE, Some(&json!({"user_agent": "grabber"}))).await;
    assert!(!refuses(other, GRABBER).await);
    until_it(false, one).await;
    assert_eq!(deny(one, Method::GET, None).await["known"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_nothing_is_changed_and_operators_are_told_so() {
    let redis = Server::start().await;
    let (fleet, _token) = fleet("deny_out", &redis).await;
    let replica = &fleet.replicas()[0];
    let known = json!({"user_agent": "grabber"});
    deny(replica, Method::POST, Some(&known)).await;
    redis.kill9();
    for (method, entry) in [
        (Method::POST, &json!({"ip": "192.0.2.7"})),
        (Method::DELETE, &known),
        (Method::DELETE, &json!({"ip": "192.0.2.8"})),
    ] {
        let (status, told) = ask(replica, method, Some(entry)).await;
        assert_eq!((status, &told["result"]), (503, &json!("unavailable")), "{entry}: {told}");
    }
    assert!(refuses(replica, GRABBER).await, "what was known counts");
    assert_eq!(deny(replica, Method::GET, None).await["known"], 1);
}
