//! gRPC health of our services, for proxies and probes.

use std::convert::Infallible;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin::Readiness;
use crate::drain::{Phase, Shutdown};

/// Keeps gRPC health in step with readiness.
pub(super) async fn report(
    name: &'static str,
    mut health: HealthReporter,
    readiness: Readiness,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    let set = async |status| {
        health.set_service_status("", status).await;
        health.set_service_status(name, status).await;
    };
    set(ServingStatus::NotServing).await;
    let draining = shutdown.reached(Phase::NotReady);
    let follow = async {
        loop {
            readiness.until(true).await;
            set(ServingStatus::Serving).await;
            readiness.until(false).await;
            set(ServingStatus::NotServing).await;
        }
    };
    tokio::select! {
        () = draining => {}
        () = follow => {}
    }
    set(ServingStatus::NotServing).await;
    shutdown.closing().await;
    // Whoever watches is let go; their streams would never end by themselves.
    health.clear_service_status("").await;
    health.clear_service_status(name).await;
    Ok(())
}
