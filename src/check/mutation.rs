//! Does the gradient check notice an error? One sign is flipped in each backward, and the check has
//! to fail.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::gradient::cases;
use super::stencil::Stencil;
use super::verdict::Verdict;
use crate::autodiff::Fault;
use crate::device::Device;
use crate::error::Result;
use crate::ops::Case;

/// One operation with a planted error: the sign of the largest element of one gradient is flipped.
#[derive(Clone, Debug, Serialize)]
pub struct Mutant {
    pub op: String,
    pub case: String,
    /// Name of the case's input whose gradient the planted error reaches.
    pub input: String,
    /// Whether the check failed, as it should.
    pub detected: bool,
}

/// The result of the mutation test.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MutationReport {
    /// Planted errors that changed a gradient.
    pub mutants: usize,
    /// Planted errors that the check did not notice.
    pub survivors: Vec<Mutant>,
    /// Differentiable inputs (`operation.input`) whose gradient no planted error reaches in any
    /// case.
    pub unreached: Vec<String>,
}

/// Flips one sign in the gradient of each input of each operation, in every case, and compares with
/// finite differences again.
pub fn mutation(op: Option<&str>, device: Device) -> Result<MutationReport> {
    let cases = cases(op)?;
    let mutants = cases.par_iter().map(|case| mutate(case, device)).collect::<Result<Vec<_>>>()?;
    let mut reached: BTreeMap<String, bool> = BTreeMap::new();
    for (case, mutants) in cases.iter().zip(&mutants) {
        for input in case.inputs.iter().filter(|i| i.differentiable) {
            let hit = mutants.iter().any(|m| m.input == input.name);
            *reached.entry(format!("{}.{}", case.operation, input.name)).or_default() |= hit;
        }
    }
    Ok(MutationReport {
        mutants: mutants.iter().map(Vec::len).sum(),
        survivors: mutants.into_iter().flatten().filter(|m| !m.detected).collect(),
        unreached: reached.into_iter().filter(|(_, hit)| !hit).map(|(name, _)| name).collect(),
    })
}

fn mutate(case: &Case, device: Device) -> Result<Vec<Mutant>> {
    let mut stencil = Stencil::new(case, device)?;
    let compared = stencil.compare()?;
    let right = stencil.analytic(None)?;
    let mut mutants = Vec::new();
    // a node's inputs are not numbered like the case's (lists, inputs used twice): try more than
    // there are
    for input in 0..2 * case.inputs.len() + 4 {
        let wrong = stencil.analytic(Some(Fault { operation: case.operation, input }))?;
        let Some(hit) = (0..wrong.len()).find(|&i| wrong[i].1 != right[i].1) else { continue };
        let mut mutated = compared.clone();
        for (compared, (_, gradient)) in mutated.iter_mut().zip(&wrong) {
            compared.analytic = compared.elements.iter().map(|&e| gradient[e]).collect();
        }
        mutants.push(Mutant {
            op: case.operation.to_string(),
            case: case.name.clone(),
            input: case.inputs[wrong[hit].0].name.to_string(),
            detected: Verdict::of(&mutated).wrong > 0,
        });
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_sign_in_any_backward_is_noticed() {
        let report = mutation(None, Device::Cpu).unwrap();
        assert!(report.survivors.is_empty(), "{:#?}", report.survivors);
        assert!(report.unreached.is_empty(), "{:?}", report.unreached);
        assert!(report.mutants >= crate::ops::ALL.len());
    }
}
