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
pub(crate) fn pin(core: usize) -> io::Result<()> {
    keep(None, core)
}

/// Moves the first thread of a process to a core: of Redis, the one that does everything.
pub(crate) fn move_to(pid: u32, core: usize) -> io::Result<()> {
    keep(Some(pid), core)
}

#[cfg(target_os = "linux")]
fn keep(pid: Option<u32>, core: usize) -> io::Result<()> {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    let pid = match pid {
        // No id of a process is 0 or beyond an i32.
        Some(pid) => Some(
            i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no process")))?,
        ),
        None => None,
    };
    Ok(rustix::thread::sched_setaffinity(pid, &only)?)
}

#[cfg(not(target_os = "linux"))]
fn keep(_pid: Option<u32>, _core: usize) -> io::Result<()> {
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
