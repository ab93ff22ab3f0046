//! Sends spans to a collector in this process, to a dead one and to a silent one.

use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    let serving = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (endpoint, receiver, serving)
}

fn context(flags: &str) -> TraceContext {
    TraceContext::parse(&format!("00-{TRACE}-{PARENT}-{flags}")).unwrap()
}

#[tokio::test]
async fn a_sampled_check_arrives_at_the_collector_and_an_unsampled_one_does_not() {
    let (endpoint, mut received, serving) = collector().await;
    let tracer = Tracer::to(&endpoint).unwrap();
    assert!(tracer.check_span(&context("00"), SystemTime::now()).is_none());
    let room = RoomName::parse("shop").unwrap();
    let span = tracer.check_span(&context("01"), SystemTime::now()).unwrap();
    span.finish(Some(&room), VerdictLabel::Wait, Some(3));
    tracer.shut_down(Duration::from_secs(10)).await.unwrap();

    let request = received.try_recv().expect("shutting down flushes");
    let [resource] = request.resource_spans.as_slice() else { panic!("{request:?}") };
    let service = resource.resource.as_ref().unwrap().attributes.iter().find(|a| a.key == "service.name");
    assert_eq!(
        service.unwrap().value.as_ref().unwrap().value,
        Some(Value::StringValue("anteroom".to_owned()))
    );
    let [scope] = resource.scope_spans.as_slice() else { panic!("{resource:?}") };
    let [span] = scope.spans.as_slice() else { panic!("{scope:?}") };
    let trace_id = TraceId::from_bytes(span.trace_id.as_slice().try_into().unwrap());
    let parent_id = SpanId::from_bytes(span.parent_span_id.as_slice().try_into().unwrap());
    assert_eq!((trace_id.to_string(), parent_id.to_string()), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!(span.name, "anteroom.check");
    let mut attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|a| (a.key.as_str(), a.value.as_ref().unwrap().value.clone().unwrap()))
        .collect();
    attributes.sort_by_key(|(key, _)| *key);
    assert_eq!(
        attributes,
        [
            ("anteroom.position", Value::IntValue(3)),
            ("anteroom.room", Value::StringValue("shop".to_owned())),
            ("anteroom.verdict", Value::StringValue("wait".to_owned())),
        ]
    );
    assert!(received.try_recv().is_err(), "one span is sent once");
    serving.abort();
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
