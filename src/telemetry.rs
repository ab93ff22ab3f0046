//! What operators see of a running process: logs, metrics, traces.

pub mod logs;
pub mod metrics;
pub mod trace;
