//! Rooms that want a nonce to come in: a request sent again gives nothing, and nobody loses a place over it.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::guard::{Guard, Options};
use anteroom::position::http::router;
use anteroom::room::decision::Verdict;
use anteroom::room::gcra::{Decision, Quota};
use anteroom::room::policy::{Millis, Source};
use anteroom::room::standing::Status;
use anteroom::room::state::Subject;
use anteroom::rooms::visit::Shown;
use anteroom::store::StoreError;
use anteroom::store::ledger::{Claimed, Holder, Key, Ledger, Muster, Offer, Presence};
use async_trait::async_trait;

use crate::api::{Answered, Api};
use crate::policies::policy;
use crate::world::{World, pass_of, ticket};

const NONCE: &str = "8f1c2a8e-3c5e-4f64-9b7a-1d2e3f405162";
const OTHER: &str = "0123456789abcdef";

/// A room for one, and its second visitor's ticket, who is called now.
async fn called(words: &str) -> (Api, String) {
    let api = Api::open(words);
    let ticket = call_next(&api).await;
    (api, ticket)
}

/// Lets somebody in and out again while another one waits; the other one's ticket.
async fn call_next(api: &Api) -> String {
    let first = api.shop("POST join", &[]).await.is(201).token("pass");
    let ticket = api.shop("POST join", &[]).await.is(201).token("ticket");
    api.shop("DELETE pass", &[("x-anteroom-pass", &first)]).await.is(204);
    ticket
}

async fn enter(api: &Api, ticket: &str, nonces: &[&str]) -> Answered {
    let nonces = nonces.iter().map(|nonce| ("x-anteroom-nonce", *nonce));
    let headers: Vec<_> = [("x-anteroom-ticket", ticket)].into_iter().chain(nonces).collect();
    api.shop("POST enter", &headers).await
}

#[tokio::test(start_paused = true)]
async fn a_check_in_counts_once_and_a_lost_answer_can_be_asked_for_again() {
    let api = Api::open("capacity=1 checkin=nonce");
    let first = api.shop("POST join", &[]).await;
    let pass = first.is(201).token("pass");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    enter(&api, &ticket, &[NONCE]).await.is_problem(403);
    api.shop("DELETE pass", &[("x-anteroom-pass", &pass)]).await.is(204);

    for wrong in [&[][..], &["short"], &["0123456789abcde!"], &[&"a".repeat(65)], &[NONCE, OTHER]] {
        let refused = enter(&api, &ticket, wrong).await;
        let detail = refused.is_problem(400).json()["detail"].to_string();
        assert!(detail.contains("x-anteroom-nonce"), "{wrong:?}: {detail}");
        assert!(refused.cookies().is_empty());
    }
    let entered = enter(&api, &ticket, &[NONCE]).await;
    assert_eq!(entered.is(200).json()["number"], 2, "being early has not used it up");
    let replayed = enter(&api, &ticket, &[NONCE]).await;
    replayed.is_problem(409);
    assert!(!replayed.body.contains("pass\"") && replayed.cookies().is_empty(), "{}", replayed.body);
    let again = enter(&api, &ticket, &[OTHER]).await;
    assert_eq!(again.is(200).json()["number"], 2, "the same session");
    let pass = again.token("pass");
    assert_eq!(
        api.shop("GET position", &[("x-anteroom-pass", &pass)]).await.is(200).json()["status"],
        "admitted"
    );
    let used = api.world.metric("anteroom_once_claims_total{scope=\"nonce\",outcome=\"first\"}");
    assert!((used - 2.0).abs() < f64::EPSILON, "{used}");
}

#[tokio::test(start_paused = true)]
async fn no_other_call_gives_a_pass_for_a_ticket() {
    for inside in [false, true] {
        let (api, token) = called("capacity=1 checkin=nonce").await;
        if inside {
            enter(&api, &token, &[NONCE]).await.is(200);
        }
        let shown = [("x-anteroom-ticket", token.as_str()), ("x-anteroom-nonce", OTHER)];
        for call in ["GET position", "POST join"] {
            let told = api.shop(call, &shown).await;
            assert_eq!(told.is(200).json()["status"], "called", "{call}, inside: {inside}");
            assert!(told.json()["pass"].is_null() && told.cookies().is_empty(), "{call}: {}", told.body);
        }
        let stream = api.shop("GET stream", &shown).await;
        assert!(stream.body.contains("\"status\":\"called\""), "inside: {inside}: {}", stream.body);
        for _ in 0..2 {
            let checked = api.world.check("capacity=1 checkin=nonce", &ticket(&token)).await;
            let Verdict::Wait(wait) = checked else { panic!("inside: {inside}: {checked:?}") };
            assert_eq!((wait.standing.status, wait.standing.number), (Status::Called, 2));
        }
        let sessions = api.world.rooms.room_named(&crate::policies::name("shop")).await.unwrap();
        api.world.rooms.refresh(&sessions).await.unwrap();
        assert_eq!(sessions.snapshot().unwrap().sessions, u64::from(inside), "nobody has come in by it");
        assert_eq!(enter(&api, &token, &[OTHER]).await.is(200).json()["number"], 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_comes_again_is_called_and_gets_a_ticket() {
    let words = "capacity=1 identity=subject checkin=nonce";
    let world = World::new();
    let user = Shown { subject: Some(Subject([1; 16])), knows_users: true, ..Shown::default() };
    let checked = world.check(words, &user).await;
    assert!(
        matches!(&checked, Verdict::Admit(admission) if admission.fresh),
        "let in on arrival: {checked:?}"
    );
    world.rooms.refresh(&world.room(words)).await.unwrap();
    let Verdict::Wait(wait) = world.check(words, &user).await else {
        panic!("a pass for a request sent again")
    };
    let (token, _) = wait.ticket.expect("a ticket to come in with");
    assert_eq!(wait.standing.status, Status::Called);
    let api = Api::over(world);
    assert_eq!(enter(&api, &token, &[NONCE]).await.is(200).json()["number"], 1);
}

#[tokio::test(start_paused = true)]
async fn rooms_without_it_ask_for_no_nonce_and_use_none_up() {
    let (api, ticket) = called("capacity=1").await;
    for nonces in [&[][..], &[NONCE], &[NONCE], &["?"]] {
        enter(&api, &ticket, nonces).await.is(200);
    }
    let room = api.world.rooms.room_with(&policy("capacity=1"), Source::ContextExtensions).unwrap();
    let shown = crate::world::ticket(&ticket);
    let pass = pass_of(&api.world.rooms.enter(&room, &shown).await.unwrap());
    assert_eq!(api.world.rooms.position(&room, &pass).await.unwrap().standing.status, Status::Admitted);
}

/// A ledger that cannot be reached.
struct Out;

fn out<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("secret-host is out".into()))
}

#[async_trait]
impl Ledger for Out {
    async fn spend(&self, _: Key, _: Quota) -> Result<Decision, StoreError> {
        out()
    }

    async fn claim(&self, _: Key, _: Holder, _: Millis) -> Result<Claimed, StoreError> {
        out()
    }

    async fn look(&self, _: Key) -> Result<Claimed, StoreError> {
        out()
    }

    async fn release(&self, _: Key, _: Holder) -> Result<(), StoreError> {
        out()
    }

    async fn sync(&self, _: &Presence, _: u64, _: Offer<'_>) -> Result<Muster, StoreError> {
        out()
    }
}

/// A guard that cannot reach its ledger.
pub(crate) fn out_of_reach(world: &World) -> Arc<Guard> {
    let options = Options { budget: Duration::from_millis(20), checks: true };
    Arc::new(Guard::new(options, Arc::new(Out), Clock::system(), &world.metrics))
}

#[tokio::test(start_paused = true)]
async fn while_nobody_knows_what_was_used_nobody_is_given_a_pass() {
    let (mut api, ticket) = called("capacity=1 checkin=nonce").await;
    let out = out_of_reach(&api.world);
    let counting = std::mem::replace(&mut api.world.guard, out);
    let desk = api.world.desk();
    api.world.guard = counting;
    let without = Api { router: router(desk), world: api.world };
    let refused = enter(&without, &ticket, &[NONCE]).await;
    assert_eq!(refused.is_problem(503).header("retry-after"), "5");
    assert!(refused.cookies().is_empty() && !refused.body.contains("secret-host"), "{}", refused.body);
    let back = Api::over(without.world);
    assert_eq!(enter(&back, &ticket, &[NONCE]).await.is(200).json()["number"], 2, "the place was kept");
}
