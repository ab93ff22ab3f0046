//! The OTLP exporter: its threads, its bounded queue, and its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{RetryPolicy, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use tokio::runtime::Runtime;
use tonic::transport::Endpoint;

use super::TraceError;

/// How many spans wait for their turn to be sent; further ones are dropped.
const QUEUE: usize = 2_048;
/// How many spans are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others before it is sent.
const DELAY: Duration = Duration::from_secs(1);
/// How long connecting to the collector may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// A running exporter. Dropping it loses what is queued, and never waits.
#[derive(Debug)]
pub(super) struct Exporter {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    // Of its own: neither a Check's runtime pays for sending spans, nor does its load delay them.
    runtime: Option<Runtime>,
}

impl Exporter {
    pub(super) fn start(endpoint: &str) -> Result<Self, TraceError> {
        let channel = parse(endpoint)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("anteroom-otlp")
            .enable_all()
            .build()?;
        let exporter = {
            let _inside = runtime.enter();
            opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_channel(channel.connect_lazy())
                .with_timeout(ANSWER)
                .with_retry_policy(RetryPolicy::default().with_max_retries(1))
                .build()
        };
        let exporter = match exporter {
            Ok(exporter) => exporter,
            Err(error) => {
                // As in `drop`: a runtime must not be dropped plainly within another one.
                runtime.shutdown_background();
                let problem = error.to_string();
                return Err(TraceError::Endpoint { endpoint: endpoint.to_owned(), problem });
            }
        };
        let exporter = Reporting { exporter, failing: AtomicBool::new(false) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let resource = Resource::builder()
            .with_service_name("anteroom")
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            // Spans are made only where the caller samples; nothing in the environment overrules that.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(BatchSpanProcessor::new(exporter, batches))
            .build();
        Ok(Self { tracer: provider.tracer("anteroom"), provider, runtime: Some(runtime) })
    }

    pub(super) fn tracer(&self) -> &SdkTracer {
        &self.tracer
    }

    /// Sends what is queued and ends the exporter's thread; blocks at most so long.
    pub(super) fn stop(&self, within: Duration) -> Result<(), TraceError> {
        self.provider
            .shutdown_with_timeout(within)
            .map_err(|error| TraceError::Flush { within, problem: error.to_string() })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Only tells the thread to end; where `stop` has been called there is nothing left to tell.
        let _ = self.provider.shutdown_with_timeout(Duration::ZERO);
        if let Some(runtime) = self.runtime.take() {
            // The plain drop waits, and panics within another runtime.
            runtime.shutdown_background();
        }
    }
}

fn parse(endpoint: &str) -> Result<Endpoint, TraceError> {
    let wrong = |problem: String| TraceError::Endpoint { endpoint: endpoint.to_owned(), problem };
    let parsed = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| wrong(error.to_string()))?;
    match parsed.uri().scheme_str() {
        Some("http") if parsed.uri().host().is_some() => {}
        Some("https") => {
            let why = "TLS to the collector is not built in; send to a collector on this host or in the mesh";
            return Err(wrong(why.to_owned()));
        }
        _ => return Err(wrong("it does not begin with http://".to_owned())),
    }
    // Without the first, an address that swallows packets would hold the exporter for minutes.
    Ok(parsed.connect_timeout(CONNECT).timeout(ANSWER))
}

/// Says in the log when sending begins to fail and when it works again; not at each batch.
#[derive(Debug)]
struct Reporting {
    exporter: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "traces cannot be sent and are dropped; is the OTLP collector up?");
            }
            Ok(()) if failed_before => tracing::info!("traces are being sent again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
