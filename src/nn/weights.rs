//! Weights as files, and from one model to another.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::autodiff::{ParameterId, Parameters, Role};
use crate::error::{Error, Result};
use crate::files::{self, Hash};
use crate::tensor::{DType, Device, Element, Tensor};

/// Longest header that is read, as in the format's own library.
const HEADER_LIMIT: u64 = 100_000_000;

fn file_type(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::U32 => Dtype::U32,
        DType::BF16 => Dtype::BF16,
    }
}

/// Named tensors on their way into a safetensors file. They are written from where they lie: a model of gigabytes takes no memory
/// besides. The order of names does not matter to the bytes.
struct Saved<'a> {
    tensors: Vec<(String, &'a Tensor)>,
    /// Its length and padding included.
    header: Vec<u8>,
}

impl<'a> Saved<'a> {
    fn new(
        tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
        metadata: Option<(&str, String)>,
    ) -> std::io::Result<Self> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        // the order of the format's own library: the widest types first, then by name
        tensors.sort_by(|(a, s), (b, t)| file_type(t.dtype()).cmp(&file_type(s.dtype())).then(a.cmp(b)));
        let mut end = 0;
        let described = tensors.iter().map(|(name, tensor)| {
            let start = end;
            end += tensor.len() * tensor.dtype().size();
            let (dtype, shape) = (file_type(tensor.dtype()), tensor.dims().to_vec());
            (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        });
        // one entry at most: the format's metadata is a hash map, and two entries would come in any order
        let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_string(), value)]));
        let described = Metadata::new(metadata, described.collect()).map_err(std::io::Error::other)?;
        let mut header = vec![0; 8];
        serde_json::to_writer(&mut header, &described)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = header.len() as u64 - 8;
        header[..8].copy_from_slice(&length.to_le_bytes());
        Ok(Saved { tensors, header })
    }

    /// Hands the bytes of the file on, part by part.
    fn write(&self, mut put: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        put(&self.header)?;
        self.tensors.iter().try_for_each(|(_, tensor)| {
            // from a GPU, one tensor after the other; the tensor itself where it is on the host
            let tensor = tensor.to_device(Device::Cpu).map_err(std::io::Error::other)?;
            match tensor.dtype() {
                DType::F32 => put(bytemuck::cast_slice(&tensor.read::<f32>())),
                DType::F64 => put(bytemuck::cast_slice(&tensor.read::<f64>())),
                DType::U32 => put(bytemuck::cast_slice(&tensor.read::<u32>())),
                DType::BF16 => put(bytemuck::cast_slice(&tensor.read::<crate::tensor::bf16>())),
            }
        })
    }
}

/// Writes named tensors as a safetensors file, atomically.
pub fn save_tensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: Option<(&str, String)>,
) -> Result<()> {
    files::put_with(path, |file| Saved::new(tensors, metadata)?.write(|bytes| file.write_all(bytes)))
}

/// The named tensors of a safetensors file, and its metadata.
pub type Loaded = (HashMap<String, Tensor>, HashMap<String, String>);

/// Reads a safetensors file of f32, f64, u32 or i64 tensors (i64 become u32), tensor by tensor.
pub fn load_tensors(path: &Path) -> Result<Loaded> {
    let unreadable = |e: std::io::Error| Error::io(path, "read", &e);
    let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("is not a whole safetensors file ({e})"));
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut size = [0; 8];
    if length < 8 {
        return Err(broken(&"it ends before its header"));
    }
    file.read_exact(&mut size).map_err(unreadable)?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_LIMIT || size > length - 8 {
        return Err(broken(&format!("its header is said to have {size} bytes")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| broken(&e))?;
    if header.data_len() as u64 != length - 8 - size {
        return Err(broken(&format!(
            "{} bytes of tensors where {} are expected",
            length - 8 - size,
            header.data_len()
        )));
    }
    let mut tensors = HashMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        if info.shape.len() > 4 {
            let axes = info.shape.len();
            return Err(Error::file(path, format!("tensor '{name}' has {axes} axes; at most 4 are known")));
        }
        let tensor = match info.dtype {
            Dtype::F32 => read_into::<f32>(&mut file, &info.shape, DType::F32),
            Dtype::F64 => read_into::<f64>(&mut file, &info.shape, DType::F64),
            Dtype::U32 => read_into::<u32>(&mut file, &info.shape, DType::U32),
            Dtype::I64 => {
                let mut wide = vec![0i64; info.shape.iter().product()];
                file.read_exact(bytemuck::cast_slice_mut(&mut wide)).map_err(unreadable)?;
                let small = |&v: &i64| {
                    u32::try_from(v)
                        .map_err(|_| Error::file(path, format!("tensor '{name}' holds {v}, which is no index")))
                };
                let values = wide.iter().map(small).collect::<Result<Vec<u32>>>()?;
                Ok(Tensor::from_slice(&info.shape[..], &values)?)
            }
            other => return Err(Error::file(path, format!("tensor '{name}' has the unsupported type {other:?}"))),
        };
        tensors.insert(name, tensor.map_err(unreadable)?);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn read_into<T: Element>(file: &mut File, shape: &[usize], dtype: DType) -> std::io::Result<Tensor> {
    let tensor = Tensor::zeros(shape, dtype).map_err(std::io::Error::other)?;
    file.read_exact(bytemuck::cast_slice_mut(&mut tensor.write::<T>()))?;
    Ok(tensor)
}

fn model_tensors(parameters: &Parameters) -> impl Iterator<Item = (String, &Tensor)> {
    parameters.ids().map(|id| (parameters.name(id).to_string(), parameters.value(id)))
}

/// Writes `model.safetensors`: parameters and buffers under their names; no time, path or thread count.
pub fn save_model(path: &Path, parameters: &Parameters) -> Result<()> {
    save_tensors(path, model_tensors(parameters), None)
}

/// SHA-256 of what [`save_model`] writes.
pub fn model_hash(parameters: &Parameters) -> Result<String> {
    let mut hash = Hash::default();
    Saved::new(model_tensors(parameters), None)
        .and_then(|saved| saved.write(|bytes| hash.write_all(bytes)))
        .map_err(|e| Error::data(format!("the model cannot be hashed: {e}")))?;
    Ok(hash.hex())
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

/// Copies every parameter of `to` that `from` has under the same name and shape. Those with a row or a value for every word follow
/// `rows`: row `i` of `to` is row `rows[i]` of `from`, or the mean of all rows of `from` for a new word (docs/SPEC.md §2.3). Returns how
/// many parameters were copied.
///
/// # Errors
/// [`Error::Data`]: a parameter has other sizes in the two models.
pub fn transfer(from: &Parameters, to: &Parameters, rows: &[Option<u32>]) -> Result<usize> {
    let mut copied = 0;
    for id in to.ids() {
        let name = to.name(id);
        let Some(source) = from.find(name) else { continue };
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
    fn files_are_those_of_the_library_of_the_format() {
        use safetensors::tensor::TensorView;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let (narrow, wide) = ([1.5f32, -2.0, 0.25], [0.1f64]);
        let tensors = [Tensor::from_slice([3, 1], &narrow).unwrap(), Tensor::from_slice([1], &wide).unwrap()];
        let named = ["b", "a", "wide"].map(String::from).into_iter().zip([&tensors[0], &tensors[0], &tensors[1]]);
        save_tensors(&path, named, Some(("state", "{\"é\": 1}".to_string()))).unwrap();
        let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
        let (narrow, wide) = (bytemuck::cast_slice(&narrow), bytemuck::cast_slice(&wide));
        let expected = safetensors::serialize(
            [
                ("wide", view(Dtype::F64, &[1], wide)),
                ("a", view(Dtype::F32, &[3, 1], narrow)),
                ("b", view(Dtype::F32, &[3, 1], narrow)),
            ],
            Some(HashMap::from([("state".to_string(), "{\"é\": 1}".to_string())])),
        );
        assert!(std::fs::read(&path).unwrap() == expected.unwrap());
        let (loaded, metadata) = load_tensors(&path).unwrap();
        assert_eq!((loaded["b"].to_f64(), loaded["wide"].to_f64()), (tensors[0].to_f64(), tensors[1].to_f64()));
        assert_eq!(metadata["state"], "{\"é\": 1}");
    }

    #[test]
    fn files_round_trip_and_bad_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let (a, b) = (parameters(3), parameters(3));
        a.value(ParameterId(1)).set_f64(&[1.5, -2.0, 3.0]);
        save_model(&path, &a).unwrap();
        load_model(&path, &b).unwrap();
        assert_eq!(b.value(ParameterId(1)).to_f64(), [1.5, -2.0, 3.0]);
        let shape = load_model(&path, &parameters(4)).unwrap_err().to_string();
        assert!(shape.contains("'words' is f32 [3, 2]"), "{shape}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(load_model(&path, &b).unwrap_err().to_string().contains("not a whole safetensors file"));
        a.value(ParameterId(1)).set_f64(&[f64::NAN, 0.0, 0.0]);
        save_model(&path, &a).unwrap();
        let nan = load_model(&path, &b).unwrap_err().to_string();
        assert!(nan.contains("'x' holds a value that is not finite"), "{nan}");
    }
}
