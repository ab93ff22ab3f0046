//! Clocks that are wrong or set back: that of Redis under rooms that go on, and that of a replica against it.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::drain::Tasks;
use anteroom::room::decision::{Admission, Verdict};
use anteroom::room::policy::Source;
use anteroom::room::state::{Beats, Newcomer, Outcome, Subject};
use anteroom::rooms::visit::Shown;
use anteroom::rooms::{Room, Rooms};
use anteroom::telemetry::metrics::Metrics;
use tracing::subscriber::DefaultGuard;

use crate::audit::Lines;
use crate::over_redis::{self, OverRedis, START_MS};
use crate::policies::{name, policy, under};
use crate::redis_server::{SOON, until_true};
use crate::store::Subject as _;
use crate::world::{pass, ring};

/// A moment more than time stands still for, a session, and ten minutes.
const STEPS: [u64; 3] = [1_001, 20_000, 600_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_goes_on_at_its_rate_when_redis_is_set_back() {
    for back in STEPS {
        let (redis, call) = (over_redis::fresh().await, under("rate=2/s burst=2 patience=60s"));
        let (shop, store) = (name("shop"), redis.store());
        store.arrive(&shop, &call, &[Newcomer::default(); 100]).await.unwrap();
        let look = async || store.observe(&shop, &call, &Beats::new(), None).await.unwrap();
        redis.pass(Duration::from_secs(3)).await;
        let before = look().await;
        redis.set(before.at - back);
        let after = look().await;
        assert_eq!((after.waiting, before.at - after.at), (before.waiting, back));
        for second in 1..=5 {
            redis.pass(Duration::from_secs(1)).await;
            assert_eq!(look().await.waiting, before.waiting - 2 * second, "{back} ms back");
        }
    }
}

/// More of them than are moved by one command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sessions_end_in_time_when_redis_is_set_back() {
    for back in STEPS {
        let redis = over_redis::fresh().await;
        let call = under("capacity=2500 session_ttl=30s claim_ttl=10s patience=60s");
        let (shop, store) = (name("shop"), redis.store());
        for part in vec![Newcomer::default(); 2_500].chunks(500) {
            let outcomes = store.arrive(&shop, &call, part).await.unwrap();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Admitted(..))));
        }
        store.arrive(&shop, &call, &[Newcomer::default(); 3]).await.unwrap();
        let look = async |time| {
            redis.set(time);
            let look = store.observe(&shop, &call, &Beats::new(), None).await.unwrap();
            (look.sessions, look.called, look.waiting)
        };
        let full = (2_500, 0, 3);
        assert_eq!(look(START_MS + 10_000).await, full);
        let now = START_MS + 10_000 - back;
        assert_eq!(look(now).await, full);
        assert_eq!(look(now + 19_999).await, full);
        assert_eq!(look(now + 20_000).await, (0, 3, 0), "{back} ms back");
        // And who was called then has as long as ever.
        let now = now + 20_000 - back;
        assert_eq!(look(now).await, (0, 3, 0));
        assert_eq!(look(now + 9_999).await, (0, 3, 0));
        assert_eq!(look(now + 10_000).await, (0, 0, 0), "{back} ms back");
    }
}

/// A replica over Redis whose own clock begins at some time, with what it writes down. Each of them keeps its lines: what
/// a thread says first that keeps none, others are not told either.
struct Replica {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    metrics: Arc<Metrics>,
    words: &'static str,
    lines: Lines,
    _kept: DefaultGuard,
}

impl Replica {
    fn at(ms: u64, redis: &OverRedis, words: &'static str) -> Self {
        let metrics = Arc::new(Metrics::new(10));
        let clock = Clock::starting_at(ms);
        let rooms =
            Arc::new(Rooms::new(over_redis::options(), redis.store(), ring(), clock, metrics.clone()));
        let room = rooms.room_with(&policy(words), Source::ContextExtensions).unwrap();
        let (lines, kept) = Lines::keep("info");
        Self { rooms, room, metrics, words, lines, _kept: kept }
    }

    async fn check(&self, shown: &Shown) -> Verdict {
        self.rooms.check(&policy(self.words), Source::ContextExtensions, false, shown).await
    }

    async fn admitted(&self, shown: &Shown) -> Admission {
        match self.check(shown).await {
            Verdict::Admit(admission) => admission,
            other => panic!("let in, and not {other:?}"),
        }
    }

    /// What the metric says.
    fn ahead(&self) -> f64 {
        let text = self.metrics.encode().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("anteroom_clock_ahead_seconds "));
        value.unwrap().parse().unwrap()
    }
}

/// The slot ends earlier than the pass tells: whoever is active must not lose it over that, nor keep the longer pass.
#[tokio::test]
async fn a_pass_from_before_redis_was_set_back_is_shown_to_it_once() {
    let redis = over_redis::fresh().await;
    // Redis was ahead all the time, and is corrected.
    redis.pass(Duration::from_secs(200)).await;
    let replica = Replica::at(START_MS, &redis, "capacity=1 session_ttl=240s");
    let old = replica.admitted(&Shown::default()).await;
    assert_eq!(old.expires_at, START_MS + 440_000);
    replica.rooms.refresh(&replica.room).await.unwrap();
    assert!(!replica.admitted(&pass(&old.pass)).await.fresh);
    redis.set(START_MS);
    replica.rooms.refresh(&replica.room).await.unwrap();
    // In a later second than the step: within one, nobody can tell which was first.
    let second = replica.rooms.now() / 1_000;
    until_true("the second is over", SOON, || replica.rooms.now() / 1_000 > second).await;
    let new = replica.admitted(&pass(&old.pass)).await;
    assert!(new.fresh && new.place == old.place, "{new:?}");
    assert_eq!(new.expires_at, START_MS + 240_000);
    assert!(!replica.admitted(&pass(&new.pass)).await.fresh);
    let sessions = replica.rooms.refresh(&replica.room).await.unwrap().sessions;
    assert_eq!(sessions, 1);
}

/// The same for users who poll: the replica remembers until when they are inside.
#[tokio::test]
async fn a_user_who_polls_stays_inside_when_redis_was_set_back() {
    let redis = over_redis::fresh().await;
    redis.pass(Duration::from_secs(200)).await;
    let replica = Replica::at(START_MS, &redis, "capacity=1 session_ttl=240s");
    let poll = async || replica.rooms.poll(&replica.room, Subject::of(&["ann"]), None).await.unwrap();
    let refresh = async || replica.rooms.refresh(&replica.room).await.unwrap();
    refresh().await;
    assert!(poll().await.may_enter);
    for (time, sessions) in [(0, 1), (150, 1), (389, 1), (390, 0)] {
        redis.set(START_MS + time * 1_000);
        assert_eq!(refresh().await.sessions, sessions, "at {time} s");
        if time == 150 {
            assert!(poll().await.may_enter);
        }
    }
}

#[tokio::test]
async fn a_replica_whose_clock_is_not_that_of_redis_says_so_once() {
    let redis = over_redis::fresh().await;
    let replica = Replica::at(START_MS + 90_000, &redis, "capacity=0");
    assert!(matches!(replica.check(&Shown::default()).await, Verdict::Wait(_)));
    let mut tasks = Tasks::new();
    let (rooms, closing) = (replica.rooms.clone(), tasks.shutdown().closing());
    tasks.spawn("feed", async move {
        rooms.feed(closing).await;
        Ok::<_, std::io::Error>(())
    });
    let told = |words: &str| replica.lines.times_told(words);
    until_true("it is ahead", SOON, || replica.ahead() >= 90.0 && told("is not the store's") == 1).await;
    // Somebody mends it.
    until_true("they are together", SOON, || {
        redis.set(replica.rooms.now());
        replica.ahead().abs() <= 1.0 && told("is the store's again") == 1
    })
    .await;
    redis.set(replica.rooms.now() + 3_600_000);
    let is_behind = || replica.ahead() < -3_000.0 && told("is not the store's") == 2;
    until_true("it is behind", SOON, is_behind).await;
    assert_eq!(told("was set back"), 0);
    redis.set(replica.rooms.now());
    until_true("the step is told", SOON, || told("was set back") == 1).await;
}
