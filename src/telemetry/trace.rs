//! Traces: the visitor's trace context, read strictly, and one span per sampled Check sent by OTLP.

mod context;
mod export;

pub use self::context::TraceContext;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;

use self::export::Exporter;
use super::metrics::label::{Label as _, VerdictLabel};
use crate::room::name::RoomName;

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The endpoint cannot be used.
    #[error(
        "OTLP endpoint {endpoint:?} cannot be used: {problem}; write the collector's gRPC address, \
         like http://127.0.0.1:4317"
    )]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The exporter's thread could not be started.
    #[error("the thread that exports traces could not be started: {0}; check the limits on threads")]
    Thread(#[from] std::io::Error),
    /// Spans may be lost: they were not all sent in time.
    #[error("traces were not all sent within {within:?}: {problem}; is the collector up?")]
    Flush {
        /// The deadline.
        within: Duration,
        /// What the exporter said.
        problem: String,
    },
}

/// Makes spans, when there is somewhere to send them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer {
    exporter: Option<Arc<Exporter>>,
}

impl Tracer {
    /// Makes no spans.
    pub fn off() -> Self {
        Self { exporter: None }
    }

    /// Sends spans to the collector at `endpoint` (`http://host:port`, OTLP over gRPC).
    ///
    /// The exporter has threads of its own and a queue of 2,048 spans; what does not fit
    /// is dropped, so a collector that is slow or down never holds up a Check. It need not be up now.
    pub fn to(endpoint: &str) -> Result<Self, TraceError> {
        Ok(Self { exporter: Some(Arc::new(Exporter::start(endpoint)?)) })
    }

    /// Whether there is anywhere to send spans to.
    pub fn is_on(&self) -> bool {
        self.exporter.is_some()
    }

    /// Begins the span of a Check that began at `start`; `None` unless the visitor's trace is sampled and
    /// there is somewhere to send it.
    pub fn check_span(&self, parent: &TraceContext, start: SystemTime) -> Option<CheckSpan> {
        if !parent.sampled() {
            return None;
        }
        let tracer = self.exporter.as_ref()?.tracer();
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id_bytes()),
            SpanId::from_bytes(parent.parent_id_bytes()),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let span = tracer
            .span_builder("anteroom.check")
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .start_with_context(tracer, &Context::new().with_remote_span_context(parent));
        Some(CheckSpan { span })
    }

    /// Sends what is queued and stops, within the deadline. Later spans are lost without a word.
    pub async fn shut_down(&self, within: Duration) -> Result<(), TraceError> {
        let Some(exporter) = self.exporter.clone() else { return Ok(()) };
        // The library waits by blocking the thread.
        let stopped = tokio::task::spawn_blocking(move || exporter.stop(within)).await;
        stopped.unwrap_or_else(|lost| Err(TraceError::Flush { within, problem: lost.to_string() }))
    }
}

/// The span of a Check being answered; it ends when it is finished or dropped.
#[derive(Debug)]
pub struct CheckSpan {
    span: Span,
}

impl CheckSpan {
    /// Ends the span: which room was meant, what the Check came to, and the position, 1 for the next in
    /// line, where there is one.
    pub fn finish(mut self, room: Option<&RoomName>, verdict: VerdictLabel, position: Option<u64>) {
        self.span.set_attribute(KeyValue::new("anteroom.verdict", verdict.as_str()));
        if let Some(room) = room {
            self.span.set_attribute(KeyValue::new("anteroom.room", room.as_str().to_owned()));
        }
        if let Some(position) = position.and_then(|position| i64::try_from(position).ok()) {
            self.span.set_attribute(KeyValue::new("anteroom.position", position));
        }
        self.span.end();
    }
}

#[cfg(test)]
mod tests;
