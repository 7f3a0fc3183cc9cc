//! Targets of the program's own files: each input is one file of a folder whose other files are
//! whole. Seals are made to fit again where that leads further in.

use std::path::{Path, PathBuf};

use ulmfit::answer::ensemble::Ensemble;
use ulmfit::autodiff::Graph;
use ulmfit::files::sha256;
use ulmfit::linear::LinearModel;
use ulmfit::models::{self, AnyModel, packed, rule::Rule};
use ulmfit::report::{html, metrics};
use ulmfit::temporary::TemporaryFolder;
use ulmfit::tensor::{DType, Device};
use ulmfit::text::{Document, Source, TokenStore, Vocabulary};
use ulmfit::train::checkpoint::Snapshot;

use crate::targets::{Outcome, refusal};

const CLASSIFIER: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../corpus/config/classifier.json")),
    ("model.safetensors", include_bytes!("../corpus/model/classifier.safetensors")),
    ("vocab.json", include_bytes!("../corpus/vocabulary/words.json")),
];

thread_local! {
    /// Where the files of this thread's executions lie.
    static PLACE: TemporaryFolder = TemporaryFolder::new().expect("a temporary folder");
}

/// A folder with `others` and the input as `name`.
fn folder(name: &str, bytes: &[u8], others: &[(&str, &[u8])]) -> PathBuf {
    let path = PLACE.with(|place| place.path().join(name));
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).expect("a file is written");
    if !path.exists() {
        std::fs::create_dir(&path).expect("a folder is made");
    }
    // an execution may have changed them
    others.iter().for_each(|(name, bytes)| write(name, bytes));
    write(name, bytes);
    path
}

/// What an error says, without the name of the folder.
fn refused(folder: &Path, e: &ulmfit::error::Error) -> Outcome {
    refusal(&folder.display().to_string(), e)
}

/// Loads a model and asks it: whatever loads gives probabilities, or says why not.
fn loaded(folder: &Path) -> Outcome {
    let model = match models::load(folder) {
        Ok(AnyModel::Classifier(model)) => model,
        Ok(AnyModel::LanguageModel(model)) => {
            return Ok(format!("language model of {}", model.vocabulary.len().min(9)));
        }
        Err(e) => return refused(folder, &e),
    };
    let classes = model.config.labels.len();
    let text = Source::of_texts("texts", vec![Document::new("a good film"), Document::new("the story")]);
    let answers = Ensemble::new(vec![model], Graph::new(Device::Cpu, DType::F32, None))
        .and_then(|mut ensemble| ensemble.predict(&text));
    match answers {
        Ok(answers) => {
            let odd = |p: &f64| !p.is_finite() || *p < 0.0;
            if let Some(answer) = answers.iter().find(|answer| answer.probabilities.iter().any(odd)) {
                return Err(format!("answers with {:?}", answer.probabilities));
            }
            Ok(format!("{} answers, {classes} classes", answers.len()))
        }
        // a tensor is named, not a file
        Err(e) => Ok(e.to_string().chars().filter(char::is_ascii_alphabetic).take(40).collect()),
    }
}

pub fn config(bytes: &[u8]) -> Outcome {
    loaded(&folder("config.json", bytes, &CLASSIFIER[1..]))
}

pub fn model(bytes: &[u8]) -> Outcome {
    loaded(&folder("model.safetensors", bytes, &[CLASSIFIER[0], CLASSIFIER[2]]))
}

pub fn vocabulary(bytes: &[u8]) -> Outcome {
    let folder = folder("vocab.json", bytes, &[]);
    match Vocabulary::load(&folder.join("vocab.json")) {
        Ok(words) => {
            let strange = (0..words.len() as u32).find(|&id| words.word(id).is_none_or(|word| words.id(word) != id));
            match strange {
                // the words that fill a vocabulary up have one name
                Some(id) if words.word(id) != Some("xxfake") => Err(format!("word {id} has another number")),
                _ => Ok(format!("{} words", words.len().min(40))),
            }
        }
        Err(e) => refused(&folder, &e),
    }
}

pub fn tokens(bytes: &[u8]) -> Outcome {
    let mut bytes = bytes.to_vec();
    if bytes.len() % 4 != 3 {
        seal_tokens(&mut bytes);
    }
    let folder = folder("t.tok", &bytes, &[]);
    let store = match TokenStore::open(&folder.join("t.tok")) {
        Ok(store) => store,
        Err(e) => return refused(&folder, &e),
    };
    let mut read = 0;
    for document in 0..store.documents() {
        let ids = store.document_ids(document).map_err(|e| e.to_string())?;
        if ids.len() != store.document_len(document) {
            return Err(format!("document {document} has {} tokens", ids.len()));
        }
        read += ids.len() + store.document_words(document).len().min(1);
        let named = store.label(document).is_none_or(|label| (label as usize) < store.label_names().len());
        if !named {
            return Err(format!("document {document} has a label without a name"));
        }
    }
    Ok(format!("{} documents, {} tokens, {}", store.documents().min(9), read.min(99), store.has_words()))
}

/// Makes the checksums of a token file of less than a MiB fit (src/text/store/format.rs).
fn seal_tokens(bytes: &mut [u8]) {
    const HEADER: usize = 256;
    if bytes.len() < HEADER + 8 {
        return;
    }
    let end = bytes.len() - 8;
    let of = |bytes: &[u8]| -> [u8; 8] { std::array::from_fn(|i| sha256(bytes)[i]) };
    let block = of(&bytes[HEADER..end]);
    bytes[end..].copy_from_slice(&block);
    let table = of(&block);
    bytes[112..120].copy_from_slice(&table);
    let own = of(&bytes[..HEADER - 8]);
    bytes[HEADER - 8..HEADER].copy_from_slice(&own);
}

pub fn checkpoint(bytes: &[u8]) -> Outcome {
    let folder = folder("state.safetensors", bytes, &[]);
    match Snapshot::load(&folder.join("state.safetensors")) {
        Ok(snapshot) => Ok(format!("{} {}", snapshot.updates().min(9), snapshot.metrics_lines().is_some())),
        Err(e) => refused(&folder, &e),
    }
}

pub fn metrics(bytes: &[u8]) -> Outcome {
    let folder = folder(metrics::FILE, bytes, &[]);
    let path = folder.join(metrics::FILE);
    let events = match metrics::read(&path) {
        Ok(events) => events.len(),
        Err(e) => return refused(&folder, &e),
    };
    if let Err(e) = html::Run::load(&folder).and_then(|run| html::page("runs", &[run], "")) {
        return refused(&folder, &e);
    }
    let told = (!bytes.len().is_multiple_of(3)).then_some(bytes.len() as u64 % 7);
    match metrics::MetricsWriter::resume(&path, 3, told) {
        Ok((_, warnings)) => Ok(format!("{} events, {} warnings", events.min(20), warnings.len().min(5))),
        Err(e) => refused(&folder, &e),
    }
}

pub fn linear(bytes: &[u8]) -> Outcome {
    let folder = folder("linear.safetensors", bytes, &[]);
    let model = match LinearModel::load(&folder) {
        Ok(model) => model,
        Err(e) => return refused(&folder, &e),
    };
    match model.predict(&["a good film", ""]).iter().flatten().find(|p| !p.is_finite()) {
        Some(p) => Err(format!("answers with {p}")),
        None => Ok(format!("{} classes, {} features", model.labels().len().min(9), model.features().min(9))),
    }
}

pub fn rule(bytes: &[u8]) -> Outcome {
    let folder = folder("answer.json", bytes, &[]);
    match Rule::load(&folder) {
        Ok(Some(rule)) => {
            for (network, linear) in [([0.2, 0.8], [0.6, 0.4]), ([1.0, 0.0], [0.0, 1.0])] {
                let answer = rule.apply(&network, Some(&linear));
                if answer.iter().any(|p| !(0.0..=1.0).contains(p)) {
                    return Err(format!("answers with {answer:?}"));
                }
            }
            Ok(format!("{} networks, {}", rule.networks.len().min(9), rule.blend.is_some()))
        }
        Ok(None) => Err("a rule that is there was not found".into()),
        Err(e) => refused(&folder, &e),
    }
}

/// The digest in front of a packed model is made to fit.
pub fn packed_model(bytes: &[u8]) -> Outcome {
    const HEAD: usize = 40;
    let mut bytes = bytes.to_vec();
    if bytes.len() > HEAD {
        let digest = sha256(&bytes[HEAD..]);
        bytes[8..HEAD].copy_from_slice(&digest);
    }
    let path = Path::new("base.ulmfit");
    match packed::read(path, &bytes) {
        Ok(model) => Ok(format!("{} words", model.vocabulary.len().min(99))),
        Err(e) => refusal("base.ulmfit", &e),
    }
}

/// A configuration file (`--config`).
pub fn settings(bytes: &[u8]) -> Outcome {
    let folder = folder("settings.toml", bytes, &[]);
    let file = folder.join("settings.toml").display().to_string();
    let line = ["ulmfit", "pretrain", "--corpus", "x", "--out", "y", "--config", &file];
    match ulmfit::cli::parse(line.iter().map(Into::into).collect()) {
        Ok(_) => Ok("taken".into()),
        // a value that no flag can have is a sentence about the flag
        Err(e) if e.to_string().len() > 3000 => Err(format!("an error of {} bytes", e.to_string().len())),
        Err(e) => Ok(e.to_string().replace(&file, "").chars().filter(char::is_ascii_alphabetic).take(50).collect()),
    }
}
