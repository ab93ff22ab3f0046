//! nginx asks twice about a request that is not let in: it is one request, counted once, with one number at most.

use crate::checkin::out_of_reach;
use crate::forward::{Answered, Door, pair};
use crate::world::World;

const KEY: (&str, &str) = ("idempotency-key", "8e03978e-40d5-43dd-bc93-6894a57f9324");

/// Both questions about a request with these headers: what nginx is told, and what the client is.
async fn asked(door: &Door, method: &str, headers: &[(&str, &str)]) -> (u16, Answered) {
    let stated =
        [("x-forwarded-method", method), ("x-forwarded-uri", "/shop"), ("x-forwarded-for", "192.0.2.1")];
    let headers = [&stated, headers].concat();
    let short = door.ask("?room=shop&door=nginx", &headers).await;
    let handed = [("x-anteroom-handed", short.header("x-anteroom-ticket"))];
    let handed = &handed[..usize::from(!handed[0].1.is_empty())];
    let whole = door.ask("?room=shop&door=nginx-answer", &[&headers, handed].concat()).await;
    (short.status, whole)
}

/// The next newcomer, from another address.
async fn newcomer(door: &Door) -> Answered {
    let asked =
        [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/shop"), ("x-forwarded-for", "192.0.2.9")];
    door.ask("?room=shop", &asked).await
}

#[tokio::test(start_paused = true)]
async fn a_ticket_whose_place_is_gone_leads_around_no_limit() {
    let door = Door::with("capacity=0", &[("limit_ip", "60/m burst 3")]);
    let (_, waits) = asked(&door, "GET", &[]).await;
    let cookie = pair(waits.cookies()[0]).to_owned();
    let ticket = cookie.split_once('=').unwrap().1;
    let room = door.world.room("capacity=0");
    door.world.rooms.leave_line(&room, &crate::world::ticket(ticket)).await.unwrap();
    door.world.rooms.refresh(&room).await.unwrap();
    for _ in 0..40 {
        asked(&door, "GET", &[("cookie", &cookie)]).await;
        door.shop("?room=shop&door=nginx-answer", &[("cookie", &cookie)]).await;
    }
    assert!(newcomer(&door).await.json()["number"].as_u64().unwrap() <= 4, "the limit allows 3");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_itself_is_counted_once_and_says_why() {
    let door = Door::with("capacity=5", &[("limit_ip", "6/m burst 3"), ("idempotency", "require")]);
    let mut told = Vec::new();
    for _ in 0..4 {
        let (short, whole) = asked(&door, "POST", &[("idempotency-key", "none")]).await;
        assert_eq!(short, 401);
        told.push(whole.status);
    }
    assert_eq!(told[..3], [400; 3]);
    assert_eq!(newcomer(&door).await.header("x-anteroom-number"), "1", "none of them took a number");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_told_so_within_the_limit() {
    let door = Door::with("capacity=5", &[("limit_ip", "6/m burst 4"), ("idempotency", "require")]);
    let entered = door
        .ask(
            "?room=shop&door=nginx",
            &[
                ("x-forwarded-method", "POST"),
                ("x-forwarded-uri", "/shop"),
                ("x-forwarded-for", "192.0.2.1"),
                KEY,
            ],
        )
        .await;
    let pass = format!("anteroom_pass_shop={}", entered.header("x-anteroom-pass"));
    for turn in 0..3 {
        let (short, whole) = asked(&door, "POST", &[KEY, ("cookie", &pass)]).await;
        assert_eq!((short, whole.status), (401, 409), "turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_order_keeps_its_place_behind_nginx_too() {
    let mut world = World::new();
    world.guard = out_of_reach(&world);
    let door = Door::over(world, "capacity=5", &[("idempotency", "require")]);
    let (short, whole) = asked(&door, "POST", &[KEY]).await;
    assert_eq!((short, whole.status), (401, 503));
    let pass = pair(whole.cookies()[0]).to_owned();
    assert!(pass.starts_with("anteroom_pass_shop="), "{pass}");
    assert_eq!(whole.header("x-anteroom-pass"), "", "a script must not see it");
    let (_, again) = asked(&door, "POST", &[KEY, ("cookie", &pass)]).await;
    assert_eq!((again.status, again.cookies().len()), (503, 0));
    assert_eq!(newcomer(&door).await.header("x-anteroom-number"), "2", "one request, one number");
    // What is no pass of ours is not handed over.
    let made_up = [KEY, ("x-anteroom-handed", "pass=a.b.c"), ("cookie", &pass)];
    let told = door.shop("?room=shop&door=nginx-answer", &made_up).await;
    assert!(told.cookies().is_empty(), "{:?}", told.cookies());
}
