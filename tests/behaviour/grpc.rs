//! `anteroom.v1.WaitingRoom` through a real client: the answers, and each documented status code.

use anteroom::pb::anteroom::v1 as pb;
use anteroom::pb::anteroom::v1::waiting_room_client::WaitingRoomClient;
use anteroom::pb::anteroom::v1::waiting_room_server::WaitingRoomServer;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request};

use crate::probe::Mood;
use crate::world::World;

/// The service behind a port of its own, and its client.
struct Service {
    world: World,
    client: WaitingRoomClient<Channel>,
    server: JoinHandle<()>,
}

impl Service {
    async fn open(world: World, words: &str) -> Self {
        world.room(words);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().add_service(WaitingRoomServer::new(world.desk()));
        let server = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        let client = WaitingRoomClient::connect(format!("http://{address}")).await.unwrap();
        Self { world, client, server }
    }

    async fn join(&mut self, ticket: &str) -> Result<pb::JoinResponse, Code> {
        let request = pb::JoinRequest { room: "shop".into(), ticket: ticket.into(), pass: String::new() };
        self.client.join(request).await.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    async fn position(&mut self, room: &str, ticket: &str) -> Result<pb::Standing, Code> {
        let request = pb::GetPositionRequest { room: room.into(), ticket: ticket.into() };
        let told = self.client.get_position(request).await.map_err(|status| status.code())?;
        Ok(told.into_inner().standing.unwrap())
    }

    async fn enter(&mut self, ticket: &str) -> Result<pb::EnterResponse, Code> {
        let request = pb::EnterRequest { room: "shop".into(), ticket: ticket.into() };
        self.client.enter(request).await.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    async fn leave(&mut self, ticket: &str, pass: &str) -> Result<(), Code> {
        let request = pb::LeaveRequest { room: "shop".into(), ticket: ticket.into(), pass: pass.into() };
        self.client.leave(request).await.map(|_| ()).map_err(|status| status.code())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test]
async fn the_whole_way_of_two_visitors() {
    let mut service = Service::open(World::new(), "capacity=1 session_ttl=240s").await;
    let first = service.join("").await.unwrap();
    let pass = first.pass.unwrap();
    let now = service.world.rooms.now() / 1_000;
    assert_eq!(first.standing.unwrap().status(), pb::Status::Admitted);
    assert!((now + 230..=now + 240).contains(&first.expires) && first.ticket.is_none());
    let second = service.join("").await.unwrap();
    let (standing, ticket) = (second.standing.unwrap(), second.ticket.unwrap());
    assert_eq!((standing.status(), standing.number, standing.position), (pb::Status::Waiting, 2, 1));
    assert_eq!((second.expires, second.pass), (0, None));
    let again = service.join(&ticket).await.unwrap();
    assert_eq!((again.standing.unwrap().number, again.ticket), (2, None), "a place is kept");
    assert_eq!(service.enter(&ticket).await.err(), Some(Code::FailedPrecondition));

    let request = pb::WatchPositionRequest { room: "shop".into(), ticket: ticket.clone() };
    let mut stream = service.client.watch_position(request).await.unwrap().into_inner();
    let told = stream.message().await.unwrap().unwrap().standing.unwrap();
    assert_eq!((told.status(), told.position), (pb::Status::Waiting, 1));
    service.leave("", &pass).await.unwrap();
    let told = stream.message().await.unwrap().unwrap().standing.unwrap();
    assert_eq!(told.status(), pb::Status::Called);
    assert!(stream.message().await.unwrap().is_none(), "the stream ends well");

    assert_eq!(service.position("shop", &ticket).await.unwrap().status(), pb::Status::Called);
    let entered = service.enter(&ticket).await.unwrap();
    assert_eq!(entered.standing.unwrap().status(), pb::Status::Admitted);
    assert!(entered.expires >= now + 230 && !entered.pass.is_empty());
    let again = service.enter(&ticket).await.unwrap();
    assert_eq!(again.expires, entered.expires, "the same session");
    service.leave("", &entered.pass).await.unwrap();
    service.leave("", &entered.pass).await.expect("already gone is no error");
    assert_eq!(service.enter(&ticket).await.err(), Some(Code::Aborted));
    assert_eq!(service.position("shop", &ticket).await.unwrap().status(), pb::Status::Gone);
}

#[tokio::test]
async fn tokens_come_by_metadata_too_and_the_field_wins() {
    let mut service = Service::open(World::new(), "capacity=0").await;
    let first = service.join("").await.unwrap().ticket.unwrap();
    let second = service.join("").await.unwrap().ticket.unwrap();
    let mut request = Request::new(pb::GetPositionRequest { room: "shop".into(), ticket: String::new() });
    request.metadata_mut().insert("x-anteroom-ticket", second.parse().unwrap());
    let told = service.client.get_position(request).await.unwrap().into_inner().standing.unwrap();
    assert_eq!(told.number, 2);
    let mut request = Request::new(pb::GetPositionRequest { room: "shop".into(), ticket: first });
    request.metadata_mut().insert("x-anteroom-ticket", second.parse().unwrap());
    let told = service.client.get_position(request).await.unwrap().into_inner().standing.unwrap();
    assert_eq!(told.number, 1);
}

#[tokio::test]
async fn every_documented_refusal() {
    let world = World::with(|options| {
        options.max_streams = 1;
        options.max_rooms = 1;
    });
    let mut service = Service::open(world, "capacity=0").await;
    let ticket = service.join("").await.unwrap().ticket.unwrap();
    let long = "x".repeat(64 * 1024);
    for odd in ["", "a b", "상점", &long] {
        assert_eq!(service.position(odd, &ticket).await.err(), Some(Code::InvalidArgument), "{odd:.9}");
    }
    assert_eq!(service.position("nowhere", &ticket).await.err(), Some(Code::NotFound));
    for bad in ["", "garbage", &long, &ticket[1..]] {
        assert_eq!(service.position("shop", bad).await.err(), Some(Code::Unauthenticated), "{bad:.9}");
        assert_eq!(service.enter(bad).await.err(), Some(Code::Unauthenticated));
        assert_eq!(service.leave(bad, bad).await.err(), Some(Code::Unauthenticated));
        let request = pb::WatchPositionRequest { room: "shop".into(), ticket: bad.into() };
        let refused = service.client.watch_position(request).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(service.join(bad).await.is_ok(), "no longer good: a new place");
    }
    let watch = || pb::WatchPositionRequest { room: "shop".into(), ticket: ticket.clone() };
    let open = service.client.watch_position(watch()).await.unwrap();
    let refused = service.client.watch_position(watch()).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(open);
    service.world.probe.set(Mood::Fails);
    assert_eq!(service.join("").await.err(), Some(Code::Unavailable));
    let request = pb::EnterRequest { room: "shop".into(), ticket: ticket.clone() };
    let refused = service.client.enter(request).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(!refused.message().contains("secret-host"), "{refused}");
    assert_eq!(service.position("shop", &ticket).await.unwrap().position, 1, "from the last snapshot");
    service.world.probe.set(Mood::Well);
    service.leave(&ticket, "").await.unwrap();
    assert_eq!(service.enter(&ticket).await.err(), Some(Code::Aborted));
}

#[tokio::test]
async fn a_room_of_users_wants_one() {
    let mut service = Service::open(World::new(), "capacity=1 identity=subject").await;
    assert_eq!(service.join("").await.err(), Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_room_that_wants_a_nonce_takes_it_by_metadata() {
    let mut service = Service::open(World::new(), "capacity=1 checkin=nonce").await;
    let pass = service.join("").await.unwrap().pass.unwrap();
    let ticket = service.join("").await.unwrap().ticket.unwrap();
    service.leave("", &pass).await.unwrap();
    let mut enter = async |nonce: &str| {
        let mut request = Request::new(pb::EnterRequest { room: "shop".into(), ticket: ticket.clone() });
        request.metadata_mut().insert("x-anteroom-nonce", nonce.parse().unwrap());
        service
            .client
            .enter(request)
            .await
            .map(|answer| answer.into_inner().pass)
            .map_err(|status| status.code())
    };
    assert_eq!(enter("short").await, Err(Code::InvalidArgument));
    assert!(!enter("0123456789abcdef").await.unwrap().is_empty());
    assert_eq!(enter("0123456789abcdef").await, Err(Code::AlreadyExists));
    assert!(!enter("0123456789abcdeg").await.unwrap().is_empty());
    assert_eq!(service.enter(&ticket).await.err(), Some(Code::InvalidArgument), "none at all");
}
