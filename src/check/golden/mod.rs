//! Reference fixtures made with PyTorch and fastai (`tests/golden/README.md`), replayed with this
//! engine and compared, tensor by tensor.
//!
//! A fixture is a safetensors file whose `__metadata__` names the case (`case`), the type it was
//! computed in (`dtype`) and the hyper-parameters. Sizes are read from the tensors: any file of the
//! same form works. Every tensor of a file is either an input or compared; one that a case does not
//! know is an error, so that nothing goes unseen.

mod fixture;
mod import;
mod losses;
mod models;
mod optimisers;
mod sequence;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use self::fixture::Fixture;
use crate::autodiff::Graph;
use crate::device::{DType, Device, Precision};
use crate::error::{Error, Result};

/// Largest difference allowed, relative to the tensor's largest value, for fixtures computed in
/// f64.
pub const TOLERANCE_F64: f64 = 1e-9;
/// As [`TOLERANCE_F64`], for fixtures computed in f32: their own order of rounding differs from
/// ours.
pub const TOLERANCE_F32: f64 = 2e-5;

/// A computation in bf16 has at least this error, relative to a tensor's largest value, because its
/// result is in bf16: half a unit in the last place. A naive one has besides what its operands lose
/// in products: that is measured, in f64 with operands rounded to bf16.
pub const ROUNDING_BF16: f64 = 1.0 / 512.0;

/// A compared tensor of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub file: String,
    pub case: String,
    pub tensor: String,
    /// Largest |ours − theirs| over the largest |theirs|.
    pub error: f64,
    /// The bound.
    pub tolerance: f64,
}

/// One replayed file.
#[derive(Clone, Debug, Serialize)]
pub struct GoldenRow {
    pub file: String,
    pub case: String,
    /// `f64` or `f32`: the type of the fixture, and of the replay.
    pub dtype: String,
    /// Why it was not replayed, if it was not.
    pub skipped: Option<String>,
    /// Compared tensors.
    pub tensors: usize,
    /// Names of those that differ by more than the tolerance.
    pub failures: Vec<String>,
    /// The tensor that differs most.
    pub worst: Option<Difference>,
}

/// The result of the replay; serialises to the JSON of `ulmfit golden`.
#[derive(Clone, Debug, Serialize)]
pub struct GoldenReport {
    pub files: usize,
    /// Files that the device cannot replay: those of f64 on a GPU.
    pub skipped: usize,
    /// Files with a tensor outside the tolerance.
    pub failed: usize,
    /// The tensor that comes nearest to its tolerance, or exceeds it most.
    pub worst: Option<Difference>,
    pub rows: Vec<GoldenRow>,
}

type Replay = fn(&mut Fixture, &mut Graph) -> Result<()>;

/// The cases that are known, by the name in the metadata.
const CASES: &[(&str, Replay)] = &[
    ("adam_l2", optimisers::adam_l2),
    ("adaptive_softmax", losses::adaptive_softmax),
    ("awd_lm", models::language_model),
    ("awd_qrnn", models::language_model),
    ("classifier", models::classifier),
    ("import", import::files),
    ("label_losses", losses::label_losses),
    ("lstm", sequence::lstm),
    ("optim", optimisers::optimisers),
    ("pool_07", sequence::pool_07),
    ("pool_v1", sequence::pool_v1),
    ("pool_v2", sequence::pool_v2),
    ("qrnn", sequence::qrnn),
    ("sampled_softmax", losses::sampled_softmax),
    ("schedules", optimisers::schedules),
    ("stlr", optimisers::stlr),
];

/// Replays fixtures: files, or directories whose `.safetensors` files are taken in the order of
/// their names. A GPU computes in f32: files of f64 are skipped there. In [`Precision::Bf16`] a
/// tensor may have twice the error of a naive computation ([`ROUNDING_BF16`]), and files of f64 are
/// skipped.
///
/// # Errors
/// A file that is missing, cut off, of an unknown case, or not of that case's form. A difference is
/// no error; it is counted.
pub fn golden(paths: &[PathBuf], device: Device, precision: Precision) -> Result<GoldenReport> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, "read", &e))?;
            for entry in entries {
                files.push(entry.map_err(|e| Error::io(path, "read", &e))?.path());
            }
            let is_fixture = |p: &PathBuf| p.extension().is_some_and(|e| e == "safetensors");
            let mut inside: Vec<PathBuf> = files.drain(before..).filter(is_fixture).collect();
            inside.sort();
            if inside.is_empty() {
                return Err(Error::file(path, "the directory holds no .safetensors file"));
            }
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Err(Error::usage("no fixture was given"));
    }
    let rows = match device {
        Device::Cpu => files.par_iter().map(|path| replay(path, device, precision)).collect::<Result<Vec<_>>>()?,
        Device::Cuda(_) => files.iter().map(|path| replay(path, device, precision)).collect::<Result<Vec<_>>>()?,
    };
    let ratio = |d: &&Difference| d.error / d.tolerance;
    let worst = rows.iter().filter_map(|r| r.worst.as_ref()).max_by(|a, b| ratio(a).total_cmp(&ratio(b))).cloned();
    let failed = rows.iter().filter(|r| !r.failures.is_empty()).count();
    let skipped = rows.iter().filter(|r| r.skipped.is_some()).count();
    Ok(GoldenReport { files: rows.len(), skipped, failed, worst, rows })
}

fn replay(path: &Path, device: Device, precision: Precision) -> Result<GoldenRow> {
    let mut fixture = Fixture::open(path, device)?;
    let Some((_, replay)) = CASES.iter().find(|(name, _)| *name == fixture.case) else {
        let known: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
        return Err(Error::file(path, format!("is a fixture of the unknown case '{}'", fixture.case))
            .hint(format!("the cases are {}", known.join(", "))));
    };
    if device != Device::Cpu && fixture.dtype == DType::F64 {
        return Ok(fixture.skipped(format!("{device} computes in f32")));
    }
    let run = |fixture: &mut Fixture| {
        let mut graph = Graph::new(fixture.device, fixture.dtype, None).with_precision(precision);
        replay(fixture, &mut graph).map_err(|e| match e {
            Error::File { .. } => e,
            // an operation refuses the shapes: the file is not of its case's form
            other => Error::file(path, format!("is not a fixture of case '{}': {other}", fixture.case)),
        })
    };
    if precision == Precision::Bf16 {
        if fixture.dtype == DType::F64 {
            return Ok(fixture.skipped("bf16 is a format of products in f32".into()));
        }
        let mut naive = Fixture::open(path, Device::Cpu)?;
        naive.widen()?;
        run(&mut naive)?;
        fixture.allow_twice(&naive);
    }
    run(&mut fixture)?;
    fixture.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
    }

    #[test]
    fn all_committed_fixtures_agree() {
        let report = golden(&[directory()], Device::Cpu, Precision::Full).unwrap();
        let failures: Vec<_> = report.rows.iter().filter(|r| !r.failures.is_empty()).collect();
        assert!(failures.is_empty(), "{failures:#?}");
        // every case, in both types; the models of other programs lie elsewhere
        assert_eq!(report.files, 2 * (CASES.len() - 1));
        for (case, _) in CASES.iter().filter(|(case, _)| *case != "import") {
            let types: Vec<&str> =
                report.rows.iter().filter(|r| r.case == *case && r.tensors > 0).map(|r| r.dtype.as_str()).collect();
            assert_eq!(types, ["f32", "f64"], "{case}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["files"].is_u64() && json["failed"] == 0 && json["worst"]["error"].is_f64());
    }

    #[test]
    fn fixtures_of_f32_agree_in_bf16() {
        let report = golden(&[directory()], Device::Cpu, Precision::Bf16).unwrap();
        let failures: Vec<_> = report.rows.iter().filter(|r| !r.failures.is_empty()).collect();
        assert!(failures.is_empty(), "{failures:#?}");
        let committed = CASES.len() - 1;
        assert_eq!((report.files, report.skipped), (2 * committed, committed));
        // where there are products the operands were rounded, and that is seen
        for case in ["adaptive_softmax", "awd_lm", "awd_qrnn", "classifier", "lstm", "qrnn", "sampled_softmax"] {
            let row = report.rows.iter().find(|r| r.case == case && r.skipped.is_none()).unwrap();
            let worst = row.worst.as_ref().unwrap();
            assert!(worst.error > 10.0 * TOLERANCE_F32, "{worst:?}");
        }
    }

    /// Copies of the fixtures in which one value of one compared tensor is wrong by a little more
    /// than the tolerance.
    #[test]
    fn a_wrong_value_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = |file: &str, tensor: &str| {
            let (tensors, metadata) = crate::tensor::file::load(&directory().join(file)).unwrap();
            let mut values = tensors[tensor].to_f64();
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            values[0] += 3.0 * largest * if file.contains("f64") { TOLERANCE_F64 } else { TOLERANCE_F32 };
            tensors[tensor].set_f64(&values);
            let path = dir.path().join("wrong.safetensors");
            std::fs::write(&path, bytes(&tensors, metadata)).unwrap();
            golden(&[path], Device::Cpu, Precision::Full).unwrap()
        };
        for (file, tensor) in [
            ("lstm_f64.safetensors", "grad.w_hh"),
            ("lstm_f32.safetensors", "c_n"),
            ("awd_lm_f64.safetensors", "w2.grad.emb"),
            ("awd_qrnn_f64.safetensors", "w2.grad.rnn0.w"),
            ("classifier_f64.safetensors", "grad.rnn1.w_hh"),
            ("classifier_f32.safetensors", "stat.bn1.running_var"),
            ("optim_f64.safetensors", "asgd.ax"),
            ("pool_v2_f64.safetensors", "grad.enc_out"),
            ("qrnn_f64.safetensors", "grad.before"),
            ("qrnn_f32.safetensors", "eval.c_n"),
            ("sampled_softmax_f64.safetensors", "biased.grad.weight"),
            ("adaptive_softmax_f64.safetensors", "log_probs"),
            ("label_losses_f64.safetensors", "weighted_smoothed.grad"),
            ("label_losses_f32.safetensors", "labels_focal.loss"),
            ("schedules_f64.safetensors", "cosine_T57"),
        ] {
            let report = wrong(file, tensor);
            assert_eq!((report.failed, report.rows[0].failures.len()), (1, 1), "{file} {tensor}: {:?}", report.rows[0]);
            assert_eq!(report.worst.unwrap().tensor, tensor);
        }
    }

    /// In any order: what a reader must not depend on.
    fn bytes(tensors: &HashMap<String, crate::tensor::Tensor>, metadata: HashMap<String, String>) -> Vec<u8> {
        let data: Vec<_> = tensors
            .iter()
            .map(|(name, t)| {
                let dtype = match t.dtype() {
                    crate::tensor::DType::F32 => safetensors::Dtype::F32,
                    crate::tensor::DType::F64 => safetensors::Dtype::F64,
                    _ => safetensors::Dtype::I64,
                };
                let bytes: Vec<u8> = match dtype {
                    safetensors::Dtype::F32 => t.to_f64().iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
                    safetensors::Dtype::F64 => t.to_f64().iter().flat_map(|v| v.to_le_bytes()).collect(),
                    _ => t.to_f64().iter().flat_map(|&v| (v as i64).to_le_bytes()).collect(),
                };
                (name.clone(), dtype, t.dims().to_vec(), bytes)
            })
            .collect();
        let views = data.iter().map(|(name, dtype, dims, bytes)| {
            (name.as_str(), safetensors::tensor::TensorView::new(*dtype, dims.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    #[test]
    fn files_that_are_no_fixtures_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            vec![path]
        };
        let whole = std::fs::read(directory().join("lstm_f64.safetensors")).unwrap();
        let cut = write("cut.safetensors", &whole[..whole.len() / 2]);
        let empty = write("empty.safetensors", b"");
        let text = write("text.safetensors", b"This is no fixture at all, it is a line of text.");
        let (tensors, mut metadata) = crate::tensor::file::load(&directory().join("lstm_f64.safetensors")).unwrap();
        metadata.insert("case".into(), "gru".into());
        let unknown = write("unknown.safetensors", &bytes(&tensors, metadata.clone()));
        metadata.insert("case".into(), "optim".into());
        let other = write("other.safetensors", &bytes(&tensors, metadata.clone()));
        metadata.insert("case".into(), "lstm".into());
        let mut fewer = tensors.clone();
        fewer.remove("w_hh");
        let fewer = write("fewer.safetensors", &bytes(&fewer, metadata.clone()));
        let mut more = tensors.clone();
        more.insert("surplus".into(), tensors["x"].clone());
        let more = write("more.safetensors", &bytes(&more, metadata.clone()));
        let mut reshaped = tensors.clone();
        reshaped.insert("w_ih".into(), tensors["w_hh"].clone());
        let reshaped = write("reshaped.safetensors", &bytes(&reshaped, metadata.clone()));
        metadata.remove("case");
        let nameless = write("nameless.safetensors", &bytes(&tensors, metadata));
        let missing = vec![dir.path().join("missing.safetensors")];
        let directory = tempfile::tempdir().unwrap();
        for (paths, expected) in [
            (&cut, "not a whole safetensors file"),
            (&empty, "not a whole safetensors file"),
            (&text, "not a whole safetensors file"),
            (&unknown, "unknown case 'gru'"),
            (&other, "its metadata give no"),
            (&fewer, "has no tensor 'w_hh'"),
            (&more, "'surplus'"),
            (&reshaped, "w_ih"),
            (&nameless, "names no case"),
            (&missing, "no such file"),
            (&vec![directory.path().to_path_buf()], "holds no .safetensors file"),
        ] {
            let error = golden(paths, Device::Cpu, Precision::Full).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(paths[0].to_str().unwrap()) && !text.contains('\n'), "{text}");
            assert_eq!(error.exit_status(), 1);
        }
    }
}
