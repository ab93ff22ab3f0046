//! When requests are due: a fixed schedule, which nobody's slowness moves.

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// So many requests per second, evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Requests per second, above zero.
    rate: f64,
    /// How many there are in all.
    total: u64,
}

impl Schedule {
    /// `rate` per second for `length` nanoseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count of requests, far below 2^52
    pub(crate) fn new(rate: f64, length: u64) -> Self {
        Self { rate, total: (rate * length as f64 / SECOND as f64).ceil() as u64 }
    }

    /// When request `index` (from 0) is due, nanoseconds from the start; `None` behind the last.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // nanoseconds of a run, far below 2^52
    pub(crate) fn due(&self, index: u64) -> Option<u64> {
        (index < self.total).then(|| (index as f64 * SECOND as f64 / self.rate) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_and_as_many_as_stated() {
        let schedule = Schedule::new(40_000.0, 2 * SECOND);
        assert_eq!((schedule.due(0), schedule.due(1)), (Some(0), Some(25_000)));
        assert_eq!(schedule.due(40_000), Some(SECOND));
        assert_eq!(schedule.due(79_999), Some(2 * SECOND - 25_000));
        assert_eq!(schedule.due(80_000), None);
        let odd = Schedule::new(3.0, SECOND);
        assert_eq!(
            [0, 1, 2, 3].map(|index| odd.due(index)),
            [Some(0), Some(333_333_333), Some(666_666_666), None]
        );
    }
}
