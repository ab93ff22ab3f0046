//! The behaviours of a store, whichever it is: to be run on every implementation of the trait.

use std::sync::Arc;
use std::time::Duration;

use anteroom::room::bits::Bits;
use anteroom::room::snapshot::{Known, Snapshot};
use anteroom::room::standing::Place;
use anteroom::room::state::{Beats, Call, Control, Hints, Limits, Newcomer, Outcome, Subject as User};
use anteroom::store::{Store, StoreError};
use async_trait::async_trait;

use crate::policies::{name, under};

/// How many rooms the store under test may keep.
pub(crate) const MAX_ROOMS: usize = 4;

/// A store under test, empty, with a hand on its clock.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// The store; made with [`MAX_ROOMS`].
    fn store(&self) -> Arc<dyn Store>;
    /// Lets so much of the store's time pass.
    async fn pass(&self, time: Duration);
}

/// Runs every behaviour on the stores that `$make` makes; the rest are arguments of `tokio::test`.
macro_rules! behaves_like_a_store {
    ($make:path $(, $argument:meta)*) => {
        crate::store::behaves_like_a_store!(@each $make, [$($argument),*],
            numbers_are_dense_and_in_order
            whoever_finds_room_is_inside_at_once
            a_room_nobody_stated_is_unknown
            one_room_too_many_is_refused_and_the_others_go_on
            entering_twice_is_one_session
            calls_run_out_and_the_next_is_called
            observing_twice_does_nothing_twice
            touched_sessions_live_and_others_end
            leaving_twice_frees_once_and_voids_the_pass
            a_ticket_given_up_ends_no_session
            whoever_is_away_leaves_unless_heard_of
            the_silent_lose_their_place_and_the_heard_keep_it
            limits_change_between_calls_and_nobody_loses_a_place
            operators_pause_limit_and_reset
            a_user_has_one_place
            hints_from_ahead_are_never_fallen_behind
            what_a_replica_knew_comes_back
            a_snapshot_says_what_the_store_does
        );
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn a_crowd_gets_unique_numbers_and_capacity_holds() {
            crate::crowd::unique_numbers_and_capacity(crate::store::Subject::store(&$make().await)).await;
        }
    };
    (@each $make:path, $arguments:tt, $($behaviour:ident)*) => {
        $(crate::store::behaves_like_a_store!(@one $make, $arguments, $behaviour);)*
    };
    (@one $make:path, [$($argument:meta),*], $behaviour:ident) => {
        #[tokio::test($($argument),*)]
        async fn $behaviour() {
            crate::store::$behaviour(&$make().await).await;
        }
    };
}
pub(crate) use behaves_like_a_store;

/// A visitor of the room `shop`.
struct Shop<'a> {
    subject: &'a dyn Subject,
    call: Call,
}

impl<'a> Shop<'a> {
    fn open(subject: &'a dyn Subject, words: &str) -> Self {
        Self { subject, call: under(words) }
    }

    async fn arrive(&self, count: usize) -> Vec<Outcome> {
        let newcomers = vec![Newcomer::default(); count];
        self.subject.store().arrive(&name("shop"), &self.call, &newcomers).await.unwrap()
    }

    async fn observe(&self) -> Snapshot {
        self.subject.store().observe(&name("shop"), &self.call, &Beats::new(), None).await.unwrap()
    }

    async fn enter(&self, place: Place) -> Outcome {
        self.subject.store().enter(&name("shop"), &self.call, &[place]).await.unwrap()[0]
    }

    async fn leave(&self, place: Place, pass_until: Option<u64>) -> bool {
        self.subject.store().leave(&name("shop"), &self.call, &[(place, pass_until)]).await.unwrap()[0]
    }

    async fn control(&self, control: Control) {
        self.subject.store().control(&name("shop"), &self.call, control).await.unwrap();
    }

    async fn pass(&self, ms: u64) {
        self.subject.pass(Duration::from_millis(ms)).await;
    }
}

pub(crate) fn place(outcome: &Outcome) -> Place {
    match outcome {
        Outcome::Admitted(place, _) | Outcome::Waiting(place, _) | Outcome::Gone(place) => *place,
    }
}

fn until(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Admitted(_, until) => until,
        other => panic!("admitted expected, {other:?} found"),
    }
}

pub(crate) async fn numbers_are_dense_and_in_order(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=0");
    let mut all = shop.arrive(3).await;
    all.extend(shop.arrive(1).await);
    all.extend(shop.arrive(0).await);
    all.extend(shop.arrive(200).await);
    for (index, outcome) in (1..).zip(&all) {
        let place = Place { number: index, ..place(&all[0]) };
        assert_eq!(*outcome, Outcome::Waiting(place, index));
    }
    assert_eq!((all.len(), shop.observe().await.waiting), (204, 204));
}

pub(crate) async fn whoever_finds_room_is_inside_at_once(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=2 session_ttl=30s");
    let at = shop.observe().await.at;
    let outcomes = shop.arrive(4).await;
    assert_eq!((until(outcomes[0]), until(outcomes[1])), (at + 30_000, at + 30_000));
    let positions: Vec<_> =
        outcomes[2..].iter().map(|o| matches!(o, Outcome::Waiting(_, p) if *p > 0)).collect();
    assert_eq!(positions, [true, true]);
    let snapshot = shop.observe().await;
    assert_eq!((snapshot.sessions, snapshot.waiting, snapshot.called), (2, 2, 0));
}

pub(crate) async fn a_room_nobody_stated_is_unknown(subject: &dyn Subject) {
    let (store, room, call) = (subject.store(), name("nowhere"), Call::default());
    let place = Place { generation: 1, number: 1 };
    let refusals = [
        store.arrive(&room, &call, &[Newcomer::default()]).await.err(),
        store.observe(&room, &call, &Beats::new(), None).await.err(),
        store.enter(&room, &call, &[place]).await.err(),
        store.touch(&room, &call, &[(place, 1)]).await.err(),
        store.leave(&room, &call, &[(place, None)]).await.err(),
        store.away(&room, &call, &[(place, 1)]).await.err(),
        store.control(&room, &call, Control::Pause).await.err(),
    ];
    for refusal in refusals {
        assert!(matches!(&refusal, Some(StoreError::NoRoom(name)) if *name == room), "{refusal:?}");
    }
}

pub(crate) async fn one_room_too_many_is_refused_and_the_others_go_on(subject: &dyn Subject) {
    let store = subject.store();
    for index in 0..=MAX_ROOMS {
        let room = format!("room-{index}");
        let call = under(&format!("room={room} capacity=1"));
        let arrived = store.arrive(&name(&room), &call, &[Newcomer::default()]).await;
        match arrived {
            Ok(_) => assert!(index < MAX_ROOMS, "room {index} was opened"),
            Err(StoreError::TooManyRooms { room: refused, max }) => {
                assert_eq!((index, refused.as_str(), max), (MAX_ROOMS, room.as_str(), MAX_ROOMS));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let again = store.arrive(&name("room-0"), &Call::default(), &[Newcomer::default()]).await.unwrap();
    assert!(matches!(again[..], [Outcome::Waiting(_, 1)]), "{again:?}");
}

pub(crate) async fn entering_twice_is_one_session(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1");
    let outcomes = shop.arrive(2).await;
    let (first, second) = (place(&outcomes[0]), place(&outcomes[1]));
    assert_eq!(shop.enter(second).await, Outcome::Waiting(second, 1));
    assert!(shop.leave(first, Some(until(outcomes[0]))).await);
    assert_eq!(shop.observe().await.know(second), Known::Called);
    let entered = shop.enter(second).await;
    shop.pass(1_000).await;
    assert_eq!(shop.enter(second).await, entered, "the same session, not a longer one");
    let snapshot = shop.observe().await;
    assert_eq!((snapshot.sessions, snapshot.called, until(entered)), (1, 0, snapshot.at - 1_000 + 240_000));
}

pub(crate) async fn calls_run_out_and_the_next_is_called(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1 claim_ttl=10s session_ttl=5s");
    let places: Vec<_> = shop.arrive(3).await.iter().map(place).collect();
    shop.pass(5_000).await;
    assert_eq!(shop.observe().await.know(places[1]), Known::Called);
    shop.pass(9_999).await;
    assert_eq!(shop.observe().await.know(places[1]), Known::Called);
    shop.pass(1).await;
    let snapshot = shop.observe().await;
    assert_eq!((snapshot.know(places[1]), snapshot.know(places[2])), (Known::Gone, Known::Called));
    assert_eq!(shop.enter(places[1]).await, Outcome::Gone(places[1]));
}

pub(crate) async fn observing_twice_does_nothing_twice(subject: &dyn Subject) {
    let shop = Shop::open(subject, "rate=2/s burst=2");
    shop.arrive(2).await;
    shop.arrive(20).await;
    for _ in 0..10 {
        assert_eq!(shop.observe().await.waiting, 20, "the burst is used up");
    }
    shop.pass(500).await;
    for _ in 0..10 {
        let snapshot = shop.observe().await;
        assert_eq!((snapshot.waiting, snapshot.lines[0].head), (19, 4));
    }
}

pub(crate) async fn touched_sessions_live_and_others_end(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=2 session_ttl=10s");
    let outcomes = shop.arrive(2).await;
    let (kept, left) = (place(&outcomes[0]), place(&outcomes[1]));
    let store = subject.store();
    shop.pass(9_000).await;
    let touched = store.touch(&name("shop"), &shop.call, &[(kept, until(outcomes[0]))]).await.unwrap();
    assert_eq!(touched, [Some(until(outcomes[0]) + 9_000)]);
    shop.pass(1_000).await;
    assert_eq!(shop.observe().await.sessions, 1);
    let touched =
        store.touch(&name("shop"), &shop.call, &[(left, until(outcomes[1])), (kept, 0)]).await.unwrap();
    assert_eq!(touched, [None, Some(until(outcomes[0]) + 10_000)], "what is over stays over");
}

pub(crate) async fn leaving_twice_frees_once_and_voids_the_pass(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1 session_ttl=20s");
    let outcomes = shop.arrive(2).await;
    let (inside, waiting) = (place(&outcomes[0]), place(&outcomes[1]));
    assert!(shop.leave(waiting, None).await);
    assert!(!shop.leave(waiting, None).await);
    assert_eq!(shop.enter(waiting).await, Outcome::Gone(waiting));
    let ends = until(outcomes[0]);
    assert!(shop.leave(inside, Some(ends)).await);
    assert!(!shop.leave(inside, Some(ends)).await);
    assert!(shop.observe().await.is_void(inside));
    assert_eq!(shop.enter(inside).await, Outcome::Gone(inside));
    let touched = subject.store().touch(&name("shop"), &shop.call, &[(inside, ends)]).await.unwrap();
    assert_eq!(touched, [None], "a pass given back brings no session back");
    shop.pass(20_000).await;
    let snapshot = shop.observe().await;
    assert!(!snapshot.is_void(inside) && snapshot.quiet, "once it has ended by itself it is forgotten");
}

pub(crate) async fn a_ticket_given_up_ends_no_session(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1 session_ttl=20s");
    let outcomes = shop.arrive(2).await;
    let (inside, waiting) = (place(&outcomes[0]), place(&outcomes[1]));
    assert!(!shop.leave(inside, None).await, "a ticket frees no slot");
    assert_eq!(shop.enter(inside).await, outcomes[0], "still inside");
    let snapshot = shop.observe().await;
    assert!(!snapshot.is_void(inside) && snapshot.know(waiting) == Known::Waiting(1));
    assert!(shop.leave(inside, Some(until(outcomes[0]))).await, "the pass does");
    assert_eq!(shop.observe().await.know(waiting), Known::Called);
}

pub(crate) async fn whoever_is_away_leaves_unless_heard_of(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1 session_ttl=1h");
    let places: Vec<_> = shop.arrive(6).await.iter().map(place).collect();
    let away: Vec<_> = places.iter().map(|place| (*place, 10_000)).collect();
    let (store, room) = (subject.store(), name("shop"));
    let noted = store.away(&room, &shop.call, &away).await.unwrap();
    assert_eq!(noted, [false, true, true, true, true, true], "whoever is inside has no place to give up");
    let is_away = |snapshot: &Snapshot| -> Vec<u64> {
        (1..8).filter(|number| snapshot.lines[0].away.contains(*number)).collect()
    };
    assert_eq!(is_away(&shop.observe().await), [2, 3, 4, 5, 6]);
    assert_eq!(shop.enter(places[1]).await, Outcome::Waiting(places[1], 1), "shows the ticket");
    assert!(shop.leave(places[2], None).await);
    let mut bits = Bits::default();
    bits.insert(places[3].number);
    let beats = vec![(places[3].generation, bits)];
    let snapshot = store.observe(&room, &shop.call, &beats, None).await.unwrap();
    assert_eq!(is_away(&snapshot), [5, 6]);
    for (ms, waiting) in [(4_999, 4), (5_000, 4), (1, 2)] {
        shop.pass(ms).await;
        assert_eq!(shop.observe().await.waiting, waiting);
    }
    assert!(is_away(&shop.observe().await).is_empty());
    assert_eq!(shop.enter(places[5]).await, Outcome::Gone(places[5]));
}

pub(crate) async fn the_silent_lose_their_place_and_the_heard_keep_it(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=0 patience=10s");
    let places: Vec<_> = shop.arrive(2).await.iter().map(place).collect();
    let mut bits = Bits::default();
    bits.insert(places[1].number);
    let beats = vec![(places[1].generation, bits)];
    for second in 0..20 {
        let snapshot = subject.store().observe(&name("shop"), &shop.call, &beats, None).await.unwrap();
        assert!(second >= 10 || snapshot.waiting == 2, "gone after {second} s of silence");
        shop.pass(1_000).await;
    }
    let snapshot = shop.observe().await;
    assert_eq!((snapshot.know(places[0]), snapshot.know(places[1])), (Known::Gone, Known::Waiting(1)));
}

pub(crate) async fn limits_change_between_calls_and_nobody_loses_a_place(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1");
    let places: Vec<_> = shop.arrive(5).await.iter().map(place).collect();
    let wider = Shop::open(subject, "capacity=3");
    let snapshot = wider.observe().await;
    assert_eq!((snapshot.sessions, snapshot.called, snapshot.waiting), (1, 2, 2));
    let unsaid = Shop { subject, call: Call::default() };
    assert_eq!(unsaid.observe().await.policy.capacity, Some(3), "a call that states none keeps them");
    let narrower = Shop::open(subject, "capacity=1");
    let snapshot = narrower.observe().await;
    assert_eq!((snapshot.called, snapshot.waiting), (2, 2), "who was called may enter");
    assert_eq!(snapshot.know(places[4]), Known::Waiting(2));
}

pub(crate) async fn operators_pause_limit_and_reset(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=1 session_ttl=10s");
    shop.control(Control::Pause).await;
    let places: Vec<_> = shop.arrive(2).await.iter().map(place).collect();
    let snapshot = shop.observe().await;
    assert!(snapshot.paused && snapshot.waiting == 2 && snapshot.called == 0);
    shop.control(Control::Resume).await;
    assert_eq!(shop.enter(places[0]).await, Outcome::Admitted(places[0], snapshot.at + 10_000));
    shop.control(Control::Limits(Limits { capacity: Some(2), ..Limits::default() })).await;
    assert_eq!(shop.observe().await.know(places[1]), Known::Called, "the operator's capacity counts");
    shop.control(Control::Reset).await;
    let snapshot = shop.observe().await;
    assert_eq!((snapshot.waiting, snapshot.called, snapshot.sessions), (0, 0, 0));
    assert!(snapshot.is_void(places[0]) && snapshot.know(places[1]) == Known::Gone);
    let anew = place(&shop.arrive(1).await[0]);
    assert!(anew.generation > places[0].generation && anew.number == 1, "{anew:?}");
}

pub(crate) async fn a_user_has_one_place(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=0 identity=subject");
    let user = |byte, anew| Newcomer { subject: Some(User([byte; 16])), anew };
    let arrive = async |newcomer| {
        place(&subject.store().arrive(&name("shop"), &shop.call, &[newcomer]).await.unwrap()[0]).number
    };
    assert_eq!([arrive(user(1, false)).await, arrive(user(2, false)).await], [1, 2]);
    assert_eq!(arrive(user(1, false)).await, 1, "the same user, the same place");
    assert_eq!(arrive(user(1, true)).await, 3, "at the back, as asked");
    assert_eq!(arrive(user(1, false)).await, 3);
    assert_eq!(shop.observe().await.waiting, 2);
}

pub(crate) async fn hints_from_ahead_are_never_fallen_behind(subject: &dyn Subject) {
    let mut shop = Shop::open(subject, "capacity=0");
    let first = place(&shop.arrive(1).await[0]);
    let hints = Hints { generation: first.generation, next: 1_000, head: 1, floor: 0 };
    shop.call.hints = hints;
    let next = place(&shop.arrive(1).await[0]);
    assert!(next.generation == first.generation && next.number >= 1_000, "{next:?}");
    let lost = Place { number: 500, ..first };
    assert_eq!(shop.enter(lost).await, Outcome::Waiting(lost, 2), "its ticket proves a place that was lost");
    shop.call.hints = Hints::default();
    assert!(place(&shop.arrive(1).await[0]).number > next.number);
    shop.call.hints = Hints { generation: first.generation + 10, next: 7, ..hints };
    let newer = place(&shop.arrive(1).await[0]);
    assert!(newer.generation == first.generation + 10 && newer.number >= 7, "{newer:?}");
}

pub(crate) async fn what_a_replica_knew_comes_back(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=0");
    shop.arrive(9).await;
    let known = shop.observe().await;
    let lost = Shop::open(subject, "room=copy capacity=0");
    let hints = Hints { generation: known.generation(), next: 10, head: 1, floor: 0 };
    let call = Call { hints, ..lost.call.clone() };
    let store = subject.store();
    let healed = store.observe(&name("copy"), &call, &Beats::new(), Some(&known)).await.unwrap();
    assert_eq!(healed.waiting, 9);
    for number in 1..=9 {
        let place = Place { generation: known.generation(), number };
        assert_eq!(healed.know(place), Known::Waiting(number));
    }
}

pub(crate) async fn a_snapshot_says_what_the_store_does(subject: &dyn Subject) {
    let shop = Shop::open(subject, "capacity=2 rate=1/s burst=1 session_ttl=3s claim_ttl=2s");
    let mut places: Vec<Place> = Vec::new();
    for step in 0..40 {
        places.extend(shop.arrive(step % 3).await.iter().map(place));
        let snapshot = shop.observe().await;
        assert!(snapshot.sessions + snapshot.called <= 2, "{} + {}", snapshot.sessions, snapshot.called);
        for place in places.iter().filter(|place| place.number % 2 == 0) {
            // Looking by ticket does not disturb those who wait.
            if let Known::Waiting(position) = snapshot.know(*place) {
                assert_eq!(shop.enter(*place).await, Outcome::Waiting(*place, position));
            }
        }
        if let Some(called) = places.iter().find(|place| snapshot.know(**place) == Known::Called) {
            assert!(matches!(shop.enter(*called).await, Outcome::Admitted(..)));
        }
        shop.pass(700).await;
    }
}
