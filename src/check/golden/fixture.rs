//! One fixture: its tensors, and the comparisons made so far.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::{Difference, GoldenRow, ROUNDING_BF16, TOLERANCE_F32, TOLERANCE_F64};
use crate::error::{Error, Result};
use crate::tensor::file;
use crate::tensor::{DType, Device, Tensor};

/// Stands for any size in an expected shape.
pub(super) const ANY: usize = usize::MAX;

pub(super) struct Fixture {
    path: PathBuf,
    pub case: String,
    /// The type that it was computed in, and the type of the replay.
    pub dtype: DType,
    /// Where the replay computes.
    pub device: Device,
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
    /// Names of tensors that were read or compared.
    seen: BTreeSet<String>,
    differences: Vec<Difference>,
    /// The errors of a naive computation in bf16, by tensor; then the tolerance follows from it.
    naive_errors: Option<BTreeMap<String, f64>>,
}

impl Fixture {
    pub fn open(path: &Path, device: Device) -> Result<Self> {
        let (tensors, metadata) = file::load(path)?;
        let get = |key: &str| {
            let what = format!("is no fixture: its metadata names no {key}");
            metadata.get(key).cloned().ok_or_else(|| Error::file(path, what))
        };
        let case = get("case")?;
        // models of other programs are in f32, and their fixture does not say so
        let dtype = if case == "import" { "f32".to_string() } else { get("dtype")? };
        let dtype = match dtype.as_str() {
            "f64" => DType::F64,
            "f32" => DType::F32,
            other => return Err(Error::file(path, format!("was computed in '{other}'; f64 and f32 are known"))),
        };
        Ok(Fixture {
            path: path.to_path_buf(),
            case,
            dtype,
            device,
            tensors,
            metadata,
            seen: BTreeSet::new(),
            differences: Vec::new(),
            naive_errors: None,
        })
    }

    /// The same numbers in f64, for a replay in that.
    pub(in crate::check) fn widen(&mut self) -> Result<()> {
        self.dtype = DType::F64;
        for tensor in self.tensors.values_mut().filter(|tensor| tensor.dtype() == DType::F32) {
            let wide = Tensor::zeros(tensor.shape(), DType::F64)?;
            wide.set_f64(&tensor.to_f64());
            *tensor = wide;
        }
        Ok(())
    }

    /// Sets the tolerances of a replay in bf16: twice the errors that the same fixture has in a
    /// naive one.
    pub(in crate::check) fn allow_twice(&mut self, naive: &Fixture) {
        self.naive_errors = Some(naive.differences.iter().map(|d| (d.tensor.clone(), d.error)).collect());
    }

    /// A file beside the fixture.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::file(&self.path, message)
    }

    /// Names that begin with `prefix`, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self.tensors.keys().filter(|n| n.starts_with(prefix)).cloned().collect();
        names.sort();
        names
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name).cloned() else {
            return Err(self.error(format!("has no tensor '{name}', which case '{}' needs", self.case)));
        };
        let fits = tensor.dims().len() == dims.len()
            && tensor.dims().iter().zip(dims).all(|(&found, &size)| size == ANY || found == size);
        if !fits || tensor.is_empty() {
            let axis = |&size: &usize| if size == ANY { "n".to_string() } else { size.to_string() };
            let expected: Vec<String> = dims.iter().map(axis).collect();
            let expected = expected.join(", ");
            return Err(self.error(format!("tensor '{name}' must be [{expected}], found {}", tensor.shape())));
        }
        self.seen.insert(name.to_string());
        Ok(tensor)
    }

    /// An input of the fixture's type, on the replay's device.
    pub fn real(&mut self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let tensor = self.tensor(name, dims)?;
        if tensor.dtype() != self.dtype {
            return Err(self.error(format!("tensor '{name}' must be {}, found {}", self.dtype, tensor.dtype())));
        }
        tensor.to_device(self.device)
    }

    /// An input of indices, on the host.
    pub fn words(&mut self, name: &str, dims: &[usize]) -> Result<Tensor> {
        let tensor = self.tensor(name, dims)?;
        if tensor.dtype() != DType::U32 {
            return Err(self.error(format!("tensor '{name}' must hold integers, found {}", tensor.dtype())));
        }
        Ok(tensor)
    }

    /// A hyper-parameter.
    pub fn number(&self, key: &str) -> Result<f64> {
        let value = self.metadata.get(key).and_then(|v| v.parse::<f64>().ok()).filter(|v| v.is_finite());
        value.ok_or_else(|| self.error(format!("its metadata give no number '{key}'")))
    }

    /// A hyper-parameter that is a size.
    pub fn size(&self, key: &str) -> Result<usize> {
        let value = self.metadata.get(key).and_then(|v| v.parse::<usize>().ok());
        value.ok_or_else(|| self.error(format!("its metadata give no size '{key}'")))
    }

    /// The number after `word` in a list such as `lr .01 beta1 .7 eps 1e-5`.
    pub fn setting(&self, key: &str, word: &str) -> Result<f64> {
        let list = self.metadata.get(key).map_or("", String::as_str);
        let mut words = list.split([' ', ',']).skip_while(|w| *w != word).skip(1);
        let value = words.next().and_then(|v| v.parse::<f64>().ok()).filter(|v| v.is_finite());
        value.ok_or_else(|| self.error(format!("its metadata give no '{word}' under '{key}'")))
    }

    /// Compares a computed tensor with the one of that name.
    pub fn compare(&mut self, name: &str, found: &Tensor) -> Result<()> {
        self.compare_values(name, &found.to_f64())
    }

    /// As [`compare`](Self::compare), by values in the file's order.
    pub fn compare_values(&mut self, name: &str, found: &[f64]) -> Result<()> {
        let all = vec![true; found.len()];
        self.compare_where(name, found, &all)
    }

    /// As [`compare_values`](Self::compare_values), but only where `counted`.
    pub(in crate::check) fn compare_where(&mut self, name: &str, found: &[f64], counted: &[bool]) -> Result<()> {
        let expected = self.expected(name, found.len())?;
        let pairs = || found.iter().zip(&expected).zip(counted).filter(|(_, counted)| **counted).map(|(pair, _)| pair);
        let largest = pairs().fold(0.0f64, |m, (_, e)| m.max(e.abs()));
        let scale = if largest > 0.0 { largest } else { 1.0 };
        // a NaN must not be lost in a maximum
        let worse = |worst: f64, d: f64| if d.is_finite() { worst.max(d) } else { f64::MAX };
        let error = pairs().fold(0.0, |worst, (f, e)| worse(worst, (f - e).abs() / scale));
        self.differ(name, error);
        Ok(())
    }

    /// Compares integers, which must be equal.
    pub(in crate::check) fn compare_exactly(&mut self, name: &str, found: &[u32]) -> Result<()> {
        let expected = self.expected(name, found.len())?;
        let wrong = found.iter().zip(&expected).filter(|(f, e)| f64::from(**f) != **e).count();
        self.differ(name, wrong as f64);
        Ok(())
    }

    fn expected(&mut self, name: &str, len: usize) -> Result<Vec<f64>> {
        let dims = self.tensors.get(name).map(|t| t.dims().to_vec()).unwrap_or_default();
        let expected = self.tensor(name, &dims)?;
        if expected.len() != len {
            let shape = expected.shape();
            return Err(
                self.error(format!("tensor '{name}' is {shape}, but case '{}' computes {len} values", self.case))
            );
        }
        Ok(expected.to_f64())
    }

    fn differ(&mut self, name: &str, error: f64) {
        let tolerance = match &self.naive_errors {
            Some(naive) => 2.0 * (naive.get(name).copied().unwrap_or(0.0) + ROUNDING_BF16),
            None if self.dtype == DType::F64 => TOLERANCE_F64,
            None => TOLERANCE_F32,
        };
        self.differences.push(Difference {
            file: self.path.display().to_string(),
            case: self.case.clone(),
            tensor: name.to_string(),
            error,
            tolerance,
        });
    }

    /// Marks a tensor as seen that cannot be compared; the caller says why.
    pub fn skip(&mut self, name: &str) {
        self.seen.insert(name.to_string());
    }

    /// The reason why this device cannot replay a file.
    pub fn skipped(self, why: String) -> GoldenRow {
        GoldenRow {
            file: self.path.display().to_string(),
            case: self.case,
            dtype: self.dtype.to_string(),
            skipped: Some(why),
            tensors: 0,
            failures: Vec::new(),
            worst: None,
        }
    }

    /// The result. A tensor that was neither read nor compared is an error.
    pub fn finish(self) -> Result<GoldenRow> {
        let mut unknown: Vec<&String> = self.tensors.keys().filter(|n| !self.seen.contains(*n)).collect();
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(self.error(format!("holds tensor '{name}', which case '{}' does not know", self.case)));
        }
        let failed = |d: &&Difference| d.error > d.tolerance;
        Ok(GoldenRow {
            file: self.path.display().to_string(),
            case: self.case,
            dtype: self.dtype.to_string(),
            skipped: None,
            tensors: self.differences.len(),
            failures: self.differences.iter().filter(failed).map(|d| d.tensor.clone()).collect(),
            worst: self.differences.into_iter().max_by(|a, b| a.error.total_cmp(&b.error)),
        })
    }
}

/// `[B, T, ..]` to `[T, B, ..]`, or back: exchanges the first two axes.
pub(super) fn transpose(tensor: &Tensor) -> Result<Tensor> {
    let [b, t, ref rest @ ..] = *tensor.dims() else {
        return Err(Error::shape("transpose", "tensor", "two axes or more", tensor.shape()));
    };
    let width: usize = rest.iter().product();
    let mut dims = tensor.dims().to_vec();
    dims.swap(0, 1);
    let values = tensor.to_f64();
    let at = |i: usize| &values[i * width..][..width];
    let moved: Vec<f64> = (0..t).flat_map(|t_| (0..b).flat_map(move |b_| at(b_ * t + t_).iter().copied())).collect();
    let out = Tensor::zeros(&dims[..], tensor.dtype())?;
    out.set_f64(&moved);
    out.to_device(tensor.device())
}
