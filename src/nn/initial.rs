//! Initial values (docs/SPEC.md §1.1, row "init"), from counters: a function of seed, stage and
//! parameter alone.

use super::sites;
use crate::autodiff::{ParameterId, Parameters};
use crate::error::Result;
use crate::random::{Key, Stream};

/// U(−range, range).
///
/// # Errors
/// More parameters than there are streams of start values.
pub(super) fn uniform(parameters: &Parameters, id: ParameterId, key: Key, range: f64) -> Result<()> {
    let tensor = parameters.value(id);
    let mut stream = Stream::new(key, sites::INITIAL.site(id.index())?, 0, 0);
    let values: Vec<f64> = (0..tensor.len()).map(|_| range * (2.0 * stream.uniform() - 1.0)).collect();
    tensor.set_f64(&values);
    Ok(())
}

/// The same value everywhere.
pub(super) fn constant(parameters: &Parameters, id: ParameterId, value: f64) {
    let tensor = parameters.value(id);
    tensor.set_f64(&vec![value; tensor.len()]);
}
