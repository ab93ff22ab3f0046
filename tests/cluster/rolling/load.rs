//! Visitors of every kind at once through one Envoy. Each holds every answer against what it must be: whatever is done
//! to the replicas meanwhile, nobody may notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anteroom::pb::anteroom::v1::waiting_room_client::WaitingRoomClient;
use anteroom::pb::anteroom::v1::{GetPositionRequest, Standing, Status, WatchPositionRequest};
use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::envoy::visitor::Visitor;
use crate::redis::SOON;

/// Between two requests of one visitor.
const PACE: Duration = Duration::from_millis(20);
/// Between two newcomers.
const ARRIVALS: Duration = Duration::from_millis(100);
/// How long a stream's visitor is away before coming back.
const AWAY: Duration = Duration::from_millis(100);

/// The crowd. It ends with this.
pub(crate) struct Load {
    port: u16,
    tasks: JoinSet<()>,
    pub(crate) done: Arc<Done>,
    /// Those inside.
    pub(crate) inside: Vec<Visitor>,
    /// Those in line, the first first.
    pub(crate) waiting: Vec<Visitor>,
}

/// What was asked, and answered as it must be.
#[derive(Debug, Default)]
pub(crate) struct Done {
    passes: AtomicU64,
    waits: AtomicU64,
    polls: AtomicU64,
    calls: AtomicU64,
    newcomers: AtomicU64,
    words: AtomicU64,
    returns: AtomicU64,
}

impl Done {
    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        let all = [&self.passes, &self.waits, &self.polls, &self.calls, &self.newcomers, &self.returns];
        all.into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many requests with a pass there were.
    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// How often a stream was ended and opened again.
    pub(crate) fn returns(&self) -> u64 {
        self.returns.load(Ordering::Relaxed)
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Where somebody in line stands: nobody leaves meanwhile, so that never changes.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    position: u64,
}

impl Place {
    fn must_be(self, told: &Value) {
        let Self { number, position } = self;
        let right = (&Value::from("waiting"), &Value::from(number), &Value::from(position));
        assert_eq!((&told["status"], &told["number"], &told["position"]), right, "{told}");
    }

    fn must_stand(self, told: Option<&Standing>) {
        let told = told.expect("a standing");
        let Self { number, position } = self;
        assert_eq!((told.status(), told.number, told.position), (Status::Waiting, number, position));
    }
}

impl Load {
    /// Nobody yet.
    pub(crate) fn new(port: u16) -> Self {
        let (tasks, done) = (JoinSet::new(), Arc::default());
        Self { port, tasks, done, inside: Vec::new(), waiting: Vec::new() }
    }

    /// Fills the room with as many as it takes, and a line behind it; a crowd of newcomers goes on arriving.
    pub(crate) async fn begin(port: u16, capacity: u64, waiting: u64) -> Self {
        let mut load = Self::new(port);
        for number in 1..=capacity {
            let visitor = Visitor::new(port);
            let answer = visitor.get("/shop").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            load.goes_on_inside(visitor, number);
        }
        for position in 1..=waiting {
            let visitor = Visitor::new(port);
            let answer = visitor.get("/shop").await;
            assert_eq!(answer.status, 429, "{answer:?}");
            let place = Place { number: capacity + position, position };
            place.must_be(&answer.json());
            load.waiting.push(visitor.clone());
            let done = load.done.clone();
            match position % 4 {
                0 => load.tasks.spawn(asks(visitor, place, done)),
                1 => load.tasks.spawn(watches(visitor, place, done)),
                2 => load.tasks.spawn(calls(port, visitor, place, done)),
                _ => load.tasks.spawn(watches_by_call(port, visitor, place, done)),
            };
        }
        load.tasks.spawn(arrive(port, capacity, waiting, load.done.clone()));
        load
    }

    /// One who is inside, and goes on looking around.
    pub(crate) fn goes_on_inside(&mut self, visitor: Visitor, number: u64) {
        self.inside.push(visitor.clone());
        self.tasks.spawn(looks_around(visitor, number, self.done.clone()));
    }

    /// Does something while the crowd goes on; fails the test as soon as anybody notices.
    pub(crate) async fn during<T>(&mut self, what: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next() => panic!("somebody noticed: {ended:?}"),
            done = what => done,
        }
    }

    /// Ends the crowd, and gives those inside and in line.
    pub(crate) async fn end(mut self) -> (Vec<Visitor>, Vec<Visitor>) {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()), "somebody noticed");
        }
        eprintln!("port {}: {} requests: {:?}", self.port, self.done.requests(), self.done);
        (self.inside, self.waiting)
    }
}

/// Inside, with a pass.
async fn looks_around(visitor: Visitor, number: u64, done: Arc<Done>) {
    loop {
        let answer = visitor.get("/shop").await;
        assert_eq!(answer.status, 200, "a pass is refused: {answer:?}");
        let told = answer.json();
        assert_eq!(told["headers"]["x-anteroom-number"], number.to_string(), "{told}");
        one_more(&done.passes);
        sleep(PACE).await;
    }
}

/// In line, asking for the page and for the position by turns.
async fn asks(visitor: Visitor, place: Place, done: Arc<Done>) {
    loop {
        let answer = visitor.get("/shop").await;
        assert_eq!(answer.status, 429, "{answer:?}");
        place.must_be(&answer.json());
        one_more(&done.waits);
        place.must_be(&visitor.standing().await);
        one_more(&done.polls);
        sleep(PACE).await;
    }
}

/// In line, with a stream of events.
async fn watches(visitor: Visitor, place: Place, done: Arc<Done>) {
    let mut last = None;
    loop {
        let mut stream = visitor.stream_after(last).await;
        while let Some(event) = stream.next(SOON).await {
            place.must_be(&event.data);
            last = Some(place.position);
            one_more(&done.words);
        }
        sleep(AWAY).await;
        one_more(&done.returns);
    }
}

fn by_grpc(port: u16, visitor: &Visitor) -> (WaitingRoomClient<Channel>, String) {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let ticket = visitor.cookie("anteroom_ticket_shop").expect("a ticket");
    (WaitingRoomClient::new(endpoint.connect_lazy()), ticket)
}

/// In line, asking over gRPC.
async fn calls(port: u16, visitor: Visitor, place: Place, done: Arc<Done>) {
    let (mut client, ticket) = by_grpc(port, &visitor);
    loop {
        let ask = GetPositionRequest { room: "shop".into(), ticket: ticket.clone() };
        let answer = client.get_position(ask).await.unwrap().into_inner();
        place.must_stand(answer.standing.as_ref());
        one_more(&done.calls);
        sleep(PACE).await;
    }
}

/// In line, with a stream over gRPC.
async fn watches_by_call(port: u16, visitor: Visitor, place: Place, done: Arc<Done>) {
    let (mut client, ticket) = by_grpc(port, &visitor);
    loop {
        let ask = WatchPositionRequest { room: "shop".into(), ticket: ticket.clone() };
        let mut stream = client.watch_position(ask).await.unwrap().into_inner();
        loop {
            match stream.message().await {
                Ok(Some(word)) => place.must_stand(word.standing.as_ref()),
                Ok(None) => break,
                // What a replica says that goes away.
                Err(status) if status.code() == Code::Unavailable => break,
                Err(status) => panic!("{status:?}"),
            }
            one_more(&done.words);
        }
        sleep(AWAY).await;
        one_more(&done.returns);
    }
}

/// One newcomer after the other, each behind all others.
async fn arrive(port: u16, inside: u64, waiting: u64, done: Arc<Done>) {
    let mut last = inside + waiting;
    for method in [Method::GET, Method::POST].into_iter().cycle() {
        let (path, status) =
            if method == Method::GET { ("/shop", 429) } else { ("/anteroom/v1/rooms/shop/join", 201) };
        let answer = Visitor::new(port).send(method, path, &[]).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let told = answer.json();
        let number = told["number"].as_u64().expect("a number");
        assert!(number > last, "after {last}: {told}");
        assert!(told["position"].as_u64().is_some_and(|position| position > waiting), "{told}");
        last = number;
        one_more(&done.newcomers);
        sleep(ARRIVALS).await;
    }
}
