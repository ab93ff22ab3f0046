//! How often this process has asked for memory, where it was built to count that.

#[cfg(not(feature = "count-allocations"))]
/// The program's own allocator, for all peers alike.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// It counts for the system's allocator only; how often memory is asked for does not depend on who gives it.
#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Allocations and reallocations since the start; `None` in a build that does not count.
#[cfg_attr(feature = "count-allocations", allow(clippy::unnecessary_wraps))] // The other build has none.
pub(crate) fn count() -> Option<usize> {
    #[cfg(feature = "count-allocations")]
    {
        let stats = ALLOCATOR.stats();
        Some(stats.allocations + stats.reallocations)
    }
    #[cfg(not(feature = "count-allocations"))]
    None
}
