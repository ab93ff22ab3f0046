//! Which core does what: the service has one for itself, the load another.

use std::io;

/// Cores by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) service: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// Two of those that this process may use; `None` where there is only one or the system does not tell.
    #[cfg(target_os = "linux")]
    pub(crate) fn choose() -> Option<Self> {
        let allowed = rustix::thread::sched_getaffinity(None).ok()?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        Some(Self { service: cores.next()?, load: cores.next_back()? })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn choose() -> Option<Self> {
        None
    }
}

/// Keeps this thread, and what it starts from now on, on one core.
#[cfg(target_os = "linux")]
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_core: usize) -> io::Result<()> {
    Err(io::Error::other("threads can be kept on a core only on Linux"))
}

/// Lets this process end with the one that started it, however that ends.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(())
}
