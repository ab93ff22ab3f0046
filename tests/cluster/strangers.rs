//! Who answers the operators' client: nobody, or somebody who is no admin listener of this version.

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::operators::{asking, ran, token_file};

/// Commands that only look.
const LOOKS: [&str; 3] = ["rooms list", "rooms show shop", "deny list"];
/// Commands that change something.
const CONTROLS: [&str; 4] = [
    "rooms pause shop",
    "rooms reset shop --confirm shop",
    "deny add --ip 192.0.2.1",
    "deny remove --ip 192.0.2.1",
];

/// Every command asks this port: its exit status is that of `looks` or of `controls`, its message has `why` in it, and asks
/// to look before trying again where the status says that it may have been done.
async fn each_ends(port: u16, looks: i32, controls: i32, why: &str) {
    let token = token_file();
    let commands =
        LOOKS.map(|words| (words, looks)).into_iter().chain(CONTROLS.map(|words| (words, controls)));
    let ended = commands.map(async |(words, expected)| {
        let (what, rest) = words.split_once(' ').unwrap();
        let (status, out, error) = ran(asking(port, &token, what, rest)).await;
        assert_eq!((status, out.as_str()), (expected, ""), "{words}: {error}");
        assert!(error.contains(why), "{words}: {error}");
        error
    });
    let told = join_all(ended).await;
    let unsure = told
        .iter()
        .filter(|error| error.contains("may have been done") || error.contains("was done"))
        .count();
    assert_eq!(unsure, if controls == 3 { CONTROLS.len() } else { 0 }, "{told:#?}");
}

/// A web server that answers everything in this way, and its port.
async fn web_server(router: Router) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_takes_the_call_and_says_nothing_is_given_up() {
    // As with one that is stopped: the kernel takes connections and what is sent over them, and nobody reads.
    let deaf = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    each_ends(deaf.local_addr().unwrap().port(), 2, 3, "no answer within 10 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_admin_listener_has_done_nothing() {
    for body in ["<h1>It works!</h1>", "", r#"{"ok": true}"#, r#"["shop"]"#, "null"] {
        let (port, server) = web_server(Router::new().fallback(async move || body)).await;
        each_ends(port, 2, 2, "--admin-listen").await;
        server.abort();
    }
    let elsewhere = async || Redirect::temporary("https://shop.example/");
    let (port, server) = web_server(Router::new().fallback(elsewhere)).await;
    each_ends(port, 2, 2, "--admin-listen").await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_or_another_version_answers_may_have_been_done() {
    let broken = async || (StatusCode::BAD_GATEWAY, "<h1>Bad Gateway</h1>");
    let (port, server) = web_server(Router::new().fallback(broken)).await;
    each_ends(port, 2, 3, "status 502").await;
    server.abort();
    // Named as ours is, and told in another way.
    let newer = r#"{"room": "shop", "entry": {"network": "192.0.2.1"}, "rooms": [{}], "entries": [{}]}"#;
    let (port, server) = web_server(Router::new().fallback(async move || newer)).await;
    each_ends(port, 2, 3, "not one of this version").await;
    server.abort();
}
