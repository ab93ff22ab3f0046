//! The operators' listener: is it alive, is it ready, its metrics, and its rooms.

pub mod client;
mod denied;
pub mod operators;
pub mod overview;
mod profile;
mod readiness;
mod token;

pub use self::readiness::{Condition, Readiness};
pub use self::token::AdminToken;

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::drain::Shutdown;
use crate::telemetry::metrics::Metrics;

const INDEX: &str = "\
anteroom: a virtual waiting room for Envoy

/livez    200 while the process lives
/readyz   200 when it can serve, else 503 and why
/metrics  metrics for Prometheus, as OpenMetrics text
/rooms    what each room is doing; /rooms/ROOM one of them, POST /rooms/ROOM/pause, resume, limits or reset,
          DELETE /rooms/ROOM/limits; all of them with the operators' token
/deny     the deny list; POST or DELETE an entry, with the token too
";

const PROFILE_IN_INDEX: &str = "\
/debug/profile?seconds=10&format=svg  where the CPU time goes: a flame graph, or format=text
";

/// Everything that operators can ask over HTTP; CPU profiles only with `profile`, which says when they have to end.
pub fn router(metrics: Arc<Metrics>, readiness: Readiness, profile: Option<Shutdown>) -> Router {
    let index = format!("{INDEX}{}", if profile.is_some() { PROFILE_IN_INDEX } else { "" });
    let profiles = profile.map_or_else(Router::new, |shutdown| {
        Router::new().route(profile::PATH, get(profile::profile).with_state(shutdown))
    });
    Router::new()
        .merge(profiles)
        .route("/", get(async || index))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(scrape).with_state(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; GET / says what is here\n"))
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut text = "not ready\n".to_owned();
    for (condition, reason) in missing {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{condition}: {reason}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    // Off the workers that answer Checks: with 1,000 rooms it takes milliseconds.
    let encoded = tokio::task::spawn_blocking(move || metrics.encode()).await;
    let encoded = encoded.map_err(|lost| lost.to_string());
    match encoded.and_then(|text| text.map_err(|error| error.to_string())) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written as text");
            let text = "the metrics could not be written as text; see the log\n".to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::BodyExt as _;
    use tower::Service as _;

    use super::*;
    use crate::drain::{DrainTimes, Tasks};

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, String, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router.clone().call(request).await.unwrap();
        let content_type = answer.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap());
        let content_type = content_type.unwrap_or_default().to_owned();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_there_answers_and_nothing_else_does() {
        let tasks = Tasks::new();
        let router = router(Arc::new(Metrics::new(1)), Readiness::new(tasks.shutdown()), None);
        assert_eq!(ask(&router, "GET", "/livez").await.0, 200);
        let (status, _, index) = ask(&router, "GET", "/").await;
        assert_eq!(status, 200);
        assert!(["/livez", "/readyz", "/metrics"].iter().all(|path| index.contains(path)));
        let (status, content_type, text) = ask(&router, "GET", "/metrics").await;
        assert_eq!((status, content_type.as_str()), (200, Metrics::CONTENT_TYPE));
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(ask(&router, "GET", "/metrics/").await.0, 404);
        assert_eq!(ask(&router, "GET", profile::PATH).await.0, 404, "only where it is asked for");
        assert_eq!(ask(&router, "POST", "/livez").await.0, 405);
        assert_eq!(
            ask(&router, "HEAD", "/livez").await,
            (200, "text/plain; charset=utf-8".into(), String::new())
        );
    }

    #[tokio::test]
    async fn profiles_are_taken_only_where_that_is_wanted() {
        let tasks = Tasks::new();
        let profile = Some(tasks.shutdown());
        let router = router(Arc::new(Metrics::new(1)), Readiness::new(tasks.shutdown()), profile);
        assert!(ask(&router, "GET", "/").await.2.contains(profile::PATH));
        assert_eq!(ask(&router, "GET", "/debug/profile?seconds=0").await.0, 400);
        assert_eq!(ask(&router, "POST", profile::PATH).await.0, 405);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_says_what_is_missing_and_ends_with_the_drain() {
        let mut tasks = Tasks::new();
        let readiness = Readiness::new(tasks.shutdown());
        let router = router(Arc::new(Metrics::new(1)), readiness.clone(), None);
        let store = readiness.condition("store", "has not answered yet");
        let listeners = readiness.condition("listeners", "are not all bound yet");
        let (status, _, text) = ask(&router, "GET", "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(text, "not ready\nstore: has not answered yet\nlisteners: are not all bound yet\n");
        listeners.met();
        store.met();
        assert_eq!(ask(&router, "GET", "/readyz").await.0, 200);
        store.unmet("no answer for 5 s");
        assert_eq!(ask(&router, "GET", "/readyz").await.2, "not ready\nstore: no answer for 5 s\n");
        store.met();

        readiness.until(true).await;
        let (seen, answer) = tokio::sync::oneshot::channel();
        let shutdown = tasks.shutdown();
        tasks.spawn("prober", async move {
            readiness.until(false).await;
            seen.send(ask(&router, "GET", "/readyz").await).unwrap();
            shutdown.closing().await;
            Ok::<_, std::convert::Infallible>(())
        });
        let second = std::time::Duration::from_secs(1);
        let times = DrainTimes { lead: second, grace: second };
        tasks.run_until_drained(times, stream::iter(["test"]).chain(stream::pending())).await.unwrap();
        let (status, _, text) = answer.await.unwrap();
        assert_eq!((status, text.as_str()), (503, "not ready\ndrain: the process is ending\n"));
    }
}
