//! Named tensors in a file, in the safetensors format.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use crc32fast::Hasher;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{DType, Device, Element, Tensor};
use crate::error::{Error, Result};
use crate::files::{self, Hash};

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

/// Named tensors on their way into a safetensors file. They are written from where they lie: a
/// model of gigabytes takes no memory besides. The order of names does not matter to the bytes.
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
        // one entry at most: the format's metadata is a hash map, and two entries would come in any
        // order
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
                DType::BF16 => put(bytemuck::cast_slice(&tensor.read::<super::bf16>())),
            }
        })
    }
}

/// Writes named tensors as a safetensors file, atomically.
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: Option<(&str, String)>,
) -> Result<()> {
    files::put_with(path, |file| Saved::new(tensors, metadata)?.write(|bytes| file.write_all(bytes)))
}

/// As [`save`]; the file that was there is kept at `kept`.
pub fn save_keeping<'a>(
    path: &Path,
    kept: &Path,
    tensors: impl IntoIterator<Item = (String, &'a Tensor)>,
    metadata: Option<(&str, String)>,
) -> Result<()> {
    files::put_keeping(path, kept, |file| Saved::new(tensors, metadata)?.write(|bytes| file.write_all(bytes)))
}

/// SHA-256 of the file that [`save`] writes of these tensors, as hexadecimal digits.
///
/// # Errors
/// [`Error::Data`]: they cannot be brought to the host, or described.
pub fn hash<'a>(tensors: impl IntoIterator<Item = (String, &'a Tensor)>) -> Result<String> {
    let mut hash = Hash::default();
    Saved::new(tensors, None)
        .and_then(|saved| saved.write(|bytes| hash.write_all(bytes)))
        .map_err(|e| Error::data(format!("tensors cannot be hashed: {e}")))?;
    Ok(hash.hex())
}

/// CRC-32 of the bytes of a tensor, as hexadecimal digits: every flipped bit changes it.
///
/// # Errors
/// [`Error::Data`]: the tensor cannot be brought to the host.
pub fn digest(tensor: &Tensor) -> Result<String> {
    let tensor = tensor.to_device(Device::Cpu)?;
    let sum = |bytes: &[u8]| {
        // parts that threads can share out; their sums are put together
        let parts: Vec<Hasher> = bytes
            .par_chunks(1 << 20)
            .map(|part| {
                let mut hasher = Hasher::new();
                hasher.update(part);
                hasher
            })
            .collect();
        let mut all = Hasher::new();
        parts.iter().for_each(|part| all.combine(part));
        format!("{:08x}", all.finalize())
    };
    Ok(match tensor.dtype() {
        DType::F32 => sum(bytemuck::cast_slice(&tensor.read::<f32>())),
        DType::F64 => sum(bytemuck::cast_slice(&tensor.read::<f64>())),
        DType::U32 => sum(bytemuck::cast_slice(&tensor.read::<u32>())),
        DType::BF16 => sum(bytemuck::cast_slice(&tensor.read::<super::bf16>())),
    })
}

/// The first name that a header has twice: the format's own library takes the last of them.
struct Names {
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Names;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("names of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Names, A::Error> {
                let (mut seen, mut twice) = (HashSet::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    if !seen.insert(name.clone()) {
                        twice.get_or_insert(name);
                    }
                }
                Ok(Names { twice })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The named tensors of a safetensors file, and its metadata.
pub type Content = (HashMap<String, Tensor>, HashMap<String, String>);

/// Reads a safetensors file of f32, f64, u32 or i64 tensors (i64 become u32), tensor by tensor.
pub fn load(path: &Path) -> Result<Content> {
    let unreadable = |e: std::io::Error| Error::io(path, "read", &e);
    let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("is not a whole safetensors file ({e})"));
    let mut file = files::open(path)?;
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
    if let Some(name) = serde_json::from_slice::<Names>(&header).map_err(|e| broken(&e))?.twice {
        return Err(broken(&format!("two of its tensors have the name '{name}'")));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_library_of_the_format() {
        use safetensors::tensor::TensorView;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let (narrow, wide) = ([1.5f32, -2.0, 0.25], [0.1f64]);
        let tensors = [Tensor::from_slice([3, 1], &narrow).unwrap(), Tensor::from_slice([1], &wide).unwrap()];
        let named = ["b", "a", "wide"].map(String::from).into_iter().zip([&tensors[0], &tensors[0], &tensors[1]]);
        save(&path, named, Some(("state", "{\"é\": 1}".to_string()))).unwrap();
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
        let (loaded, metadata) = load(&path).unwrap();
        assert_eq!((loaded["b"].to_f64(), loaded["wide"].to_f64()), (tensors[0].to_f64(), tensors[1].to_f64()));
        assert_eq!(metadata["state"], "{\"é\": 1}");
    }
}
