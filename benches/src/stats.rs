//! Medians, ranges and ratios of small samples.
//!
//! A shared machine drifts by more between two minutes than two runtimes differ. So every figure is
//! a median over rounds, and two subjects are compared only inside the same round: the ratio of each
//! round first, then the median of the ratios.

/// The median and the range of a sample that is not empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The middle value; the mean of the two middle ones if their number is even.
    pub(crate) median: f64,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
}

impl Summary {
    /// Summarises `values`; `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Summary { median, min, max })
    }
}

/// Ratios of `values` to `reference`, taken round by round where both have a value.
pub(crate) fn ratios(values: &[Option<f64>], reference: &[Option<f64>]) -> Option<Summary> {
    let pairs = values.iter().zip(reference);
    Summary::of(pairs.filter_map(|(value, reference)| Some((*value)? / (*reference)?)))
}

#[cfg(test)]
mod tests {
    use super::{Summary, ratios};

    #[test]
    fn median_of_odd_and_even() {
        let summary = |median, min, max| Some(Summary { median, min, max });
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), summary(2.0, 1.0, 3.0));
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]), summary(2.5, 1.0, 4.0));
    }

    #[test]
    fn ratios_pair_only_what_ran_in_the_same_round() {
        let values = [Some(2.0), None, Some(9.0)];
        let reference = [Some(1.0), Some(5.0), Some(3.0)];
        let ratios = ratios(&values, &reference).expect("two rounds have both");
        assert_eq!((ratios.min, ratios.median, ratios.max), (2.0, 2.5, 3.0));
    }
}
