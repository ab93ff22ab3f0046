//! Leaving and which token counts: `POST …/leave` by cookie, header and body, and headers before cookies everywhere.

use anteroom::room::standing::Status;
use serde_json::json;

use crate::api::Api;
use crate::probe::Mood;

async fn status(api: &Api, kind: &str, token: &str) -> String {
    let header = format!("x-anteroom-{kind}");
    let told = api.shop("GET position", &[(&header, token)]).await;
    if told.status == 401 {
        "void".to_owned()
    } else {
        told.is(200).json()["status"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_frees_place_and_slot_however_the_tokens_come() {
    for way in ["header", "cookie", "json", "beacon"] {
        let api = Api::open("capacity=1");
        let pass = api.shop("POST join", &[]).await.token("pass");
        let ticket = api.shop("POST join", &[]).await.token("ticket");
        let next = api.shop("POST join", &[]).await.token("ticket");
        let left = match way {
            "header" => {
                let headers = [("x-anteroom-pass", pass.as_str()), ("x-anteroom-ticket", &ticket)];
                api.shop("POST leave", &headers).await
            }
            "cookie" => {
                let cookie = format!("anteroom_pass_shop={pass}; anteroom_ticket_shop={ticket}");
                api.shop("POST leave", &[("cookie", &cookie)]).await
            }
            way => {
                let kind = if way == "json" { "application/json" } else { "text/plain;charset=UTF-8" };
                api.post("leave", kind, json!({"ticket": ticket, "pass": pass}).to_string()).await
            }
        };
        assert_eq!((left.is(204).body.as_str(), left.cookies().len()), ("", 2), "{way}");
        for (cookie, name) in left.cookies().iter().zip(["anteroom_ticket_shop", "anteroom_pass_shop"]) {
            assert!(cookie.starts_with(&format!("{name}=; Path=/; Max-Age=0;")), "{cookie}");
        }
        assert_eq!(status(&api, "ticket", &ticket).await, Status::Gone.as_str(), "{way}");
        assert_eq!(status(&api, "ticket", &next).await, Status::Called.as_str(), "{way}: the slot is free");
        assert_eq!(status(&api, "pass", &pass).await, "void", "{way}: a pass given back opens no door");
        let again = api.shop("POST leave", &[("x-anteroom-ticket", &ticket)]).await;
        again.is(204);
    }
}

#[tokio::test(start_paused = true)]
async fn the_ticket_of_somebody_inside_frees_the_slot_too() {
    let api = Api::open("capacity=1");
    let first = api.shop("POST join", &[]).await.token("pass");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    let next = api.shop("POST join", &[]).await.token("ticket");
    api.shop("POST leave", &[("x-anteroom-pass", &first)]).await.is(204);
    let pass = api.shop("POST enter", &[("x-anteroom-ticket", &ticket)]).await.is(200).token("pass");
    api.shop("POST leave", &[("x-anteroom-ticket", &ticket)]).await.is(204);
    assert_eq!(status(&api, "ticket", &next).await, Status::Called.as_str(), "the slot is free");
    assert_eq!(status(&api, "pass", &pass).await, "void", "the pass that was not shown opens no door");
}

#[tokio::test(start_paused = true)]
async fn leaving_with_nothing_that_holds_is_401_and_odd_bodies_are_told_apart() {
    let api = Api::open("capacity=0");
    let ticket = api.shop("POST join", &[]).await.token("ticket");
    for (kind, body) in
        [("", ""), ("text/plain", ""), ("text/plain", "{}"), ("application/json", r#"{"ticket":"garbage"}"#)]
    {
        api.post("leave", kind, body).await.is_problem(401);
    }
    let body = json!({ "ticket": ticket }).to_string();
    api.post("leave", "", body.clone()).await.is_problem(415);
    api.post("leave", "application/x-www-form-urlencoded", body.clone()).await.is_problem(415);
    api.post("leave", "text/plain", format!("{body}]")).await.is_problem(400);
    api.post("leave", "text/plain", r#"["t","p"]"#).await.is_problem(400);
    api.post("leave", "text/plain", " ".repeat(16 * 1024 + 1)).await.is_problem(413);
    api.send_with("POST /anteroom/v1/rooms/nowhere/leave", &[], body).await.is_problem(404);
    assert_eq!(api.shop("GET leave", &[]).await.is_problem(405).header("allow"), "POST");
    assert_eq!(status(&api, "ticket", &ticket).await, "waiting", "none of them left");

    api.world.probe.set(Mood::Fails);
    let refused = api.shop("POST leave", &[("x-anteroom-ticket", &ticket)]).await;
    assert_eq!(refused.is_problem(503).header("retry-after"), "5");
}

#[tokio::test(start_paused = true)]
async fn of_header_and_cookie_the_header_counts_if_it_holds() {
    let api = Api::open("capacity=0");
    let tickets =
        [api.shop("POST join", &[]).await.token("ticket"), api.shop("POST join", &[]).await.token("ticket")];
    let [first, second] = &tickets;
    let cookie = format!("anteroom_ticket_shop={first}");
    let both = [("x-anteroom-ticket", second.as_str()), ("cookie", &cookie)];
    for call in ["GET position", "POST join"] {
        assert_eq!(api.shop(call, &both).await.is(200).json()["number"], 2, "{call}");
    }
    assert_eq!(api.shop("POST enter", &both).await.is_problem(403).json()["standing"]["number"], 2);
    let stale = [("x-anteroom-ticket", "garbage"), ("cookie", &cookie)];
    assert_eq!(api.shop("GET position", &stale).await.is(200).json()["number"], 1, "garbage hides nothing");

    api.shop("DELETE ticket", &both).await.is(204);
    assert_eq!(status(&api, "ticket", first).await, "waiting");
    let told = api.shop("GET position", &both).await;
    assert_eq!((&told.is(200).json()["number"], &told.json()["status"]), (&2.into(), &"gone".into()));
    let told = api.shop("GET stream", &both).await;
    assert!(told.is(200).body.contains("event: gone\n"), "{}", told.body);

    let body = json!({ "ticket": first }).to_string();
    let third = api.shop("POST join", &[]).await.token("ticket");
    let cookie = format!("anteroom_ticket_shop={third}");
    let headers = [("content-type", "text/plain"), ("cookie", &cookie)];
    api.send_with("POST /anteroom/v1/rooms/shop/leave", &headers, body).await.is(204);
    assert_eq!(status(&api, "ticket", first).await, "gone");
    assert_eq!(status(&api, "ticket", &third).await, "waiting", "a body, too, comes before cookies");
}

#[tokio::test(start_paused = true)]
async fn calls_without_use_for_a_body_take_any() {
    let api = Api::open("capacity=0");
    for (kind, body) in [("", ""), ("application/json", ""), ("application/json", "{"), ("image/png", "x")] {
        let joined = api.post("join", kind, body).await;
        joined.is(201);
    }
}
