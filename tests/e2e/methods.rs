//! Method overrides through Envoy: no request is let through for being one thing that the backend may take for another.

use reqwest::Method;

use crate::harness::Scene;

const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "X-METHOD-OVERRIDE"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_override_makes_a_preflight_of_an_order() {
    let limits = [("capacity", "1")];
    let scene = Scene::with("no_override_makes_a_preflight_of_an_order", |c| c.limits(&limits)).await;
    let _inside = scene.inside().await;
    // Of an origin that Envoy's own filter does not know: it would answer the others itself.
    let preflight = [("origin", "https://evil.example.com"), ("access-control-request-method", "POST")];
    let options = async |headers: &[(&str, &str)]| {
        let headers = [&preflight[..], headers].concat();
        scene.visitor().send(Method::OPTIONS, "/shop", &headers).await.status
    };
    assert_eq!(options(&[]).await, 200, "a real one passes free");
    assert_eq!(scene.backend.requests(), 2);
    for name in OVERRIDES {
        for method in ["POST", "delete", "OPTIONS, POST", "GET", "?"] {
            assert_eq!(options(&[(name, method)]).await, 429, "{name}: {method}");
        }
    }
    assert_eq!(scene.backend.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_override_makes_a_reading_of_an_order() {
    let limits = [("capacity", "100"), ("idempotency", "require")];
    let scene = Scene::with("no_override_makes_a_reading_of_an_order", |c| c.limits(&limits)).await;
    let visitor = scene.inside().await;
    let before = scene.backend.requests();
    for name in OVERRIDES {
        for method in ["POST", "put", "PATCH ", "GET, DELETE"] {
            let answer = visitor.send(Method::GET, "/shop/orders", &[(name, method)]).await;
            assert_eq!(answer.status, 400, "{name}: {method}: {answer:?}");
        }
        let answer = visitor.send(Method::POST, "/shop/orders", &[(name, "GET")]).await;
        assert_eq!(answer.status, 400, "an order all the same: {answer:?}");
    }
    assert_eq!(scene.backend.requests(), before);
    assert_eq!(visitor.send(Method::GET, "/shop", &[(OVERRIDES[0], "HEAD")]).await.status, 200);

    let key = uuid::Uuid::new_v4().to_string();
    let keyed = [(OVERRIDES[0], "POST"), ("idempotency-key", key.as_str())];
    assert_eq!(visitor.send(Method::GET, "/shop/orders", &keyed).await.status, 200);
    assert_eq!(visitor.send(Method::GET, "/shop/orders", &keyed).await.status, 409);
}
