//! Tensors by name from files of `torch.save`: a ZIP archive, or the older format of pickles in
//! a row. No code of the file is run (see [`pickle`](super::pickle)).

use std::collections::HashMap;
use std::io::{Cursor, Read};

use half::{bf16, f16};

use super::pickle::{Id, Node, Pickle};

/// Values of a tensor in f32, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Tensors in the order of the file.
pub type Named = Vec<(String, Array)>;

/// Deepest module within a module.
const DEEPEST: usize = 32;
/// The first bytes of the older format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// Whether a file is a ZIP archive.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Reads all tensors of a file that `torch.save` wrote: of a state dict, also under `model`, or of
/// a whole module.
///
/// # Errors
/// The end of a sentence about the file.
pub fn read(bytes: &[u8]) -> Result<Named, String> {
    let (pickle, storages) = if is_archive(bytes) { archive(bytes)? } else { legacy(bytes)? };
    Reader { pickle: &pickle, storages: &storages }.all()
}

/// The bytes of every storage, and their order.
struct Storages {
    by_key: HashMap<String, Vec<u8>>,
    big_endian: bool,
}

fn archive(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
    let bad = |e: zip::result::ZipError| format!("is not a whole archive: {e}");
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(bad)?;
    let names = zip.file_names().map(|name| name.map(|name| name.into_owned()));
    let names: Vec<String> = names.collect::<Result<_, _>>().map_err(bad)?;
    let main = names.iter().find(|name| name.ends_with("data.pkl") && !name.contains("constants"));
    let main = main.ok_or("is an archive without data.pkl: torch.save did not write it")?.clone();
    let root = main.strip_suffix("data.pkl").unwrap_or_default().to_string();
    let mut entry = |name: &str| -> Result<Vec<u8>, String> {
        let file = zip.by_name(name).map_err(bad)?;
        let (size, most) = (file.size(), bytes.len() as u64);
        // torch stores without compression; a compressed member could unpack to any size
        if size > most {
            return Err(format!("says that '{name}' has {size} bytes, more than the file"));
        }
        let mut out = Vec::with_capacity(size as usize);
        file.take(most).read_to_end(&mut out).map_err(|e| format!("is not a whole archive: {e}"))?;
        Ok(out)
    };
    let pickle = Pickle::read(&entry(&main)?).map_err(|e| format!("has a data.pkl that {e}"))?;
    let order = format!("{root}byteorder");
    let big_endian = match names.contains(&order) {
        true => match entry(&order)?.as_slice() {
            b"little" => false,
            b"big" => true,
            _ => return Err("names a byte order that is neither little nor big".into()),
        },
        false => false,
    };
    let mut by_key = HashMap::new();
    for name in &names {
        if let Some(key) = name.strip_prefix(&format!("{root}data/")) {
            by_key.insert(key.to_string(), entry(name)?);
        }
    }
    Ok((pickle, Storages { by_key, big_endian }))
}

fn legacy(bytes: &[u8]) -> Result<(Pickle, Storages), String> {
    let mut at = 0;
    let mut next = |what: &str| -> Result<Pickle, String> {
        let pickle = Pickle::read(&bytes[at..]).map_err(|e| format!("has no {what} that torch.save wrote: it {e}"))?;
        at += pickle.length;
        Ok(pickle)
    };
    let magic = next("beginning")?;
    if *magic.node(magic.root) != Node::Int(MAGIC) {
        return Err("is neither an archive nor a file of torch.save".into());
    }
    next("version")?;
    let system = next("description of the system")?;
    let little = system.get(system.root, "little_endian").map(|id| system.node(id).clone());
    let big_endian = little == Some(Node::Bool(false));
    let pickle = next("content")?;
    let keys = next("list of storages")?;
    let sizes = storage_sizes(&pickle);
    let mut by_key = HashMap::new();
    for &id in keys.items(keys.root).ok_or("has no list of storages")? {
        let key = keys.text(id).ok_or("has a storage without a name")?.to_string();
        let &size = sizes.get(&key).ok_or_else(|| format!("has a storage '{key}' that nothing names"))?;
        let count: [u8; 8] = bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).ok_or("ends within its tensors")?;
        let count = if big_endian { u64::from_be_bytes(count) } else { u64::from_le_bytes(count) };
        at += 8;
        let end = usize::try_from(count).ok().and_then(|n| n.checked_mul(size)).and_then(|n| n.checked_add(at));
        let data = end.and_then(|end| bytes.get(at..end)).ok_or("ends within its tensors")?;
        at += data.len();
        by_key.insert(key, data.to_vec());
    }
    Ok((pickle, Storages { by_key, big_endian }))
}

/// Bytes of an element of every storage that a pickle names.
fn storage_sizes(pickle: &Pickle) -> HashMap<String, usize> {
    let persistent = pickle.nodes.iter().filter_map(|node| match node {
        Node::Persistent(name) => pickle.items(*name),
        _ => None,
    });
    let storage = |items: &[Id]| {
        let [kind, class, key, ..] = *items else { return None };
        (pickle.text(kind)? == "storage").then_some(())?;
        Some((pickle.text(key)?.to_string(), Format::of_storage(&pickle.class_name(class)?)?.bytes()))
    };
    persistent.filter_map(storage).collect()
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    F16,
    Bf16,
    F32,
    F64,
    /// Whole numbers or truth values of so many bytes: counters, which no model needs.
    Whole(usize),
}

impl Format {
    /// By the name of a class of `torch`, as `torch.FloatStorage`.
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class.strip_prefix("torch.")?.strip_prefix("cuda.").unwrap_or(&class["torch.".len()..]) {
            "HalfStorage" => Format::F16,
            "BFloat16Storage" => Format::Bf16,
            "FloatStorage" => Format::F32,
            "DoubleStorage" => Format::F64,
            "LongStorage" => Format::Whole(8),
            "IntStorage" => Format::Whole(4),
            "ShortStorage" => Format::Whole(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" | "UntypedStorage" => Format::Whole(1),
            _ => return None,
        })
    }

    /// By the name of a type, as `torch.float32`.
    fn of_type(class: &str) -> Option<Self> {
        Some(match class.strip_prefix("torch.")? {
            "float16" | "half" => Format::F16,
            "bfloat16" => Format::Bf16,
            "float32" | "float" => Format::F32,
            "float64" | "double" => Format::F64,
            "int64" | "long" => Format::Whole(8),
            "int32" | "int" => Format::Whole(4),
            "int16" | "short" => Format::Whole(2),
            "int8" | "uint8" | "bool" => Format::Whole(1),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Format::F16 | Format::Bf16 => 2,
            Format::F32 => 4,
            Format::F64 => 8,
            Format::Whole(bytes) => bytes,
        }
    }

    /// A number of it; `bytes` in little-endian order.
    fn value(self, bytes: &[u8]) -> f32 {
        match self {
            Format::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Format::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            Format::F32 => f32::from_le_bytes(bytes.try_into().expect("four bytes")),
            Format::F64 => f64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f32,
            Format::Whole(_) => 0.0,
        }
    }
}

struct Reader<'a> {
    pickle: &'a Pickle,
    storages: &'a Storages,
}

impl Reader<'_> {
    fn all(&self) -> Result<Named, String> {
        let p = self.pickle;
        let mut root = p.root;
        // awd-lstm-lm saves the module beside its loss and optimiser
        if let Some([first, ..]) = p.items(root) {
            root = *first;
        }
        let mut found = Named::new();
        if let Some(inner) = p.get(root, "model").filter(|&inner| p.pairs(inner).is_some()) {
            root = inner;
        }
        match p.pairs(root) {
            Some(pairs) => {
                for &(key, value) in pairs {
                    let name = p.text(key).ok_or_else(|| format!("has {} for a name", p.describe(key)))?;
                    let tensor = self.tensor(value, 0)?.ok_or_else(|| {
                        format!("has {} where the tensor '{name}' should be; nothing of it was run", p.describe(value))
                    })?;
                    found.push((name.to_string(), tensor.map_err(|e| format!("has a tensor '{name}' that {e}"))?));
                }
            }
            None => self.module(root, "", 0, &mut found)?,
        }
        match found.is_empty() {
            true => Err(format!("holds no tensors, but {}; nothing of it was run", p.describe(p.root))),
            false => Ok(found),
        }
    }

    /// The parameters and buffers of a pickled module.
    fn module(&self, id: Id, prefix: &str, depth: usize, found: &mut Named) -> Result<(), String> {
        let p = self.pickle;
        if depth > DEEPEST {
            return Err(format!("nests modules more than {DEEPEST} deep"));
        }
        let Node::Object { state: Some(state), .. } = *p.node(id) else { return Ok(()) };
        for kind in ["_parameters", "_buffers"] {
            let Some(all) = p.get(state, kind).and_then(|all| p.pairs(all)) else { continue };
            for &(key, value) in all {
                let Some(name) = p.text(key) else { continue };
                // a bias that a layer does not have is noted as nothing
                if let Some(tensor) = self.tensor(value, 0)? {
                    let name = format!("{prefix}{name}");
                    let tensor = tensor.map_err(|e| format!("has a tensor '{name}' that {e}"))?;
                    found.push((name, tensor));
                }
            }
        }
        let modules = p.get(state, "_modules").and_then(|all| p.pairs(all)).unwrap_or_default();
        for &(key, value) in modules {
            let Some(name) = p.text(key) else { continue };
            self.module(value, &format!("{prefix}{name}."), depth + 1, found)?;
        }
        Ok(())
    }

    /// The tensor that a call of torch's would make; `None` where it is no such call.
    fn tensor(&self, id: Id, depth: usize) -> Result<Option<Result<Array, String>>, String> {
        let p = self.pickle;
        let Node::Object { class, arguments, .. } = p.node(id) else { return Ok(None) };
        let Some(class) = p.class_name(*class) else { return Ok(None) };
        match (class.as_str(), arguments.as_slice()) {
            (
                "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
                [storage, offset, size, stride, ..],
            ) => Ok(Some(self.view(*storage, [*offset, *size, *stride], None))),
            ("torch._utils._rebuild_tensor_v3", [storage, offset, size, stride, _, _, kind, ..]) => {
                Ok(Some(self.view(*storage, [*offset, *size, *stride], Some(*kind))))
            }
            (
                "torch._utils._rebuild_parameter"
                | "torch._utils._rebuild_parameter_with_state"
                | "torch.nn.parameter.Parameter",
                [inner, ..],
            ) if depth < DEEPEST => self.tensor(*inner, depth + 1),
            _ => Ok(None),
        }
    }

    /// A tensor as a view of a storage.
    fn view(&self, storage: Id, [offset, size, stride]: [Id; 3], kind: Option<Id>) -> Result<Array, String> {
        let p = self.pickle;
        let Node::Persistent(name) = p.node(storage) else { return Err("has no storage".into()) };
        let Some([word, class, key, _, count, ..]) = p.items(*name) else { return Err("has no storage".into()) };
        if p.text(*word) != Some("storage") {
            return Err("has no storage".into());
        }
        let class = match kind {
            Some(kind) => kind,
            None => *class,
        };
        let class = p.class_name(class).unwrap_or_default();
        let format = Format::of_storage(&class).or_else(|| Format::of_type(&class));
        let format = format.ok_or_else(|| format!("is of the type '{class}', which is none of f16, bf16, f32, f64"))?;
        let key = p.text(*key).ok_or("has a storage without a name")?;
        let data =
            self.storages.by_key.get(key).ok_or_else(|| format!("lies in a storage '{key}' that is not there"))?;
        let sizes = |id: Id| -> Option<Vec<usize>> { p.items(id)?.iter().map(|&i| p.size(i)).collect() };
        let (shape, strides) =
            (sizes(size).ok_or("has a size that is none")?, sizes(stride).ok_or("has a stride that is none")?);
        let offset = p.size(offset).ok_or("has a place that is none")?;
        let count = p.size(*count).ok_or("has a storage of no size")?;
        if count.checked_mul(if kind.is_some() { 1 } else { format.bytes() }).is_none_or(|bytes| bytes > data.len()) {
            return Err(format!("lies in a storage of {} bytes, fewer than it says", data.len()));
        }
        let places = places(&shape, &strides, offset, data.len() / format.bytes())?;
        let mut values = Vec::with_capacity(places.len());
        let (n, mut buffer) = (format.bytes(), [0u8; 8]);
        for at in places {
            buffer[..n].copy_from_slice(&data[at * n..][..n]);
            if self.storages.big_endian {
                buffer[..n].reverse();
            }
            values.push(format.value(&buffer[..n]));
        }
        Ok(Array { shape, values })
    }
}

/// The places of a tensor's elements in its storage of `count`, row by row.
fn places(shape: &[usize], strides: &[usize], offset: usize, count: usize) -> Result<Vec<usize>, String> {
    const BEYOND: &str = "reaches beyond its storage";
    if shape.len() != strides.len() || shape.len() > 8 {
        return Err("has another number of strides than of sizes".into());
    }
    let n = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).ok_or(BEYOND)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut last = offset;
    for (&size, &stride) in shape.iter().zip(strides) {
        if size > 1 && stride == 0 {
            return Err("repeats values by a stride of 0".into());
        }
        let reach = (size - 1).checked_mul(stride).ok_or(BEYOND)?;
        last = last.checked_add(reach).ok_or(BEYOND)?;
    }
    // more elements than the storage has would overlap
    if last >= count || n > count {
        return Err(BEYOND.into());
    }
    let mut places = Vec::with_capacity(n);
    let mut index = vec![0usize; shape.len()];
    let mut at = offset;
    loop {
        places.push(at);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return Ok(places);
            }
            axis -= 1;
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_strides_and_stay_inside() {
        assert_eq!(places(&[2, 3], &[3, 1], 1, 7).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(places(&[3, 2], &[1, 3], 0, 6).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(places(&[], &[], 2, 3).unwrap(), [2]);
        assert!(places(&[0, 4], &[4, 1], 9, 0).unwrap().is_empty());
        for (shape, strides, offset, why) in [
            (vec![2, 3], vec![3, 1], 2, "beyond"),
            (vec![2], vec![0], 0, "stride of 0"),
            (vec![2, 2], vec![1], 0, "another number"),
            (vec![usize::MAX, 2], vec![1, 1], 0, "beyond"),
            (vec![2], vec![usize::MAX], 1, "beyond"),
            (vec![9], vec![1], usize::MAX, "beyond"),
            (vec![3, 3], vec![1, 1], 0, "beyond"),
        ] {
            let error = places(&shape, &strides, offset, 7).unwrap_err();
            assert!(error.contains(why), "{shape:?} {strides:?}: {error}");
        }
    }
}
