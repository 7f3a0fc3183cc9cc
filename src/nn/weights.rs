//! Weights of a model: as a file, and from one model to another.

use std::collections::BTreeMap;
use std::path::Path;

use crate::autodiff::{ParameterId, Parameters, Role};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor, file};

fn model_tensors(parameters: &Parameters) -> impl Iterator<Item = (String, &Tensor)> {
    parameters.ids().map(|id| (parameters.name(id).to_string(), parameters.value(id)))
}

/// Writes `model.safetensors`: parameters and buffers under their names; no time, path or thread
/// count.
pub fn save_model(path: &Path, parameters: &Parameters) -> Result<()> {
    file::save(path, model_tensors(parameters), None)
}

/// SHA-256 of the file that [`save_model`] writes.
pub fn model_hash(parameters: &Parameters) -> Result<String> {
    file::hash(model_tensors(parameters))
}

/// [`file::digest`] of every tensor that [`save_model`] writes, by its name.
///
/// # Errors
/// A tensor cannot be brought to the host.
pub fn digests(parameters: &Parameters) -> Result<BTreeMap<String, String>> {
    model_tensors(parameters).map(|(name, tensor)| Ok((name, file::digest(tensor)?))).collect()
}

/// Values beyond it are no weights of a model: products of them overflow.
const LARGEST: f32 = 1e12;

/// Loads `model.safetensors` into declared parameters. A missing or surplus tensor, another shape
/// or type, another digest than one of `digests`, a value that is not finite or too large to be a
/// weight, and a negative variance are errors that name the tensor.
pub fn load_model(path: &Path, parameters: &Parameters, digests: &BTreeMap<String, String>) -> Result<()> {
    let (mut tensors, _) = file::load(path)?;
    for id in parameters.ids() {
        let name = parameters.name(id);
        let Some(tensor) = tensors.remove(name) else {
            return Err(Error::file(path, format!("has no tensor '{name}', which this model needs")));
        };
        if let Some(digest) = digests.get(name)
            && *digest != file::digest(&tensor)?
        {
            let message = format!("tensor '{name}' was altered: it does not have the digest of config.json");
            return Err(Error::file(path, message).hint("restore the original file, or train the model again"));
        }
        put(path, parameters, id, &tensor)?;
    }
    if let (false, Some(name)) =
        (digests.is_empty(), parameters.ids().find(|id| !digests.contains_key(parameters.name(*id))))
    {
        let message = format!("config.json has no digest of tensor '{}'", parameters.name(name));
        return Err(Error::file(path, message));
    }
    match tensors.keys().min() {
        Some(name) => Err(Error::file(path, format!("holds tensor '{name}', which this model does not have"))),
        None => Ok(()),
    }
}

fn put(path: &Path, parameters: &Parameters, id: ParameterId, tensor: &Tensor) -> Result<()> {
    let (name, value) = (parameters.name(id), parameters.value(id));
    if tensor.shape() != value.shape() || tensor.dtype() != value.dtype() {
        let found = format!("{} {}", tensor.dtype(), tensor.shape());
        let expected = format!("{} {}", value.dtype(), value.shape());
        return Err(Error::file(
            path,
            format!("tensor '{name}' is {found}, but the model's configuration asks for {expected}"),
        ));
    }
    if let Some((at, what)) = unfit(name, tensor) {
        return Err(Error::file(path, format!("tensor '{name}' holds {what}, at element {at}")));
    }
    value.copy_from(tensor);
    Ok(())
}

/// The first value of a tensor that no answer can come from: its place, and its description.
fn unfit(name: &str, tensor: &Tensor) -> Option<(usize, String)> {
    let what = |v: f32| match v {
        v if !v.is_finite() => "a value that is not finite".to_string(),
        v => format!("{v:e}, which is no weight of a model"),
    };
    let variance = name.ends_with("running_var");
    let fits = |v: f32| v.abs() <= LARGEST && !(variance && v < 0.0);
    if tensor.dtype() == DType::F32 {
        let values = tensor.read::<f32>();
        if !variance && values.iter().fold(true, |all, v| all & (v.abs() <= LARGEST)) {
            return None;
        }
        return values.iter().position(|&v| !fits(v)).map(|at| match values[at] {
            v if variance && v < 0.0 => (at, format!("{v}, and a variance is not negative")),
            v => (at, what(v)),
        });
    }
    tensor.to_f64().iter().position(|&v| !fits(v as f32)).map(|at| (at, what(tensor.to_f64()[at] as f32)))
}

/// The value of the largest size, and the tensor that has it.
pub fn largest(parameters: &Parameters) -> Option<(String, f64)> {
    let of = |id: ParameterId| {
        let values = parameters.value(id).to_f64();
        let size = |v: f64| if v.is_nan() { f64::INFINITY } else { v.abs() };
        values.into_iter().max_by(|a, b| size(*a).total_cmp(&size(*b))).map(|v| (parameters.name(id).to_string(), v))
    };
    let size = |v: f64| if v.is_nan() { f64::INFINITY } else { v.abs() };
    parameters.ids().filter_map(of).max_by(|a, b| size(a.1).total_cmp(&size(b.1)))
}

/// Copies every parameter of `to` that `from` has under the same name and shape. Those with a row
/// or a value for every word follow `rows`: row `i` of `to` is row `rows[i]` of `from`, or the mean
/// of all rows of `from` for a new word (docs/SPEC.md §2.3). Returns how many parameters were
/// copied.
///
/// # Errors
/// [`Error::Data`]: a parameter has other sizes in the two models.
pub fn transfer(from: &Parameters, to: &Parameters, rows: &[Option<u32>]) -> Result<usize> {
    transfer_into("", from, to, rows)
}

/// The same, for parameters of `to` whose names begin with `prefix` and go on as those of `from`: a
/// part of its own.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_into(prefix: &str, from: &Parameters, to: &Parameters, rows: &[Option<u32>]) -> Result<usize> {
    let mut copied = 0;
    for id in to.ids() {
        let name = to.name(id);
        let Some(source) = name.strip_prefix(prefix).and_then(|name| from.find(name)) else { continue };
        let (source, target) = (from.value(source), to.value(id));
        match to.role(id) {
            // another number of parts: they stand for other words, and start anew
            Role::VocabularyParts if source.shape() != target.shape() => continue,
            Role::VocabularyRows | Role::VocabularyBias => map_rows(source, target, rows)?,
            _ if source.shape() == target.shape() => target.copy_from(source),
            _ => {
                let sizes = format!("{} in one, {} in the other", source.shape(), target.shape());
                return Err(Error::data(format!("parameter '{name}' has other sizes in the two models: {sizes}")));
            }
        }
        copied += 1;
    }
    Ok(copied)
}

fn map_rows(source: &Tensor, target: &Tensor, rows: &[Option<u32>]) -> Result<()> {
    let width = |t: &Tensor| t.len() / t.dims()[0].max(1);
    let (old, new, e) = (source.dims()[0], target.dims()[0], width(target));
    if new != rows.len() || width(source) != e {
        let sizes = format!("{} in one, {} in the other", source.shape(), target.shape());
        return Err(Error::data(format!("the embedding has other sizes in the two models: {sizes}")));
    }
    let values = source.to_f64();
    let mut mean = vec![0.0; e];
    for row in values.chunks_exact(e) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += v / old as f64);
    }
    let mut mapped = Vec::with_capacity(new * e);
    for row in rows {
        match row {
            Some(r) => mapped.extend_from_slice(&values[*r as usize * e..][..e]),
            None => mapped.extend_from_slice(&mean),
        }
    }
    target.set_f64(&mapped);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn parameters(v: usize) -> Parameters {
        let mut builder = Parameters::builder();
        builder.declare("words", &[v, 2], 0, Role::VocabularyRows);
        builder.add("x", &[3], 0);
        builder.build(DType::F32).unwrap()
    }

    #[test]
    fn new_words_get_the_mean_row() {
        let (from, to) = (parameters(3), parameters(4));
        from.value(ParameterId(0)).set_f64(&[1.0, 2.0, 3.0, 4.0, 8.0, 0.0]);
        assert_eq!(transfer(&from, &to, &[Some(2), None, Some(0), Some(0)]).unwrap(), 2);
        assert_eq!(to.value(ParameterId(0)).to_f64(), [8.0, 0.0, 4.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn files_round_trip_and_bad_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let (a, b) = (parameters(3), parameters(3));
        a.value(ParameterId(1)).set_f64(&[1.5, -2.0, 3.0]);
        save_model(&path, &a).unwrap();
        load_model(&path, &b, &BTreeMap::new()).unwrap();
        assert_eq!(b.value(ParameterId(1)).to_f64(), [1.5, -2.0, 3.0]);
        let shape = load_model(&path, &parameters(4), &BTreeMap::new()).unwrap_err().to_string();
        assert!(shape.contains("'words' is f32 [3, 2]"), "{shape}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(
            load_model(&path, &b, &BTreeMap::new()).unwrap_err().to_string().contains("not a whole safetensors file")
        );
        a.value(ParameterId(1)).set_f64(&[f64::NAN, 0.0, 0.0]);
        save_model(&path, &a).unwrap();
        let nan = load_model(&path, &b, &BTreeMap::new()).unwrap_err().to_string();
        assert!(nan.contains("'x' holds a value that is not finite"), "{nan}");
    }
}
