//! The gradient check over all operations and models.

use rayon::prelude::*;
use serde::Serialize;

use super::model::{self, ModelCheck};
use super::stencil::Stencil;
use super::sweep;
use super::verdict::{Compared, Verdict};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::{self, Case};

/// The element furthest from its finite difference.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    pub op: String,
    pub case: String,
    /// Tensor and flat index.
    pub element: String,
    /// `|a − n| / (0.1 + max(|a|, |n|))`; at most 1e-6 passes.
    pub error: f64,
}

/// All cases of one operation or model.
#[derive(Clone, Debug, Serialize)]
pub struct GradientRow {
    pub op: String,
    pub cases: usize,
    pub elements: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Largest error, as in [`Worst`].
    pub error: f64,
    /// Smallest median |gradient| of a checked tensor, over its non-zero elements, after scaling
    /// the loss; none if all are zero.
    pub median: Option<f64>,
    /// Largest power of two that a case's loss was scaled by.
    pub scale: f64,
    /// Largest share of a case's elements that rest on the absolute term.
    pub absolute_share: f64,
    /// Why cases failed: `case: reason`.
    pub failures: Vec<String>,
}

/// The result of the gradient check; serialises to the JSON of `ulmfit gradcheck`.
#[derive(Clone, Debug, Serialize)]
pub struct GradientReport {
    /// Operations checked.
    pub ops: usize,
    /// Whole models checked.
    pub models: usize,
    /// Distinct (operation or model, shape, switches).
    pub cases: usize,
    /// Compared elements.
    pub elements: usize,
    /// Cases with a wrong element, or that the check cannot vouch for (see
    /// [`MEDIAN`](super::MEDIAN)).
    pub failed: usize,
    pub worst: Option<Worst>,
    pub rows: Vec<GradientRow>,
}

/// What is checked.
pub(super) enum Subject {
    Operation(Case),
    Model(ModelCheck),
}

impl Subject {
    pub(super) fn name(&self) -> &str {
        match self {
            Subject::Operation(case) => case.operation,
            Subject::Model(check) => check.model,
        }
    }

    fn case(&self) -> &str {
        match self {
            Subject::Operation(case) => &case.name,
            Subject::Model(check) => &check.case,
        }
    }

    fn check(&self, device: Device) -> Result<Verdict> {
        let compared = match self {
            Subject::Operation(case) => Stencil::new(case, device)?.compare()?,
            Subject::Model(check) => check.compare()?,
        };
        Ok(Verdict::of(&compared))
    }

    /// Gradients of a few elements, the numeric ones with this step.
    pub(super) fn compared_at(&self, device: Device, step: f64) -> Result<Vec<Compared>> {
        match self {
            Subject::Operation(case) => Stencil::new(case, device)?.compare_at(step, sweep::ELEMENTS),
            Subject::Model(check) => check.compare_at(step, sweep::ELEMENTS),
        }
    }
}

/// All cases of the operations chosen (all, or one by name). A name that no operation has, cases
/// that share a name, and an operation without cases are errors.
pub(super) fn cases(op: Option<&str>) -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for entry in ops::ALL.iter().filter(|e| op.is_none_or(|name| e.operation.name() == name)) {
        let name = entry.operation.name();
        let cases = (entry.cases)();
        if cases.is_empty() {
            return Err(Error::data(format!("operation '{name}' has no cases")));
        }
        if let Some(case) = cases.iter().find(|c| c.operation != name) {
            return Err(Error::data(format!("operation '{name}' lists a case of operation '{}'", case.operation)));
        }
        all.extend(cases);
    }
    distinct(all.iter().map(|c| (c.operation, c.name.as_str())))?;
    Ok(all)
}

fn distinct<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for (op, case) in names {
        if !seen.insert((op, case)) {
            return Err(Error::data(format!("operation '{op}' has two cases called '{case}'")));
        }
    }
    Ok(())
}

/// Compares gradients with finite differences in f64: every case of every operation and every
/// model, or of the one named `op`. Cases run in parallel; the result does not depend on the number
/// of threads.
pub fn gradient(op: Option<&str>, device: Device) -> Result<GradientReport> {
    let subjects = subjects(op)?;
    let verdicts = subjects.par_iter().map(|s| s.check(device)).collect::<Result<Vec<_>>>()?;
    Ok(summarise(&subjects, &verdicts))
}

/// Every case of every operation and model, or of the one named `op`.
pub(super) fn subjects(op: Option<&str>) -> Result<Vec<Subject>> {
    let models: Vec<ModelCheck> = model::all().into_iter().filter(|m| op.is_none_or(|name| m.model == name)).collect();
    distinct(models.iter().map(|m| (m.model, m.case.as_str())))?;
    let mut subjects: Vec<Subject> = cases(op)?.into_iter().map(Subject::Operation).collect();
    subjects.extend(models.into_iter().map(Subject::Model));
    if let (Some(name), true) = (op, subjects.is_empty()) {
        let mut known: Vec<&str> = ops::ALL.iter().map(|e| e.operation.name()).collect();
        known.extend(model::all().iter().map(|m| m.model));
        known.dedup();
        return Err(Error::usage(format!("no operation is called '{name}'"))
            .hint(format!("the operations and models are {}", known.join(", "))));
    }
    Ok(subjects)
}

/// The same for cases of your own: an operation that [`ops::ALL`] does not list, or any function
/// that is made of operations.
///
/// # Errors
/// Two cases of one name; a case that does not run, or whose output is not f64.
pub fn gradient_of(cases: Vec<Case>, device: Device) -> Result<GradientReport> {
    distinct(cases.iter().map(|case| (case.operation, case.name.as_str())))?;
    let subjects: Vec<Subject> = cases.into_iter().map(Subject::Operation).collect();
    let verdicts = subjects.par_iter().map(|s| s.check(device)).collect::<Result<Vec<_>>>()?;
    Ok(summarise(&subjects, &verdicts))
}

fn summarise(subjects: &[Subject], verdicts: &[Verdict]) -> GradientReport {
    let mut rows: Vec<GradientRow> = Vec::new();
    let mut worst: Option<Worst> = None;
    let (mut ops, mut models) = (0, 0);
    for (subject, verdict) in subjects.iter().zip(verdicts) {
        if rows.last().is_none_or(|row| row.op != subject.name()) {
            match subject {
                Subject::Operation(_) => ops += 1,
                Subject::Model(_) => models += 1,
            }
            rows.push(GradientRow {
                op: subject.name().to_string(),
                cases: 0,
                elements: 0,
                failed: 0,
                error: 0.0,
                median: None,
                scale: 1.0,
                absolute_share: 0.0,
                failures: Vec::new(),
            });
        }
        let row = rows.last_mut().expect("a row was just made");
        row.cases += 1;
        row.elements += verdict.elements;
        row.error = row.error.max(verdict.error);
        row.scale = row.scale.max(verdict.scale);
        row.absolute_share = row.absolute_share.max(verdict.absolute_share());
        if verdict.median.is_finite() {
            row.median = Some(row.median.map_or(verdict.median, |m| m.min(verdict.median)));
        }
        if let Some(reason) = verdict.failure() {
            row.failed += 1;
            row.failures.push(format!("{}: {reason}", subject.case()));
        }
        if worst.as_ref().is_none_or(|w| verdict.error > w.error) {
            let element = verdict.at.as_ref().map(|(tensor, i)| format!("{tensor}[{i}]")).unwrap_or_default();
            let (op, case) = (subject.name().to_string(), subject.case().to_string());
            worst = Some(Worst { op, case, element, error: verdict.error });
        }
    }
    // an operation whose cases compare nothing is not checked
    for row in rows.iter_mut().filter(|row| row.elements == 0) {
        row.failed += 1;
        row.failures.push("no case has a differentiable input".into());
    }
    let sum = |f: fn(&GradientRow) -> usize| rows.iter().map(f).sum();
    GradientReport {
        ops,
        models,
        cases: sum(|r| r.cases),
        elements: sum(|r| r.elements),
        failed: sum(|r| r.failed),
        worst,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gradient_of_every_operation_and_model() {
        let report = gradient(None, Device::Cpu).unwrap();
        let failures: Vec<_> = report.rows.iter().flat_map(|r| r.failures.iter().map(|f| (&r.op, f))).collect();
        assert!(report.failed == 0, "{failures:#?}");
        assert_eq!(report.ops, ops::ALL.len());
        assert!(report.cases >= report.ops && report.elements > 1000);
    }

    #[test]
    fn one_operation_by_name() {
        let report = gradient(Some("linear"), Device::Cpu).unwrap();
        assert_eq!((report.ops, report.models, report.rows.len()), (1, 0, 1));
        let error = gradient(Some("lineal"), Device::Cpu).unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.hint_text().unwrap().contains("linear"), "{error}");
    }

    #[test]
    fn cases_are_counted_once() {
        let error = distinct([("linear", "N1"), ("relu", "N1"), ("linear", "N1")].into_iter()).unwrap_err();
        assert!(error.to_string().contains("two cases called 'N1'"));
    }

    #[test]
    fn the_report_has_the_keys_of_the_command_line() {
        let json = serde_json::to_value(gradient(Some("linear"), Device::Cpu).unwrap()).unwrap();
        for key in ["ops", "cases", "elements", "failed"] {
            assert!(json[key].is_u64(), "{key}");
        }
        assert!(json["worst"]["op"].is_string() && json["worst"]["case"].is_string());
        assert!(json["worst"]["error"].as_f64().unwrap() <= super::super::RELATIVE);
    }
}
