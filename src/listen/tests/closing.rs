//! The end: what is under way is finished, what has not come in whole is not waited for.

use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;

use super::*;

type Sent = BoxBody<bytes::Bytes, Infallible>;

fn whole() -> Sent {
    BoxBody::new(http_body_util::Empty::new())
}

/// A body that never ends, and of which nothing comes.
fn endless() -> Sent {
    BoxBody::new(StreamBody::new(stream::pending()))
}

async fn http2(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Sent> {
    let socket = TcpStream::connect(address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    // Its requests tell how it ends.
    tokio::spawn(async move { _ = connection.await });
    sender
}

#[tokio::test]
async fn what_is_under_way_is_finished_and_nothing_else_is_waited_for() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let (go_on, may_go_on) = tokio::sync::watch::channel(false);
    let slow = async move || {
        begun.send(()).unwrap();
        may_go_on.clone().wait_for(|go| *go).await.unwrap();
        "done"
    };
    let (arriving, mut has_arrived) = mpsc::unbounded_channel();
    let read = async move |body: Body| {
        arriving.send(()).unwrap();
        axum::body::to_bytes(body, 100).await.unwrap();
    };
    let router = Router::new().route("/", get(slow)).route("/read", axum::routing::post(read));
    let metrics = Metrics::new(0);
    let (bound, address) = bound().await;
    let mut tasks = Tasks::new();
    let meter = metrics.listener(ListenerLabel::Client);
    tasks.spawn("http", serve_http(bound, router, Limits::default(), meter, tasks.shutdown()));
    let times = DrainTimes { lead: Duration::ZERO, grace: PATIENCE * 3 };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stops = Box::pin(stream::once(async {
        stopped.await.unwrap();
        "the test"
    }));
    let ended = tokio::spawn(tasks.run_until_drained(times, stops));

    let post = || ::http::Request::post(format!("http://{address}/read")).body(endless()).unwrap();
    let get = ::http::Request::get(format!("http://{address}/")).body(whole()).unwrap();
    // Both on one connection, and on others what has not come in whole.
    let mut busy = http2(address).await;
    let request = tokio::spawn(busy.send_request(get));
    let beside = tokio::spawn(busy.send_request(post()));
    let alone = tokio::spawn(http2(address).await.send_request(post()));
    has_begun.recv().await.unwrap();
    let mut halves = Vec::new();
    for said in
        ["GET / HTTP/1.1\r\nhost: a", "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"]
    {
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(said.as_bytes()).await.unwrap();
        halves.push(half);
    }
    for _ in 0..3 {
        has_arrived.recv().await.unwrap();
    }
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 4"#).await;
    stop.send(()).unwrap();
    timeout(PATIENCE, async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it still listens");
    for mut half in halves {
        assert_eq!(closed(&mut half).await, b"");
    }
    assert!(timeout(PATIENCE, alone).await.unwrap().unwrap().is_err());
    wait_for(&metrics, r#"anteroom_connections_open{listener="client"} 1"#).await;
    go_on.send(true).unwrap();
    let answer = request.await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), "done");
    // What was left with it is not waited for.
    assert!(timeout(PATIENCE, beside).await.unwrap().unwrap().is_err());
    timeout(PATIENCE, ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn whoever_does_not_finish_in_time_is_cut_off() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    // Dropped with the handler: the channel then tells that nothing of it is left.
    let (held, mut released) = mpsc::unbounded_channel::<()>();
    let endless = async move || {
        let _held = held.clone();
        begun.send(()).unwrap();
        std::future::pending::<String>().await
    };
    let serving = Serving::start(Router::new().route("/", get(endless)), Limits::default(), metrics()).await;
    let url = format!("http://{}/", serving.address);
    let one = reqwest::Client::builder().no_proxy().http1_only().build().unwrap();
    let two = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let requests = [tokio::spawn(one.get(&url).send()), tokio::spawn(two.get(&url).send())];
    for _ in &requests {
        has_begun.recv().await.unwrap();
    }
    serving.end().await.expect("that is no failure of the service");
    for request in requests {
        assert!(request.await.unwrap().is_err());
    }
    assert_eq!(timeout(PATIENCE, released.recv()).await, Ok(None), "a handler was left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_heard_of_however_many_go_on_connecting() {
    // Also where each of them is one too many, and closed at once.
    for max_connections in [Limits::default().max_connections, 1] {
        let limits = Limits { max_connections, ..Limits::default() };
        let serving = Serving::start(Router::new(), limits, metrics()).await;
        let address = serving.address;
        let (connected, mut have_connected) = mpsc::unbounded_channel();
        let flood: Vec<_> = (0..8)
            .map(|_| {
                let connected = connected.clone();
                tokio::spawn(async move {
                    while let Ok(stream) = TcpStream::connect(address).await {
                        // Reset, so that thousands leave no trace in the system's table.
                        stream.set_zero_linger().unwrap();
                        _ = connected.send(());
                    }
                })
            })
            .collect();
        for _ in 0..500 {
            have_connected.recv().await.unwrap();
        }
        serving.end().await.expect("it ends in time");
        for task in flood {
            timeout(PATIENCE, task).await.expect("nobody listens any more").unwrap();
        }
    }
}
