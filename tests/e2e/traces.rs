//! One trace from the client through Envoy to the Check, as a collector gets it.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use reqwest::Method;

use crate::harness::collector::{Collector, Span};
use crate::harness::config::EnvoyConfig;
use crate::harness::{SOON, Scene, root, until};

const CLIENT: &str = "b7ad6b7169203331";

/// The YAML in `docs/operations.md` that begins with this line, further in by `indent`.
fn documented(first: &str, indent: &str) -> String {
    let docs = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let begin = docs.find(&format!("```yaml\n{first}")).unwrap_or_else(|| panic!("no YAML with {first:?}"));
    let (yaml, _) = docs[begin + "```yaml\n".len()..].split_once("```").expect("its end");
    yaml.lines().flat_map(|line| [indent, line, "\n"]).collect()
}

/// Envoy traces as the documentation has it, to this collector.
fn tracing(config: EnvoyConfig, port: u16) -> EnvoyConfig {
    let hcm = documented("tracing:", "          ");
    let cluster =
        documented("- name: otlp", "  ").replace("port_value: 4317", &format!("port_value: {port}"));
    assert!(cluster.contains(&port.to_string()), "{cluster}");
    config
        .replace("          access_log:\n", &format!("{hcm}          access_log:\n"))
        .replace("\n  clusters:\n", &format!("\n  clusters:\n{cluster}"))
}

/// The span of the Check in a trace.
async fn check(collector: &Collector, trace: &str) -> Span {
    until("the span of the Check is at the collector", SOON, || async {
        let spans = collector.trace(trace);
        let found: Vec<_> = spans.into_iter().filter(|span| span.name == "anteroom.check").collect();
        assert!(found.len() < 2, "{found:?}");
        found.into_iter().next()
    })
    .await
}

/// Asks for `/shop` within this trace; the status.
async fn ask(scene: &Scene, trace: &str) -> u16 {
    let parent = format!("00-{trace}-{CLIENT}-01");
    scene.visitor().send(Method::GET, "/shop", &[("traceparent", &parent)]).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_envoy_and_check_are_one_trace() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let flags = ["--otlp-endpoint", endpoint.as_str()];
    let scene = Scene::with_flags("client_envoy_and_check_are_one_trace", &flags, |config| {
        tracing(config, collector.port)
    })
    .await;
    for (number, (status, verdict)) in (1..).zip([(200, "admit"), (200, "admit"), (429, "wait")]) {
        let trace = format!("0af7651916cd43dd8448eb211c80319{number}");
        assert_eq!(ask(&scene, &trace).await, status);
        let mut span = check(&collector, &trace).await;
        assert_eq!(span.service, "anteroom");
        for (name, text) in [("anteroom.room", "shop"), ("anteroom.verdict", verdict)] {
            assert_eq!(span.attributes.get(name), Some(&Value::StringValue(text.to_owned())), "{span:?}");
        }
        // From child to parent up to the client, who sends no span of its own here.
        let mut way = 0;
        while span.parent != CLIENT {
            span = until("the parent is at the collector", SOON, || async {
                collector.trace(&trace).into_iter().find(|other| other.id == span.parent)
            })
            .await;
            assert_eq!(span.service, "envoy", "{span:?}");
            way += 1;
        }
        // The call that asks, within the request.
        assert_eq!(way, 2, "{:#?}", collector.trace(&trace));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_envoy_does_not_trace_the_check_belongs_to_the_clients_span() {
    let collector = Collector::start().await;
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let test = "where_envoy_does_not_trace_the_check_belongs_to_the_clients_span";
    let scene = Scene::with_flags(test, &["--otlp-endpoint", &endpoint], |config| config).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(ask(&scene, trace).await, 200);
    assert_eq!(check(&collector, trace).await.parent, CLIENT);
}
