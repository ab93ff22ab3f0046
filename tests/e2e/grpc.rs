//! gRPC through Envoy: a waiting call is refused in gRPC's own words, and positions are there as a service.

use anteroom::pb::anteroom::v1::waiting_room_client::WaitingRoomClient;
use anteroom::pb::anteroom::v1::{
    EnterRequest, GetPositionRequest, JoinRequest, LeaveRequest, Status, WatchPositionRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{SOON, Scene, until};

async fn client(scene: &Scene) -> WaitingRoomClient<Channel> {
    WaitingRoomClient::connect(scene.ports.url("")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_call_gets_resource_exhausted() {
    let scene = Scene::new("a_waiting_call_gets_resource_exhausted").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().timeout(SOON).build().unwrap();
    let call = client
        .post(scene.ports.url("/shop/shop.v1.Shop/Buy"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(vec![0; 5]);
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200, "gRPC's outcome is not in the HTTP status");
    let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap());
    assert!(header("content-type").starts_with("application/grpc"), "{:?}", answer.headers());
    assert_eq!(header("grpc-status"), (Code::ResourceExhausted as i32).to_string(), "{:?}", answer.headers());
    assert!(!header("grpc-message").is_empty());
    assert!(header("set-cookie").starts_with("anteroom_ticket_shop="), "{:?}", answer.headers());
    assert_eq!(scene.backend.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_watch_enter_and_leave() {
    let scene = Scene::new("join_watch_enter_and_leave").await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    let mut client = client(&scene).await;
    let room = String::from("shop");

    let joined =
        client.join(JoinRequest { room: room.clone(), ..Default::default() }).await.unwrap().into_inner();
    let standing = joined.standing.expect("a standing");
    assert_eq!((standing.status(), standing.position), (Status::Waiting, 1));
    let ticket = joined.ticket.expect("a ticket");

    let ask = GetPositionRequest { room: room.clone(), ticket: ticket.clone() };
    let standing = client.get_position(ask).await.unwrap().into_inner().standing.unwrap();
    assert_eq!(standing.position, 1);
    let enter = EnterRequest { room: room.clone(), ticket: ticket.clone() };
    let refused = client.enter(enter.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");

    let watch = WatchPositionRequest { room: room.clone(), ticket: ticket.clone() };
    let mut stream = client.watch_position(watch).await.unwrap().into_inner();
    let now = stream.message().await.unwrap().unwrap().standing.unwrap();
    assert_eq!((now.status(), now.position), (Status::Waiting, 1));
    first.leave().await;
    let called = async {
        while let Some(message) = stream.message().await.unwrap() {
            if message.standing.unwrap().status() == Status::Called {
                return;
            }
        }
        panic!("the stream ended without a call");
    };
    tokio::time::timeout(SOON, called).await.expect("called in time");

    let pass = client.enter(enter).await.unwrap().into_inner().pass;
    let answer = scene.visitor().send(reqwest::Method::GET, "/shop", &[("x-anteroom-pass", &pass)]).await;
    assert_eq!(answer.status, 200);
    let leave = LeaveRequest { room: room.clone(), ticket, pass };
    client.leave(leave.clone()).await.unwrap();
    client.leave(leave).await.expect("also when already gone");
    scene.visitor().enters().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_a_watch_and_the_next_one_finds_the_place() {
    let mut scene = Scene::new("a_drain_ends_a_watch_and_the_next_one_finds_the_place").await;
    let _inside = (scene.inside().await, scene.inside().await);
    let mut client = client(&scene).await;
    let room = String::from("shop");
    let joined = client.join(JoinRequest { room: room.clone(), ..Default::default() }).await.unwrap();
    let joined = joined.into_inner();
    let ask = WatchPositionRequest { room, ticket: joined.ticket.unwrap() };
    let number = joined.standing.unwrap().number;
    let mut stream = client.watch_position(ask.clone()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().standing.unwrap().number, number);

    scene.service().terminate();
    let told = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if there were nothing more to tell"),
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(SOON, told).await.expect("the stream ends with the drain");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("your place is kept"), "{status:?}");
    assert!(scene.service().ended(SOON).await.expect("ends in time").success());
    scene.kill_service();
    scene.restart_service().await;

    // Envoy needs a moment to connect again; a client comes back with a backoff, as the status asks it to.
    let mut again = until("the service answers through Envoy", SOON, || {
        let (mut client, ask) = (client.clone(), ask.clone());
        async move { client.watch_position(ask).await.ok() }
    })
    .await
    .into_inner();
    let standing = again.message().await.unwrap().unwrap().standing.unwrap();
    assert_eq!((standing.status(), standing.number, standing.position), (Status::Waiting, number, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_says_why() {
    let scene = Scene::new("what_cannot_be_answered_says_why").await;
    let _inside = scene.inside().await;
    let mut client = client(&scene).await;
    for (room, ticket, code) in [
        ("shop", "", Code::Unauthenticated),
        ("shop", "garbage", Code::Unauthenticated),
        ("{shop}", "", Code::InvalidArgument),
        ("nowhere", "", Code::NotFound),
    ] {
        let ask = GetPositionRequest { room: room.into(), ticket: ticket.into() };
        let refused = client.get_position(ask).await.unwrap_err();
        assert_eq!(refused.code(), code, "{room:?} {ticket:?}: {refused:?}");
    }
}
