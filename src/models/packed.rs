//! A language model in one small file, as the program holds them: its weights in 8 or 16 bits, its
//! configuration and its words, compressed, under a digest.
//!
//! The file: eight bytes `MAGIC`, the SHA-256 of the rest (32 bytes), and the rest: a Zstandard
//! frame of a safetensors file. In that, the bytes of `config.json`, `vocab.json` and, of
//! sub-words, `tokenizer.json` are tensors of u8 under these names. A parameter with rows is i8
//! beside `NAME#scale`, an f32 for each row (`value = scale · integer`, the largest of a row is
//! ±127), or bf16. A parameter without rows (a bias) is f32.

use std::borrow::Cow;
use std::path::Path;

use half::bf16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Architecture, Loaded, ModelConfig, parse_config};
use crate::autodiff::{ParameterId, Parameters};
use crate::error::{Error, Result};
use crate::files::{self, sha256};
use crate::nn::LanguageModel;
use crate::tensor::DType;
use crate::text::Vocabulary;

/// The first bytes of the file; the last byte but one is the version of the format.
const MAGIC: &[u8; 8] = b"ULMFIT\x01\n";
/// Length of magic and digest.
const HEAD: usize = 40;
/// Level of compression: the file is made once.
const LEVEL: i32 = 19;
/// A file that says that it unpacks to more is not unpacked.
const MOST_BYTES: u64 = 1 << 31;
/// Added to a parameter's name: the scales of its rows.
const SCALE: &str = "#scale";

/// A tensor of the file: name, type, shape and bytes.
type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// How the weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// 8 bits, symmetric, one scale a row.
    Int8,
    Bf16,
}

/// The size of a packed file, and the loss of precision of its weights.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Loss {
    /// Bytes of the file.
    pub bytes: u64,
    /// Values of the model.
    pub values: u64,
    /// Root of the mean squared error of the values, over that of the values themselves.
    pub relative_error: f64,
    /// Largest error of a value, over the largest value of its parameter.
    pub largest_error: f64,
}

/// Whether a file begins as a packed model does.
pub fn is_packed(path: &Path) -> bool {
    use std::io::Read as _;
    let mut start = [0; 8];
    path.is_file() && std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == *MAGIC
}

/// `config.json` without what differs from run to run: one model, one file, whenever it was made.
fn config_without_times(config: &ModelConfig) -> Result<Vec<u8>> {
    let fault = |e: serde_json::Error| Error::data(format!("cannot pack: {e}"));
    let mut config = serde_json::to_value(config).map_err(fault)?;
    if let Some(result) = config.get_mut("result").and_then(serde_json::Value::as_object_mut) {
        for key in ["seconds", "tokens_per_second", "peak_rss_mb"] {
            result.remove(key);
        }
    }
    serde_json::to_vec(&config).map_err(fault)
}

/// Writes a language model as one file.
///
/// # Errors
/// The file cannot be written; a weight is not finite.
pub fn save(path: &Path, model: &Loaded<LanguageModel>, weights: Weights) -> Result<Loss> {
    let parameters = &model.parameters;
    let mut loss = Loss::default();
    let (mut squares, mut errors) = (0.0, 0.0);
    let mut tensors: Vec<Entry> = Vec::new();
    let mut bytes = |name: &str, content: Vec<u8>| tensors.push((name.into(), Dtype::U8, vec![content.len()], content));
    bytes("config.json", config_without_times(&model.config)?);
    let (words, tokenizer) = model.vocabulary.to_files()?;
    bytes("vocab.json", words);
    if let Some(tokenizer) = tokenizer {
        bytes("tokenizer.json", tokenizer);
    }
    for id in parameters.ids() {
        let (name, tensor) = (parameters.name(id), parameters.value(id));
        let (values, shape) = (tensor.to_f64(), tensor.dims().to_vec());
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::data(format!("parameter '{name}' is not finite at element {at}")));
        }
        let kept: Vec<f64> = match (weights, shape.len()) {
            (_, 0 | 1) => {
                let all: Vec<f32> = values.iter().map(|&v| v as f32).collect();
                tensors.push((name.into(), Dtype::F32, shape, bytemuck::cast_slice(&all).to_vec()));
                all.into_iter().map(f64::from).collect()
            }
            (Weights::Bf16, _) => {
                let all: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v as f32)).collect();
                tensors.push((name.into(), Dtype::BF16, shape, bytemuck::cast_slice(&all).to_vec()));
                all.into_iter().map(f64::from).collect()
            }
            (Weights::Int8, _) => {
                let width = values.len() / shape[0].max(1);
                let (integers, scales) = quantised(&values, width);
                let kept = dequantised(&integers, &scales, width).into_iter().map(f64::from).collect();
                let of_scales = (format!("{name}{SCALE}"), Dtype::F32, vec![scales.len()]);
                tensors.push((of_scales.0, of_scales.1, of_scales.2, bytemuck::cast_slice(&scales).to_vec()));
                tensors.push((name.into(), Dtype::I8, shape, bytemuck::cast_slice(&integers).to_vec()));
                kept
            }
        };
        let largest = values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        for (value, kept) in values.iter().zip(&kept) {
            squares += value * value;
            errors += (value - kept) * (value - kept);
            if largest > 0.0 {
                loss.largest_error = loss.largest_error.max((value - kept).abs() / largest);
            }
        }
        loss.values += values.len() as u64;
    }
    loss.relative_error = if squares > 0.0 { (errors / squares).sqrt() } else { 0.0 };
    let unwritable = |e: safetensors::SafeTensorError| Error::file(path, format!("cannot be written: {e}"));
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).map_err(unwritable)?))
    });
    let content = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(unwritable)?;
    let frame = zstd::bulk::compress(&content, LEVEL).map_err(|e| Error::io(path, "compress", &e))?;
    let file = [&MAGIC[..], &sha256(&frame)[..], &frame].concat();
    loss.bytes = file.len() as u64;
    files::put(path, file)?;
    Ok(loss)
}

/// Rows of integers in −127..=127, and their scales. A row of zeros has the scale 0.
fn quantised(values: &[f64], width: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut integers, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks(width.max(1)) {
        let scale = (row.iter().fold(0.0f64, |a, v| a.max(v.abs())) / 127.0) as f32;
        let by = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
        integers.extend(row.iter().map(|v| (v * by).round().clamp(-127.0, 127.0) as i8));
        scales.push(scale);
    }
    (integers, scales)
}

fn dequantised(integers: &[i8], scales: &[f32], width: usize) -> Vec<f32> {
    let rows = integers.chunks(width.max(1)).zip(scales);
    rows.flat_map(|(row, &scale)| row.iter().map(move |&q| scale * f32::from(q))).collect()
}

/// Reads a packed file.
///
/// # Errors
/// The file cannot be read, is damaged, or holds no language model.
pub fn load(path: &Path) -> Result<Loaded<LanguageModel>> {
    let file = files::read(path, MOST_BYTES)?;
    read(path, &file)
}

/// The configuration in a packed file.
///
/// # Errors
/// As [`load`].
pub fn load_config(path: &Path) -> Result<ModelConfig> {
    let file = files::read(path, MOST_BYTES)?;
    let content = unpacked(&file).map_err(|why| Error::file(path, why))?;
    let tensors = SafeTensors::deserialize(&content).map_err(|e| broken(path, &e))?;
    parse_config(path, text(path, &tensors, "config.json")?)
}

fn broken(path: &Path, e: &safetensors::SafeTensorError) -> Error {
    Error::file(path, format!("is not a whole packed model ({e})"))
}

fn text<'a>(path: &Path, tensors: &SafeTensors<'a>, name: &str) -> Result<&'a [u8]> {
    match tensors.tensor(name) {
        Ok(tensor) if tensor.dtype() == Dtype::U8 => Ok(tensor.data()),
        _ => Err(Error::file(path, format!("has no {name}"))),
    }
}

/// The safetensors file in the bytes of a packed one, its digest checked; or what is wrong with
/// them.
fn unpacked(file: &[u8]) -> std::result::Result<Vec<u8>, String> {
    if file.get(..8) != Some(&MAGIC[..]) {
        return Err("is not a packed model of this version of the program".into());
    }
    let (Some(digest), Some(frame)) = (file.get(8..HEAD), file.get(HEAD..)) else {
        return Err("is damaged: it ends too early".into());
    };
    if sha256(frame) != *digest {
        return Err("is damaged: it does not have the SHA-256 that it names".into());
    }
    let size = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten().unwrap_or(0);
    if size > MOST_BYTES {
        return Err(format!("says that it unpacks to {size} bytes, which is too much"));
    }
    zstd::bulk::decompress(frame, size as usize).map_err(|e| format!("is damaged ({e})"))
}

/// The model in the bytes of a packed file; `path` names it in errors.
///
/// # Errors
/// The bytes are damaged, or hold no language model.
pub fn read(path: &Path, file: &[u8]) -> Result<Loaded<LanguageModel>> {
    let content = unpacked(file).map_err(|why| Error::file(path, why))?;
    let tensors = SafeTensors::deserialize(&content).map_err(|e| broken(path, &e))?;
    let config = parse_config(path, text(path, &tensors, "config.json")?)?;
    let tokenizer = tensors.tensor("tokenizer.json").is_ok().then(|| text(path, &tensors, "tokenizer.json"));
    let tokenizer = tokenizer.transpose()?.map(<[u8]>::to_vec);
    let vocabulary = Vocabulary::from_files(path, text(path, &tensors, "vocab.json")?, tokenizer)?;
    let Architecture::LanguageModel(settings) = config.architecture.clone() else {
        return Err(Error::file(path, "is a classifier, but a language model is needed"));
    };
    if settings.encoder.vocabulary() != vocabulary.len() || vocabulary.hash_hex() != config.vocabulary_hash {
        return Err(Error::file(path, "holds a vocabulary that does not fit its model"));
    }
    let (network, declared) =
        LanguageModel::declare(settings).map_err(|e| Error::file(path, format!("describes no model: {e}")))?;
    let parameters = declared.build(DType::F32)?;
    for id in parameters.ids() {
        fill(path, &tensors, &parameters, id)?;
    }
    Ok(Loaded { network, parameters, vocabulary, config })
}

/// Sets one parameter.
fn fill(path: &Path, tensors: &SafeTensors, parameters: &Parameters, id: ParameterId) -> Result<()> {
    let (name, value) = (parameters.name(id), parameters.value(id));
    let tensor = tensors.tensor(name).map_err(|_| Error::file(path, format!("has no tensor '{name}'")))?;
    if tensor.shape() != value.dims() {
        let found = format!("{:?}, not {:?}", tensor.shape(), value.dims());
        return Err(Error::file(path, format!("tensor '{name}' has the shape {found}")));
    }
    let floats = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
    let values: Cow<[f32]> = match tensor.dtype() {
        Dtype::F32 => floats(tensor.data()).into(),
        Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, bf16>(tensor.data())
            .into_iter()
            .map(f32::from)
            .collect::<Vec<_>>()
            .into(),
        Dtype::I8 => {
            let rows = value.dims().first().copied().unwrap_or(1);
            let scales = tensors.tensor(&format!("{name}{SCALE}")).ok().filter(|s| s.dtype() == Dtype::F32);
            let scales = scales.map(|scales| floats(scales.data())).filter(|scales| scales.len() == rows);
            let scales = scales.ok_or_else(|| Error::file(path, format!("has no scales of tensor '{name}'")))?;
            dequantised(bytemuck::cast_slice(tensor.data()), &scales, value.len() / rows.max(1)).into()
        }
        other => return Err(Error::file(path, format!("tensor '{name}' is {other:?}"))),
    };
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::file(path, format!("tensor '{name}' holds a value that is not finite")));
    }
    value.write::<f32>().copy_from_slice(&values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{AwdLstmSettings, LanguageModelSettings};
    use crate::random::Key;
    use crate::text::{Direction, TokenizerKind};
    use serde_json::Value;

    fn model() -> Loaded<LanguageModel> {
        let all = ["xxunk", "xxpad", "xxbos", "the", "cat", "sat", "on", "a", "mat"];
        let vocabulary = Vocabulary::from_words(all.map(String::from).to_vec(), TokenizerKind::Whitespace).unwrap();
        let encoder = AwdLstmSettings { vocabulary: 9, embedding: 5, hidden: 7, layers: 2, pad: Some(1) }.into();
        let settings = LanguageModelSettings { encoder, decoder_bias: true, splits: vec![4] };
        let (network, parameters) = LanguageModel::new(settings.clone(), DType::F32).unwrap();
        network.initialise(&parameters, Key([3, 4])).unwrap();
        let config = ModelConfig::new(
            Architecture::LanguageModel(settings),
            Direction::Backward,
            1,
            Vec::new(),
            &vocabulary,
            Value::Null,
            Vec::new(),
            Value::Null,
            Value::Null,
        );
        Loaded { network, parameters, vocabulary, config }
    }

    fn packed(weights: Weights) -> (tempfile::TempDir, std::path::PathBuf, Loss) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lm.ulmfit");
        let loss = save(&path, &model(), weights).unwrap();
        (directory, path, loss)
    }

    /// Every value comes back within half a step of its row (8 bits) or half a unit in the last
    /// place (bf16); a value without rows is the same.
    #[test]
    fn what_is_packed_is_read_within_its_precision() {
        let model = model();
        for weights in [Weights::Int8, Weights::Bf16] {
            let (_directory, path, loss) = packed(weights);
            assert!(is_packed(&path) && !is_packed(path.parent().unwrap()));
            let read = load(&path).unwrap();
            assert_eq!((read.config.direction, &read.vocabulary), (Direction::Backward, &model.vocabulary));
            assert_eq!(read.network.settings, model.network.settings);
            for id in model.parameters.ids() {
                let (a, b) = (model.parameters.value(id), read.parameters.value(id));
                let width = a.len() / a.dims()[0];
                let (a_values, b_values) = (a.to_f64(), b.to_f64());
                for (row, (a, b)) in a_values.chunks(width).zip(b_values.chunks(width)).enumerate() {
                    let largest = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                    let bound = |v: f64| match weights {
                        _ if width == 1 => 0.0,
                        Weights::Int8 => largest / 127.0 * 0.5001,
                        Weights::Bf16 => v.abs() / 256.0,
                    };
                    let near = a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound(*a));
                    assert!(near, "{weights:?} {} row {row}: {a:?} {b:?}", model.parameters.name(id));
                }
            }
            assert!(loss.relative_error > 0.0 && loss.relative_error < 0.01, "{loss:?}");
            assert_eq!(loss.bytes, std::fs::metadata(&path).unwrap().len());
            let again = save(&path.with_extension("2"), &model, weights).unwrap();
            assert_eq!(again.bytes, loss.bytes);
            assert!(std::fs::read(&path).unwrap() == std::fs::read(path.with_extension("2")).unwrap(), "same bytes");
        }
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        assert_eq!(quantised(&[0.0, 0.0, 1.0, -2.0], 2), (vec![0, 0, 64, -127], vec![0.0, 2.0 / 127.0]));
        assert_eq!(dequantised(&[0, 0, 64, -127], &[0.0, 1.0], 2), [0.0, 0.0, 64.0, -127.0]);
    }

    /// Every byte counts, and so does the end.
    #[test]
    fn damage_is_noticed() {
        let (_directory, path, _) = packed(Weights::Int8);
        let whole = std::fs::read(&path).unwrap();
        assert!(read(&path, &whole).is_ok());
        for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
            let mut file = whole.clone();
            file[at] ^= 0x20;
            assert!(read(&path, &file).is_err(), "byte {at}");
            assert!(read(&path, &whole[..at]).is_err(), "{at} bytes");
        }
        let mut file = whole.clone();
        *file.last_mut().unwrap() ^= 1;
        let message = read(&path, &file).unwrap_err().to_string();
        assert!(message.contains("does not have the SHA-256"), "{message}");
    }

    /// A file whose digest is right, but whose content is no model.
    #[test]
    fn what_is_no_model_is_refused() {
        let refused = |change: &dyn Fn(&mut Vec<Entry>)| {
            let (_directory, path, _) = packed(Weights::Int8);
            let content = unpacked(&std::fs::read(&path).unwrap()).unwrap();
            let tensors = SafeTensors::deserialize(&content).unwrap();
            let mut all: Vec<_> = tensors
                .iter()
                .map(|(name, t)| (name.to_string(), t.dtype(), t.shape().to_vec(), t.data().to_vec()))
                .collect();
            change(&mut all);
            let views = all.iter().map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
            let content = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
            let frame = zstd::bulk::compress(&content, 1).unwrap();
            let file = [&MAGIC[..], &sha256(&frame)[..], &frame].concat();
            read(&path, &file).unwrap_err().to_string()
        };
        let drop_it = |gone: &'static str| {
            move |all: &mut Vec<Entry>| {
                all.retain(|(name, ..)| name != gone);
            }
        };
        assert!(refused(&drop_it("config.json")).contains("has no config.json"));
        assert!(refused(&drop_it("vocab.json")).contains("has no vocab.json"));
        assert!(refused(&drop_it("decoder.bias")).contains("has no tensor 'decoder.bias'"));
        let scales = refused(&|all| all.retain(|(name, ..)| !name.ends_with(SCALE)));
        assert!(scales.contains("has no scales of tensor"), "{scales}");
        let nan = refused(&|all| {
            let bias = all.iter_mut().find(|(name, ..)| name == "decoder.bias").unwrap();
            bias.3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        assert!(nan.contains("not finite"), "{nan}");
        let shape = refused(&|all| {
            let bias = all.iter_mut().find(|(name, ..)| name == "decoder.bias").unwrap();
            bias.3.truncate(4);
            bias.2 = vec![1];
        });
        assert!(shape.contains("has the shape [1], not [9]"), "{shape}");
    }
}
