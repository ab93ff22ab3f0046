//! The deny list: who is on it is refused before anything else, and a changed file counts without a restart.

use reqwest::Method;

use crate::harness::{SOON, Scene, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_on_the_list_is_refused_everywhere_and_takes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deny.yaml");
    std::fs::write(&file, "deny: []\n").unwrap();
    let flag = format!("--deny={}", file.display());
    let test = "whoever_is_on_the_list_is_refused_everywhere_and_takes_no_number";
    let scene = Scene::with_flags(test, &[&flag], |config| config).await;
    let (hostile, honest) = (scene.visitor_from([127, 0, 9, 9]), scene.visitor_from([127, 0, 0, 2]));
    assert_eq!(hostile.get("/shop").await.status, 200, "not yet on the list");

    // As a ConfigMap is changed: another file takes its place.
    let new = folder.path().join("new.yaml");
    std::fs::write(&new, "deny:\n- ip: 127.0.9.0/24\n- user_agent: BadBot/\n").unwrap();
    std::fs::rename(&new, &file).unwrap();
    until("the new list counts", SOON, || async { (hostile.get("/shop").await.status == 403).then_some(()) })
        .await;

    let refused = hostile.send(Method::GET, "/shop", &[("x-forwarded-for", "127.0.0.2")]).await;
    assert_eq!((refused.status, refused.header("content-type")), (403, "application/problem+json"));
    assert!(refused.set_cookie("anteroom_ticket_shop").is_none());
    // As browsers ask: a page, in their language.
    let accept = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    for (language, says) in
        [("ko-KR,ko;q=0.9", "들어갈 수 없어요"), ("fr, en;q=0.5", "You can’t come in here")]
    {
        let page = hostile.send(Method::GET, "/shop", &[accept, ("accept-language", language)]).await;
        assert_eq!((page.status, page.header("content-type")), (403, "text/html; charset=utf-8"));
        assert!(page.text.contains(says), "{}", page.text);
        assert!(page.header("content-security-policy").contains("style-src 'sha256-"), "{page:?}");
    }
    let join = "/anteroom/v1/rooms/shop/join";
    assert_eq!(hostile.send(Method::POST, join, &[]).await.status, 403);
    // The polling API at its old path, too.
    assert_eq!(hostile.get("/tracer?loginId=bot").await.status, 403);
    let bot = [("user-agent", "Mozilla/5.0 (compatible; BADBOT/2.0; \u{e9})")];
    assert_eq!(honest.send(Method::GET, "/shop", &bot).await.status, 403);
    assert_eq!(honest.send(Method::POST, join, &bot).await.status, 403);
    let answer = honest.get("/shop").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["headers"]["x-anteroom-number"], "2", "nobody refused took a number");
    assert!(scene.metric("anteroom_denied_total").await >= 4.0);

    // A slip leaves the list as it was, and says so.
    std::fs::write(&file, "deny:\n- ip: 127.0.9.1/24\n").unwrap();
    until("the slip is noticed", SOON, || async {
        (scene.metric("anteroom_deny_file_errors_total").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(hostile.get("/shop").await.status, 403);
    std::fs::write(&file, "deny: []\n").unwrap();
    until("the list is empty", SOON, || async { (hostile.get("/shop").await.status == 200).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_do_without_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deny.yaml");
    std::fs::write(&file, "deny:\n- ip: 127.0.9.0/24\n").unwrap();
    let flag = format!("--deny={}", file.display());
    let limits = [("capacity", "2"), ("deny", "off")];
    let scene =
        Scene::with_flags("a_route_may_do_without_the_list", &[&flag], |config| config.limits(&limits)).await;
    assert_eq!(scene.visitor_from([127, 0, 9, 9]).get("/shop").await.status, 200);
}
