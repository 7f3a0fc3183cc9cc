//! Writes what `torch.load` reads: a ZIP archive with a pickle that names tensors, and their bytes.
//! The pickle calls only what torch allows with `weights_only=True`.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

/// Values of a tensor by name; two names may stand for the same values.
#[derive(Clone, Debug)]
pub enum Values {
    F32(Vec<f32>),
    /// A counter.
    I64(i64),
    /// The values of an earlier tensor of the file.
    Same(String),
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Values,
}

/// The file of an ordered dictionary of tensors, as `torch.save(OrderedDict(..))` writes it.
///
/// # Errors
/// The end of a sentence: the archive cannot be written.
pub fn file(entries: &[Entry]) -> Result<Vec<u8>, String> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(false);
    let mut add = |name: &str, content: &[u8]| -> Result<(), String> {
        let failed = |e: String| format!("cannot be written: {e}");
        zip.start_file(format!("model/{name}"), stored).map_err(|e| failed(e.to_string()))?;
        zip.write_all(content).map_err(|e| failed(e.to_string()))
    };
    let (pickle, storages) = pickle(entries)?;
    add("data.pkl", &pickle)?;
    add("byteorder", b"little")?;
    for (number, values) in storages.iter().enumerate() {
        let bytes = match values {
            Values::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::I64(value) => value.to_le_bytes().to_vec(),
            Values::Same(_) => unreachable!("a storage is of values"),
        };
        add(&format!("data/{number}"), &bytes)?;
    }
    add("version", b"3\n")?;
    Ok(zip.finish().map_err(|e| format!("cannot be written: {e}"))?.into_inner())
}

/// The pickle, and the storages by their numbers.
fn pickle(entries: &[Entry]) -> Result<(Vec<u8>, Vec<&Values>), String> {
    const ORDERED: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02".to_vec();
    out.extend_from_slice(ORDERED);
    out.push(b'(');
    let (mut storages, mut numbers) = (Vec::new(), BTreeMap::new());
    for entry in entries {
        let number = match &entry.values {
            Values::Same(name) => {
                *numbers.get(name.as_str()).ok_or_else(|| format!("has no tensor '{name}' to share"))?
            }
            values => {
                storages.push(values);
                storages.len() - 1
            }
        };
        numbers.insert(entry.name.as_str(), number);
        let (class, count) = match storages[number] {
            Values::F32(values) => ("FloatStorage", values.len()),
            _ => ("LongStorage", 1),
        };
        text(&mut out, &entry.name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend_from_slice(format!("ctorch\n{class}\n").as_bytes());
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        whole(&mut out, count);
        // the reference, the first element, sizes, strides, no gradient, no hooks
        out.extend_from_slice(b"tQ");
        whole(&mut out, 0);
        out.push(b'(');
        entry.shape.iter().for_each(|&size| whole(&mut out, size));
        out.extend_from_slice(b"t(");
        for axis in 0..entry.shape.len() {
            whole(&mut out, entry.shape[axis + 1..].iter().product());
        }
        out.extend_from_slice(b"t\x89");
        out.extend_from_slice(ORDERED);
        out.extend_from_slice(b"tR");
    }
    out.extend_from_slice(b"u.");
    Ok((out, storages))
}

/// A pickled list of texts, or several of them in a tuple: fastai's vocabularies.
pub fn lists(all: &[Vec<&str>]) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    if all.len() > 1 {
        out.push(b'(');
    }
    for list in all {
        out.extend_from_slice(b"](");
        list.iter().for_each(|word| text(&mut out, word));
        out.push(b'e');
    }
    if all.len() > 1 {
        out.push(b't');
    }
    out.push(b'.');
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn whole(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend_from_slice(&value.to_le_bytes());
        }
        Err(_) => {
            out.extend_from_slice(b"\x8a\x09");
            out.extend_from_slice(&(value as u64).to_le_bytes());
            out.push(0);
        }
    }
}
