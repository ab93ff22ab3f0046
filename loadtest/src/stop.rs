//! Ctrl-C and SIGTERM: a run that is broken off ends what it started and removes what it wrote for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit status of a run that was broken off: what shells say of Ctrl-C.
pub(crate) const STATUS: u8 = 130;
/// How often a wait looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(50);

static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The run was broken off.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal")]
pub(crate) struct Stopped;

/// Takes signals from now on: the first asks the run to stop, a second ends the process at once.
pub(crate) fn listen() -> std::io::Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order, so that the first does not find what it has set itself.
        flag::register_conditional_default(signal, ASKED.clone())?;
        flag::register(signal, ASKED.clone())?;
    }
    Ok(())
}

/// Whether the run is to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// An error once the run is to stop: what is asked in every loop that lasts.
pub(crate) fn check() -> Result<(), Stopped> {
    if asked() { Err(Stopped) } else { Ok(()) }
}

/// Sleeps, and wakes up early if the run is to stop.
pub(crate) fn sleep(duration: Duration) -> Result<(), Stopped> {
    let until = Instant::now() + duration;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}
