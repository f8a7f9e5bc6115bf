//! What a row of measurements comes to.

use std::time::Duration;

use serde::Serialize;

/// Measurements of the same thing, in the order in which they were made.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// The one in the middle.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// All of them.
    pub all: Vec<f64>,
}

impl Series {
    /// Of at least one measurement.
    #[must_use]
    pub fn new(all: Vec<f64>) -> Self {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Self { median, lowest: at(0), highest: at(sorted.len().wrapping_sub(1)), all }
    }

    /// `median (lowest to highest)`, with so many digits after the point.
    #[must_use]
    pub fn text(&self, digits: usize) -> String {
        let Self { median, lowest, highest, .. } = self;
        format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    }
}

/// The time that so many of a hundred took at most, in milliseconds.
#[must_use]
pub fn percentile_ms(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(rank).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Series::new(vec![3.0, 1.0, 2.0]).text(0), "2 (1 to 3)");
        assert_eq!(Series::new(vec![4.0, 1.0, 2.0, 3.0]).text(1), "2.5 (1.0 to 4.0)");
        assert_eq!(Series::new(vec![7.0]).text(0), "7 (7 to 7)");
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert!((percentile_ms(&mut times, 99) - 198.0).abs() < 1e-9);
        assert!((percentile_ms(&mut times, 50) - 100.0).abs() < 1e-9);
        assert!((percentile_ms(&mut times[..1], 99) - 1.0).abs() < 1e-9);
    }
}
