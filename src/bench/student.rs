//! Student's distribution, as far as intervals need it.

/// The 97.5 % quantile of Student's distribution; between the listed degrees of freedom that of the
/// fewer.
pub(super) fn quantile(freedom: f64) -> f64 {
    const LISTED: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    match freedom.floor() as usize {
        0 => LISTED[0],
        n if n <= 30 => LISTED[n - 1],
        n => 1.96 + 2.4 / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student() {
        assert_eq!([0.5, 1.0, 4.9, 30.0].map(quantile), [12.706, 12.706, 2.776, 2.042]);
        assert!((quantile(60.0) - 2.0003).abs() < 1e-3 && (quantile(1e6) - 1.96).abs() < 1e-3);
    }
}
