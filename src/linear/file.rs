//! `linear.safetensors`: a trained model in one file.
//!
//! Tensors: `fingerprints` (u64), `idf` (f32), `weights` (f32, `[features + 1, machines]`), `prior`
//! (f64). Metadata: one entry, `linear`, JSON with the classes, the numbers that are not tensors,
//! and the SHA-256 of everything else.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::counts::FeatureSet;
use super::matrix::Weighting;
use super::model::LinearModel;
use crate::error::{Error, Result};
use crate::files::{self, Hash};

/// The file's name in the directory of a model.
pub const LINEAR_FILE: &str = "linear.safetensors";
/// Larger files are refused.
const LARGEST_FILE: u64 = 16 << 30;
/// Key of the metadata.
const HEADER: &str = "linear";
/// Version of the file: of its layout, and of the features (`features.rs`).
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    labels: Vec<String>,
    /// How many of the features are words and pairs of words.
    words: u32,
    characters: bool,
    c: f64,
    scale: f64,
    /// Hash of the tensors and of this header with an empty digest.
    sha256: String,
}

impl Header {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("a header is plain data")
    }

    fn digest(&self, tensors: &[&[u8]]) -> String {
        let mut hash = Hash::default();
        tensors.iter().for_each(|bytes| hash.add(bytes));
        let Header { format, ref labels, words, characters, c, scale, .. } = *self;
        let empty = Header { format, labels: labels.clone(), words, characters, c, scale, sha256: String::new() };
        hash.add(empty.json());
        hash.hex()
    }
}

/// The four tensors, in the order of the digest.
const TENSORS: [&str; 4] = ["fingerprints", "idf", "weights", "prior"];

impl LinearModel {
    /// Whether a directory has such a model.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(LINEAR_FILE).is_file()
    }

    /// Writes `linear.safetensors` into a directory: whole, or not at all. The same model gives the
    /// same bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = directory.join(LINEAR_FILE);
        let bytes: [&[u8]; 4] = [
            bytemuck::cast_slice(self.set.fingerprints()),
            bytemuck::cast_slice(&self.weighting.idf),
            bytemuck::cast_slice(&self.weights),
            bytemuck::cast_slice(&self.prior),
        ];
        let mut header = Header {
            format: FORMAT,
            labels: self.labels.clone(),
            words: self.set.words(),
            characters: self.set.characters(),
            c: self.c,
            scale: self.scale,
            sha256: String::new(),
        };
        header.sha256 = header.digest(&bytes);
        let rows = self.set.len() + 1;
        let of_weights = vec![rows, self.weights.len() / rows];
        let shapes = [vec![rows - 1], vec![self.weighting.idf.len()], of_weights, vec![self.prior.len()]];
        let types = [Dtype::U64, Dtype::F32, Dtype::F32, Dtype::F64];
        let unwritable = |e: safetensors::SafeTensorError| Error::file(&path, format!("cannot be written: {e}"));
        let view = |k: usize| Ok((TENSORS[k], TensorView::new(types[k], shapes[k].clone(), bytes[k])?));
        let views: Vec<_> = (0..4).map(view).collect::<std::result::Result<_, _>>().map_err(unwritable)?;
        let metadata = HashMap::from([(HEADER.to_string(), header.json())]);
        files::put(&path, &safetensors::serialize(views, Some(metadata)).map_err(unwritable)?)
    }

    /// Reads the model of a directory.
    ///
    /// # Errors
    /// No such file; it is damaged: shapes that do not fit, a value that is not finite, another
    /// digest; it is of a newer program.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(LINEAR_FILE);
        let file = files::read(&path, LARGEST_FILE)?;
        parse(&file).map_err(|why| {
            Error::file(&path, why).hint("restore the file, or train the model again: ulmfit linear --train FILE")
        })
    }
}

/// The model in the bytes of a file, or the fault of the bytes.
fn parse(file: &[u8]) -> std::result::Result<LinearModel, String> {
    let broken = |e: safetensors::SafeTensorError| format!("is not a whole safetensors file ({e})");
    let (_, metadata) = SafeTensors::read_metadata(file).map_err(broken)?;
    let json = metadata.metadata().as_ref().and_then(|m| m.get(HEADER)).ok_or("is not a linear model")?;
    let header: Header = serde_json::from_str(json).map_err(|e| format!("has an unreadable header ({e})"))?;
    if header.format != FORMAT {
        return Err(format!("has format {}, this program reads {FORMAT}", header.format));
    }
    let tensors = SafeTensors::deserialize(file).map_err(broken)?;
    let get = |name: &str, dtype: Dtype| {
        let tensor = tensors.tensor(name).map_err(|_| format!("has no tensor '{name}'"))?;
        if tensor.dtype() != dtype {
            return Err(format!("tensor '{name}' is {:?}, not {dtype:?}", tensor.dtype()));
        }
        Ok((tensor.shape().to_vec(), tensor.data()))
    };
    let fingerprints = get(TENSORS[0], Dtype::U64)?;
    let (idf, weights) = (get(TENSORS[1], Dtype::F32)?, get(TENSORS[2], Dtype::F32)?);
    let prior = get(TENSORS[3], Dtype::F64)?;
    let classes = header.labels.len();
    let features = fingerprints.0.first().copied().unwrap_or(0);
    let machines = if classes == 2 { 1 } else { classes };
    for (name, found, expected) in [
        (TENSORS[0], &fingerprints.0, vec![features]),
        (TENSORS[1], &idf.0, vec![features]),
        (TENSORS[2], &weights.0, vec![features + 1, machines]),
        (TENSORS[3], &prior.0, vec![classes]),
    ] {
        if *found != expected {
            return Err(format!("tensor '{name}' has the shape {found:?}, not {expected:?}"));
        }
    }
    if classes < 2 || header.words as usize > features {
        return Err(format!("has {classes} classes, and {} words among {features} features", header.words));
    }
    if header.digest(&[fingerprints.1, idf.1, weights.1, prior.1]) != header.sha256 {
        return Err("is damaged: it does not have the SHA-256 that it names".into());
    }
    let fingerprints: Vec<u64> = bytemuck::pod_collect_to_vec(fingerprints.1);
    let idf: Vec<f32> = bytemuck::pod_collect_to_vec(idf.1);
    let weights: Vec<f32> = bytemuck::pod_collect_to_vec(weights.1);
    let prior: Vec<f64> = bytemuck::pod_collect_to_vec(prior.1);
    for (name, finite) in [
        (TENSORS[1], idf.iter().all(|v| v.is_finite())),
        (TENSORS[2], weights.iter().all(|v| v.is_finite())),
        (TENSORS[3], prior.iter().all(|v| v.is_finite())),
        ("scale", header.scale.is_finite() && header.scale > 0.0),
    ] {
        if !finite {
            return Err(format!("'{name}' has a value that is not a finite number"));
        }
    }
    let set = FeatureSet::from_fingerprints(fingerprints, header.words, header.characters);
    if set.distinct() != features {
        return Err("has a feature twice".into());
    }
    Ok(LinearModel {
        labels: header.labels,
        set,
        weighting: Weighting { idf, words: header.words },
        weights,
        prior,
        c: header.c,
        scale: header.scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 6] = ["good film", "bad film", "a good one", "a bad one", "so good", "so bad"];

    fn model(classes: usize) -> LinearModel {
        let names: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
        let labels: Vec<u32> = (0..6).map(|i| i % classes as u32).collect();
        LinearModel::fit(&TEXTS, &labels, &names, 1, &|| Ok(())).unwrap().0
    }

    #[test]
    fn what_is_saved_is_loaded() {
        for classes in [2, 3] {
            let directory = tempfile::tempdir().unwrap();
            let model = model(classes);
            assert!(!LinearModel::is_in(directory.path()));
            model.save(directory.path()).unwrap();
            assert!(LinearModel::is_in(directory.path()));
            let loaded = LinearModel::load(directory.path()).unwrap();
            assert_eq!((loaded.labels(), loaded.features(), loaded.c()), (model.labels(), model.features(), model.c()));
            assert_eq!(loaded.predict(&TEXTS), model.predict(&TEXTS));
            let file = std::fs::read(directory.path().join(LINEAR_FILE)).unwrap();
            loaded.save(directory.path()).unwrap();
            assert!(std::fs::read(directory.path().join(LINEAR_FILE)).unwrap() == file, "the same bytes");
        }
    }

    /// The file of a model whose parts were changed before it was saved; its digest is right.
    fn refused(change: impl Fn(&mut LinearModel)) -> String {
        let directory = tempfile::tempdir().unwrap();
        let mut model = model(3);
        change(&mut model);
        model.save(directory.path()).unwrap();
        LinearModel::load(directory.path()).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let missing = tempfile::tempdir().unwrap();
        let e = LinearModel::load(missing.path()).map(drop).unwrap_err().to_string();
        assert!(e.contains("linear.safetensors: cannot read: no such file"), "{e}");
        for (part, change) in [
            (
                "'weights' has the shape",
                (&|m: &mut LinearModel| m.labels.push("more".into())) as &dyn Fn(&mut LinearModel),
            ),
            ("'idf' has the shape", &|m| m.weighting.idf.truncate(1)),
            ("'prior' has the shape", &|m| m.prior.truncate(2)),
            ("'weights' has a value", &|m| m.weights[3] = f32::NAN),
            ("'idf' has a value", &|m| m.weighting.idf[0] = f32::INFINITY),
            ("'prior' has a value", &|m| m.prior[0] = f64::NAN),
            ("'scale' has a value", &|m| m.scale = 0.0),
            ("has a feature twice", &|m| {
                let mut all = m.set.fingerprints().to_vec();
                all[1] = all[0];
                m.set = FeatureSet::from_fingerprints(all, m.set.words(), true);
            }),
            ("words among", &|m| {
                m.set = FeatureSet::from_fingerprints(m.set.fingerprints().to_vec(), u32::MAX, true);
            }),
        ] {
            let e = refused(change);
            assert!(e.contains(part), "{part}: {e}");
        }
    }

    /// Every byte counts: one that differs is noticed, wherever it is, and so is an end that is
    /// missing.
    #[test]
    fn damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        model(2).save(directory.path()).unwrap();
        let path = directory.path().join(LINEAR_FILE);
        let whole = std::fs::read(&path).unwrap();
        assert!(parse(&whole).is_ok());
        for at in (0..whole.len()).step_by(whole.len() / 400 + 1) {
            let mut file = whole.clone();
            file[at] ^= 0x20;
            assert!(parse(&file).is_err(), "byte {at}");
            assert!(parse(&whole[..at]).is_err(), "{at} bytes");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let e = LinearModel::load(directory.path()).map(drop).unwrap_err();
        assert!(e.to_string().contains("is not a whole safetensors file") && e.hint_text().is_some(), "{e}");
    }
}
