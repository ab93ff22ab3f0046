//! Scripts of other origins: preflights, what they may read, and what they may not do.

use crate::api::{Answered, Api};
use crate::probe::Mood;

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example.com";
const METHOD: (&str, &str) = ("access-control-request-method", "POST");

fn cors(answered: &Answered) -> Vec<(&str, &str)> {
    let all = answered.headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    let mut all: Vec<_> = all.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    all.sort_unstable();
    all
}

fn names(answered: &Answered, origin: &str) -> bool {
    let found = cors(answered);
    let named = found.contains(&("access-control-allow-origin", origin));
    named
        && found.contains(&("access-control-allow-credentials", "true"))
        && answered.header("vary") == "origin"
}

#[tokio::test(start_paused = true)]
async fn preflights_are_answered_without_a_store() {
    let api = Api::open(&format!("capacity=0 allow_origins={APP}"));
    api.world.probe.set(Mood::Fails);
    for call in ["join", "position", "stream", "enter", "leave", "ticket", "pass"] {
        let call = format!("OPTIONS {call}");
        let answered = api.shop(&call, &[("origin", APP), METHOD]).await;
        assert!(names(answered.is(204), APP), "{call}: {:?}", answered.headers);
        assert_eq!(answered.header("access-control-allow-methods"), "GET, HEAD, POST, DELETE");
        let allowed = answered.header("access-control-allow-headers");
        for header in
            ["content-type", "x-anteroom-ticket", "x-anteroom-pass", "x-anteroom-nonce", "last-event-id"]
        {
            assert!(allowed.split(", ").any(|name| name == header), "{header} in {allowed}");
        }
        assert_eq!(answered.header("access-control-max-age"), "600");
        let refused = api.shop(&call, &[("origin", EVIL), METHOD]).await;
        assert_eq!((cors(refused.is(204)), refused.header("vary")), (vec![], "origin"));
        api.shop(&call, &[("origin", APP)]).await.is_problem(405);
        api.shop(&call, &[METHOD]).await.is_problem(405);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_and_problems_can_be_read_by_whom_the_room_names() {
    let api = Api::open(&format!("capacity=0 allow_origins={APP}"));
    let joined = api.shop("POST join", &[("origin", APP)]).await;
    assert!(names(joined.is(201), APP));
    assert!(joined.header("access-control-expose-headers").contains("retry-after"));
    let ticket = joined.token("ticket");
    for call in ["GET position", "HEAD position"] {
        assert!(
            names(&api.shop(call, &[("origin", APP), ("x-anteroom-ticket", &ticket)]).await, APP),
            "{call}"
        );
    }
    for (call, status) in [
        ("GET position", 401),
        ("GET stream", 401),
        ("POST enter", 401),
        ("POST leave", 401),
        ("PUT join", 405),
        ("GET nothing", 404),
        ("GET position/", 404),
    ] {
        let answered = api.shop(call, &[("origin", APP)]).await;
        assert!(names(answered.is_problem(status), APP), "{call}: {:?}", answered.headers);
        let answered = api.shop(call, &[("origin", EVIL)]).await;
        assert_eq!(cors(answered.is_problem(status)), [], "{call}");
    }
    for path in ["jwks.json", "openapi.json"] {
        let answered = api.send(&format!("GET /anteroom/v1/{path}"), &[("origin", EVIL)]).await;
        assert_eq!(cors(&answered), [("access-control-allow-origin", "*")], "{path}");
    }
    let nowhere = api.send("GET /anteroom/v1/rooms/nowhere/position", &[("origin", APP)]).await;
    assert_eq!(cors(nowhere.is_problem(404)), []);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_changes_nothing() {
    for (allowed, origin) in [("", EVIL), (APP, EVIL), (APP, "null")] {
        let allowed = if allowed.is_empty() { String::new() } else { format!(" allow_origins={allowed}") };
        let api = Api::open(&format!("capacity=0{allowed}"));
        let ticket = api.shop("POST join", &[]).await.token("ticket");
        let cookie = format!("anteroom_ticket_shop={ticket}");
        for site in ["cross-site", "same-site"] {
            for call in ["POST join", "POST enter", "POST leave", "DELETE ticket", "DELETE pass"] {
                let headers = [("origin", origin), ("sec-fetch-site", site), ("cookie", &cookie)];
                api.shop(call, &headers).await.is_problem(403);
            }
        }
        let told = api.shop("GET position", &[("cookie", &cookie)]).await;
        assert_eq!((&told.is(200).json()["status"], &told.json()["waiting"]), (&"waiting".into(), &1.into()));
        let own =
            [("origin", "https://shop.example.com"), ("sec-fetch-site", "same-origin"), ("cookie", &cookie)];
        api.shop("DELETE ticket", &own).await.is(204);
    }
}

#[tokio::test(start_paused = true)]
async fn a_star_lets_everybody_read_but_nobody_use_cookies() {
    let api = Api::open("capacity=0 allow_origins=*");
    let ticket = api.shop("POST join", &[("origin", EVIL), ("sec-fetch-site", "cross-site")]).await;
    let mut found = cors(ticket.is(201));
    found.retain(|(name, _)| *name != "access-control-expose-headers");
    assert_eq!(found, [("access-control-allow-origin", "*")]);
    let ticket = ticket.token("ticket");
    let cookie = format!("anteroom_ticket_shop={ticket}");
    let neighbour = [("origin", EVIL), ("sec-fetch-site", "same-site")];
    api.shop("POST leave", &[neighbour[0], neighbour[1], ("cookie", &cookie)]).await.is_problem(401);
    api.shop("POST leave", &[neighbour[0], neighbour[1], ("x-anteroom-ticket", &ticket)]).await.is(204);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_in_an_odd_way_gets_a_problem_or_its_answer() {
    let api = Api::open("capacity=0");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let shown = [("x-anteroom-ticket", ticket.as_str())];
    let head = api.shop("HEAD position", &shown).await;
    assert_eq!((head.is(200).body.as_str(), head.header("content-type")), ("", "application/json"));
    assert_eq!(api.shop("HEAD stream", &shown).await.is(200).body, "");
    for call in ["GET position/", "POST join/", "GET /position", "GET nothing", "GET position/x"] {
        api.shop(call, &shown).await.is_problem(404);
    }
    for path in [
        "/",
        "/anteroom",
        "/anteroom/v1",
        "/anteroom/v1/rooms",
        "/anteroom/v1/rooms/shop",
        "/anteroom/v1/jwks.json/",
    ] {
        api.send(&format!("GET {path}"), &[]).await.is_problem(404);
    }
    for (call, allow) in [("POST jwks.json", "GET,HEAD"), ("DELETE openapi.json", "GET,HEAD")] {
        let (method, path) = call.split_once(' ').unwrap();
        let refused = api.send(&format!("{method} /anteroom/v1/{path}"), &[]).await;
        assert_eq!(refused.is_problem(405).header("allow"), allow, "{call}");
    }
}
