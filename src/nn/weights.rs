//! Weights as files, and from one model to another.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::language_model::{TAIL_BIAS, TAIL_WEIGHT};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Writes a file beside its place, syncs it and renames it: a reader sees the old file or the new one, never half of one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".partial");
    let temporary = Path::new(&temporary);
    let write = || {
        let mut file = std::fs::File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(temporary, path)?;
        // the name itself is durable once the directory is synced
        match path.parent().map(std::fs::File::open) {
            Some(Ok(directory)) => directory.sync_all().or(Ok(())),
            _ => Ok(()),
        }
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(temporary);
        Error::io(path, "write", &e)
    })
}

/// Serialises named tensors (f32, f64 or u32) in the safetensors format; the order of names does not matter to the bytes.
pub fn serialise<'a>(
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    let data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, tensor)| {
            let (dtype, bytes) = match tensor.dtype() {
                DType::F32 => (Dtype::F32, bytemuck::cast_slice(&tensor.read::<f32>()).to_vec()),
                DType::F64 => (Dtype::F64, bytemuck::cast_slice(&tensor.read::<f64>()).to_vec()),
                DType::U32 => (Dtype::U32, bytemuck::cast_slice(&tensor.read::<u32>()).to_vec()),
                DType::BF16 => (Dtype::BF16, bytemuck::cast_slice(&tensor.read::<crate::tensor::bf16>()).to_vec()),
            };
            (name, dtype, tensor.dims().to_vec(), bytes)
        })
        .collect();
    let mut views = Vec::with_capacity(data.len());
    for (name, dtype, shape, bytes) in &data {
        let view = TensorView::new(*dtype, shape.clone(), bytes)
            .map_err(|e| Error::data(format!("tensor '{name}' cannot be saved: {e}")))?;
        views.push((name.as_str(), view));
    }
    // one entry at most: the format's metadata is a hash map, and two entries would come in any order
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_string(), value)]));
    safetensors::serialize(views, metadata).map_err(|e| Error::data(format!("the tensors cannot be saved: {e}")))
}

/// The named tensors of a safetensors file, and its metadata.
pub type Loaded = (HashMap<String, Tensor>, HashMap<String, String>);

/// Reads a safetensors file of f32, f64, u32 or i64 tensors (i64 become u32).
pub fn load_tensors(path: &Path) -> Result<Loaded> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", &e))?;
    let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("is not a whole safetensors file ({e})"));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.iter() {
        if view.shape().len() > 4 {
            return Err(Error::file(
                path,
                format!("tensor '{name}' has {} axes; at most 4 are known", view.shape().len()),
            ));
        }
        let data = view.data();
        let tensor = match view.dtype() {
            Dtype::F32 => Tensor::from_slice(view.shape(), &bytemuck::allocation::pod_collect_to_vec::<u8, f32>(data))?,
            Dtype::F64 => Tensor::from_slice(view.shape(), &bytemuck::allocation::pod_collect_to_vec::<u8, f64>(data))?,
            Dtype::U32 => Tensor::from_slice(view.shape(), &bytemuck::allocation::pod_collect_to_vec::<u8, u32>(data))?,
            Dtype::I64 => {
                let values: Vec<u32> = bytemuck::allocation::pod_collect_to_vec::<u8, i64>(data)
                    .iter()
                    .map(|&v| {
                        u32::try_from(v)
                            .map_err(|_| Error::file(path, format!("tensor '{name}' holds {v}, which is no index")))
                    })
                    .collect::<Result<_>>()?;
                Tensor::from_slice(view.shape(), &values)?
            }
            other => return Err(Error::file(path, format!("tensor '{name}' has the unsupported type {other:?}"))),
        };
        tensors.insert(name.to_string(), tensor);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

/// The bytes of `model.safetensors`: parameters and buffers under their names; no time, path or thread count.
pub fn model_bytes(parameters: &Parameters) -> Result<Vec<u8>> {
    serialise(parameters.ids().map(|id| (parameters.name(id).to_string(), parameters.value(id))), None)
}

/// Loads `model.safetensors` into declared parameters. A missing or surplus tensor, another shape or type, and a value that is not
/// finite are errors that name the tensor.
pub fn load_model(path: &Path, parameters: &Parameters) -> Result<()> {
    let (mut tensors, _) = load_tensors(path)?;
    for id in parameters.ids() {
        let name = parameters.name(id);
        let Some(tensor) = tensors.remove(name) else {
            return Err(Error::file(path, format!("has no tensor '{name}', which this model needs")));
        };
        put(path, parameters, id, &tensor)?;
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
    if let Some(at) = tensor.to_f64().iter().position(|v| !v.is_finite()) {
        return Err(Error::file(path, format!("tensor '{name}' holds a value that is not finite, at element {at}")));
    }
    value.copy_from(tensor);
    Ok(())
}

/// Copies every parameter of `to` that `from` has under the same name and shape, except the embedding and the decoder's bias, whose
/// rows follow `rows`: row `i` of `to` is row `rows[i]` of `from`, or the mean of all rows of `from` for a new word
/// (docs/SPEC.md §2.3). Returns how many parameters were copied.
pub fn transfer(from: &Parameters, to: &Parameters, rows: &[Option<u32>]) -> Result<usize> {
    let mut copied = 0;
    for id in to.ids() {
        let name = to.name(id);
        let Some(source) = from.find(name) else { continue };
        let (source, target) = (from.value(source), to.value(id));
        if matches!(name, TAIL_WEIGHT | TAIL_BIAS) && source.shape() != target.shape() {
            // another number of tails: they stand for other words, and start anew
            continue;
        }
        if matches!(name, "encoder.weight" | "decoder.bias") {
            map_rows(source, target, rows)?;
        } else if source.shape() == target.shape() {
            target.copy_from(source);
        } else {
            let sizes = format!("{} in one, {} in the other", source.shape(), target.shape());
            return Err(Error::data(format!("parameter '{name}' has other sizes in the two models: {sizes}")));
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

    fn parameters(v: usize) -> Parameters {
        let mut builder = Parameters::builder();
        builder.add("encoder.weight", &[v, 2], 0);
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
        write_atomically(&path, &model_bytes(&a).unwrap()).unwrap();
        load_model(&path, &b).unwrap();
        assert_eq!(b.value(ParameterId(1)).to_f64(), [1.5, -2.0, 3.0]);
        let shape = load_model(&path, &parameters(4)).unwrap_err().to_string();
        assert!(shape.contains("'encoder.weight' is f32 [3, 2]"), "{shape}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(load_model(&path, &b).unwrap_err().to_string().contains("not a whole safetensors file"));
        a.value(ParameterId(1)).set_f64(&[f64::NAN, 0.0, 0.0]);
        write_atomically(&path, &model_bytes(&a).unwrap()).unwrap();
        let nan = load_model(&path, &b).unwrap_err().to_string();
        assert!(nan.contains("'x' holds a value that is not finite"), "{nan}");
    }
}
