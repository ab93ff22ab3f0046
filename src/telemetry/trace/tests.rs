//! Sends spans to a collector in this process, to a dead one and to a silent one.

// Said again for those who tell tests by it.
#[cfg(test)]
#[path = "../../../tests/support/collector.rs"]
mod collector;

use std::collections::BTreeMap;
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;

use self::collector::Collector;
use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn context(flags: &str) -> TraceContext {
    TraceContext::parse(&format!("00-{TRACE}-{PARENT}-{flags}")).unwrap()
}

#[tokio::test]
async fn a_sampled_check_arrives_at_the_collector_and_an_unsampled_one_does_not() {
    let collector = Collector::start().await;
    let tracer = Tracer::to(&format!("http://127.0.0.1:{}", collector.port)).unwrap();
    assert!(tracer.check_span(&context("00"), SystemTime::now()).is_none());
    let room = RoomName::parse("shop").unwrap();
    let span = tracer.check_span(&context("01"), SystemTime::now()).unwrap();
    span.finish(Some(&room), VerdictLabel::Wait, Some(3));
    tracer.shut_down(Duration::from_secs(10)).await.unwrap();

    let spans = collector.trace(TRACE);
    let [span] = spans.as_slice() else { panic!("one span, sent once, as shutting down flushes: {spans:?}") };
    assert_eq!((span.service.as_str(), span.name.as_str()), ("anteroom", "anteroom.check"));
    assert_eq!((span.parent.as_str(), span.id.len()), (PARENT, 16));
    let text = |text: &str| Value::StringValue(text.to_owned());
    let attributes = [
        ("anteroom.position", Value::IntValue(3)),
        ("anteroom.room", text("shop")),
        ("anteroom.verdict", text("wait")),
    ];
    assert_eq!(span.attributes, BTreeMap::from(attributes.map(|(name, value)| (name.to_owned(), value))));
}

/// Floods a tracer whose collector does not answer; nothing may wait for it.
async fn flood(endpoint: &str) {
    let tracer = Tracer::to(endpoint).unwrap();
    let began = Instant::now();
    for _ in 0..20_000 {
        let span = tracer.check_span(&context("01"), SystemTime::now()).unwrap();
        span.finish(None, VerdictLabel::Bypass, None);
    }
    // Sending them one after the other would take the collector's time-outs, seconds each.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    let flushed = tracer.shut_down(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    if let Err(error) = flushed {
        assert!(error.to_string().contains("is the collector up?"), "{error}");
    }
    // Within a runtime: dropping the exporter must neither wait nor panic.
    drop(tracer);
}

fn exporter_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread may end between being listed and being read.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("anteroom-otlp")).count()
}

#[tokio::test]
async fn a_collector_that_is_down_or_silent_holds_up_nothing_and_leaves_nothing() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    flood(&down).await;
    // Connections are taken by the kernel, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    flood(&format!("http://{}", silent.local_addr().unwrap())).await;

    let deadline = Instant::now() + Duration::from_secs(20);
    while exporter_threads() > 0 {
        assert!(Instant::now() < deadline, "{} exporter threads are left", exporter_threads());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_named() {
    for (endpoint, problem) in [
        ("", "http://"),
        ("127.0.0.1:4317", "http://"),
        ("ftp://collector", "http://"),
        ("https://collector:4317", "TLS"),
        ("http://[", "http://[\""),
    ] {
        let error = Tracer::to(endpoint).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("http://127.0.0.1:4317"), "{error}");
    }
}

#[tokio::test]
async fn without_an_endpoint_there_are_no_spans() {
    let tracer = Tracer::off();
    assert!(tracer.check_span(&context("01"), SystemTime::now()).is_none());
    tracer.shut_down(Duration::ZERO).await.unwrap();
}
