//! Rates: so many admissions per second, minute or hour.

use std::fmt;
use std::str::FromStr;

use super::policy::{MAX_COUNT, Millis, parse_count, quoted};

/// So many admissions per unit of time, kept exactly as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Admissions per period, at most [`MAX_COUNT`].
    pub count: u32,
    /// The period: a second, a minute or an hour.
    pub period: Period,
}

/// The unit of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// `/s`
    Second,
    /// `/m`
    Minute,
    /// `/h`
    Hour,
}

impl Period {
    /// Length of the period in milliseconds.
    pub const fn millis(self) -> Millis {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }
}

impl Rate {
    /// Admissions per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.count) * 1_000.0 / self.period.millis() as f64
    }

    /// One second's worth of admissions, rounded up, at least 1: the default burst.
    pub(super) fn default_burst(self) -> u32 {
        let per_second = u64::from(self.count) * 1_000;
        u32::try_from(per_second.div_ceil(self.period.millis())).unwrap_or(MAX_COUNT).max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period {
            Period::Second => 's',
            Period::Minute => 'm',
            Period::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl serde::Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format!("{} is no rate", quoted(&text))))
    }
}

impl FromStr for Rate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (count, unit) = text.split_once('/').ok_or(())?;
        let period = match unit.trim() {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            _ => return Err(()),
        };
        Ok(Self { count: parse_count(count.trim()).ok_or(())?, period })
    }
}
