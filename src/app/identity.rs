//! Who users are: their issuers' keys are fetched by a task of its own.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::drain::Tasks;
use crate::identity::Identity;
use crate::telemetry::metrics::Metrics;

/// What knows users by their tokens, where there is an identity file. Fails where the system has no roots to check
/// issuers' servers by.
pub(super) fn start(
    settings: &Settings,
    clock: Clock,
    metrics: &Metrics,
    tasks: &mut Tasks,
) -> io::Result<Option<Arc<Identity>>> {
    let Some(identity) = settings.identity.clone() else { return Ok(None) };
    let identity = Arc::new(Identity::new(identity, clock, metrics.identity())?);
    let (tended, shutdown) = (identity.clone(), tasks.shutdown());
    tasks.spawn("identity", async move {
        tended.tend(&shutdown).await;
        Ok::<_, Infallible>(())
    });
    Ok(Some(identity))
}
