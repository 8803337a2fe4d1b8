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
    Summary::of(paired(values, reference))
}

/// The median of these ratios, and between which values that of many more rounds lies. `None` of less than eight.
pub(crate) fn ratio_within(
    values: &[Option<f64>],
    reference: &[Option<f64>],
) -> Option<(f64, [f64; 2])> {
    let ratios: Vec<f64> = paired(values, reference).collect();
    let interval = median_within(&ratios)?;
    Some((Summary::of(ratios)?.median, interval))
}

fn paired(values: &[Option<f64>], reference: &[Option<f64>]) -> impl Iterator<Item = f64> {
    let pairs = values.iter().zip(reference);
    pairs.filter_map(|(value, reference)| Some((*value)? / (*reference)?))
}

/// Between which of its values the true median lies in 95 of 100 cases at least, whatever the distribution: each value is
/// below it or above it like the fall of a coin. `None` of less than eight values.
fn median_within(values: &[f64]) -> Option<[f64; 2]> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let outside = left_outside(values.len()).filter(|_| values.len() >= 8)?;
    Some([values[outside], values[values.len() - 1 - outside]])
}

/// How many values at each end are not part of that interval.
fn left_outside(count: usize) -> Option<usize> {
    // Half the count, less 0.98 of its root, rounded down: the normal distribution of so many coins.
    let rank = count.saturating_sub((count * 38_416 / 10_000).isqrt() + 1) / 2;
    // The smallest value has rank one, and leaves none outside.
    rank.checked_sub(1)
}

/// The mean of a sample, and how far from it the true one lies at most, in 95 of 100 cases (Student's t). `None` of less than four values.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.into_iter().collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    (values.len() >= 4).then(|| (mean, student(count - 1.0) * error))
}

/// The 0.975 quantile of Student's distribution, from that of the normal one (Cornish-Fisher): to two digits from three degrees of freedom on.
fn student(freedom: f64) -> f64 {
    let z: f64 = 1.959_964;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use super::{Summary, left_outside, mean, ratio_within, ratios, student};

    /// Goal: the quantiles are those of printed tables, and the interval is made of them.
    #[test]
    fn means_have_intervals() {
        for (freedom, printed) in [(3.0, 3.182), (4.0, 2.776), (9.0, 2.262), (30.0, 2.042)] {
            let found: f64 = student(freedom);
            assert!((found - printed).abs() < 0.04, "{freedom}: {found}");
        }
        assert_eq!(mean([1.0, 2.0, 3.0]), None);
        let (middle, half) = mean([1.0, 2.0, 3.0, 4.0]).expect("four are enough");
        assert_eq!(middle, 2.5);
        assert!((half - 3.182 * 0.6455).abs() < 0.03, "{half}");
    }

    /// Goal: the interval of a median holds the true one in 95 of 100 cases, and is not much wider than it has to be. Method: the exact chance
    /// that so many coins or fewer fall to one side.
    #[test]
    fn medians_have_intervals() {
        for count in 8..400 {
            let outside = left_outside(count).expect("eight are enough");
            let (mut chance, mut below) = ((0..count).fold(1.0, |it, _| it / 2.0), 0.0);
            let mut tails = Vec::new();
            for fallen in 0..=outside + 1 {
                below += chance;
                tails.push(2.0 * below);
                chance *= (count - fallen) as f64 / (fallen + 1) as f64;
            }
            assert!(tails[outside] <= 0.05, "{count}: {}", tails[outside]);
            let narrower = tails[outside + 1];
            assert!(narrower > 0.02, "{count}: {narrower} were enough");
        }
        let values: Vec<Option<f64>> = (1..=8).map(|it| Some(f64::from(it))).collect();
        let ones = [Some(1.0); 8];
        assert_eq!(ratio_within(&values, &ones), Some((4.5, [1.0, 8.0])));
        assert_eq!(ratio_within(&values[1..], &ones), None);
    }

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
