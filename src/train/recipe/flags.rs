//! Overrides: from the flags of the command line and the keys of configuration files to rows of a
//! recipe.

use serde_json::Value;

use super::check::check;
use super::{Recipe, Row, TaskName, table};
use crate::error::{Error, Result};
use crate::train::Stage;

/// Source of a row that the command line gave.
pub const COMMAND_LINE: &str = "command line";

/// A recipe flag (docs/CLI.md, "Recipe flags"); in a configuration file the same name without
/// dashes in front is a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Without the leading dashes.
    pub name: &'static str,
    /// A key with its section (one value for the whole run), or the name of a key that every stage
    /// has.
    key: &'static str,
    pub help: &'static str,
}

impl Flag {
    const fn new(name: &'static str, key: &'static str, help: &'static str) -> Self {
        Flag { name, key, help }
    }

    /// Whether the flag can be given for one stage alone.
    fn is_per_stage(&self) -> bool {
        !self.key.contains('.')
    }
}

/// The flags with a name of their own. Every other key of the tables can be set by
/// [`Builder::key`].
pub const FLAGS: &[Flag] = &[
    Flag::new("encoder", "model.encoder", "awd-lstm or qrnn"),
    Flag::new("emb-size", "model.emb", "size of the embedding and of the last recurrent layer"),
    Flag::new("hidden-size", "model.hidden", "size of the other recurrent layers"),
    Flag::new("layers", "model.layers", "number of recurrent layers"),
    Flag::new("tokenizer", "text.tokenizer", "word, whitespace, pretokenized or subword"),
    Flag::new("rules", "text.rules", "rules of the word tokenizer: 0.7, v1 or v2"),
    Flag::new("language", "text.language", "language of the word tokenizer: en, another code, or a table file"),
    Flag::new("invisible", "text.invisible", "soft hyphens and zero-width characters in words: keep or drop"),
    Flag::new("subword", "text.subword", "how sub-words are found: unigram or bpe"),
    Flag::new("tokenizer-file", "text.tokenizer_file", "a tokenizer.json whose sub-words are taken"),
    Flag::new("vocab-size", "vocab_size", "rows of the vocabulary at most, special tokens included"),
    Flag::new("min-freq", "min_freq", "words seen less often are unknown"),
    Flag::new("bptt", "bptt", "steps of back-propagation through time"),
    Flag::new("batch-size", "batch_size", "columns of a language model's batch, documents of a classifier's"),
    Flag::new("epochs", "epochs", "N, or n1,n2,… for each unfreezing step"),
    Flag::new("lr", "lr", "maximal learning rate, or one for each unfreezing step"),
    Flag::new("drop-mult", "drop_mult", "multiplies the drop rates"),
    Flag::new("weight-decay", "weight_decay", "weight decay"),
    Flag::new("schedule", "schedule", "stlr, constant, cosine or one-cycle"),
    Flag::new("discriminative", "ladder", "on, off, or the factor between the rates of neighbouring layers"),
    Flag::new("unfreezing", "unfreezing", "gradual, full, last or chain-thaw"),
    Flag::new("max-steps", "max_steps", "updates at most"),
    Flag::new("valid-fraction", "valid_fraction", "share held out where no validation data are given"),
    Flag::new("task", "classifier.task", "class, labels, pair, regression or tags"),
    Flag::new("class-weights", "classifier.class_weights", "none, balanced, or a file of weights"),
    Flag::new("thresholds", "classifier.thresholds", "0.5 or tuned: from which probability on a label is there"),
    Flag::new("focal", "classifier.focal", "gamma of the focal loss"),
    Flag::new("auxiliary-lm", "classifier.auxiliary_lm", "weight of a language model's loss beside the classifier's"),
    Flag::new("on-nan", "on_nan", "stop, skip or rewind"),
];

/// The key that a flag sets, for a stage by the name of its section.
pub fn key_of(flag: &str, section: &str) -> String {
    match FLAGS.iter().find(|known| known.name == flag) {
        Some(known) if known.is_per_stage() => format!("{section}.{}", known.key),
        Some(known) => known.key.to_string(),
        None => flag.to_string(),
    }
}

/// The flags that set a key, with their dashes: in a command of one stage, and with the stage as a
/// prefix in one of all.
pub fn flags_of(key: &str) -> Vec<String> {
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let of = |flag: &Flag| match flag.is_per_stage() {
        true if flag.key == name => vec![format!("--{}", flag.name), format!("--{section}-{}", flag.name)],
        false if flag.key == key => vec![format!("--{}", flag.name)],
        _ => Vec::new(),
    };
    FLAGS.iter().flat_map(of).collect()
}

/// A value for a key, as somebody wrote it.
#[derive(Clone, Debug)]
struct Override {
    stage: Option<Stage>,
    /// The flag or key as written, to name it in errors.
    written: String,
    key: String,
    value: String,
    source: String,
}

/// A recipe in the making. Overrides win in the order of their sources' first appearance
/// (configuration file, then command line); within one source those for a single stage win over
/// those for all.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    rows: Vec<Row>,
    overrides: Vec<Override>,
}

impl Builder {
    /// Begins with a named recipe.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is none.
    pub fn new(recipe: &str) -> Result<Self> {
        Ok(Builder { name: recipe.to_string(), rows: table(recipe)?, overrides: Vec::new() })
    }

    /// Applies a flag of [`FLAGS`], for one stage or (`None`) for every stage. `source` is
    /// [`COMMAND_LINE`] or a file's name.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown flag, or a stage given to a flag that holds for the whole
    /// run. Values are judged by [`build`](Self::build).
    pub fn flag(&mut self, stage: Option<Stage>, flag: &str, value: &str, source: &str) -> Result<()> {
        let prefix = stage.map(|s| format!("{}-", s.section())).unwrap_or_default();
        let written = if source == COMMAND_LINE {
            format!("--{prefix}{flag}")
        } else {
            let table = stage.map(|s| format!(" in [{}]", s.section())).unwrap_or_default();
            format!("{source}: {flag}{table}")
        };
        let Some(known) = FLAGS.iter().find(|f| f.name == flag) else {
            let all: Vec<_> = FLAGS.iter().map(|f| f.name).collect();
            return Err(Error::usage(format!("{written} is no recipe flag")).hint(format!("one of {}", all.join(", "))));
        };
        if stage.is_some() && !known.is_per_stage() {
            return Err(Error::usage(format!("{written}: '{flag}' holds for the whole run, not for one stage"))
                .hint(format!("give it as '{flag}', without the stage")));
        }
        let over = |stage: Option<Stage>, key: &str, value: &str| Override {
            stage,
            written: written.clone(),
            key: key.to_string(),
            value: value.to_string(),
            source: source.to_string(),
        };
        if !known.is_per_stage() {
            self.overrides.push(over(None, known.key, value));
            return Ok(());
        }
        for target in [Stage::Pretrain, Stage::FinetuneLm, Stage::Classifier] {
            if stage.is_none_or(|s| s == target) {
                let section = target.section();
                let key = |name: &str| format!("{section}.{name}");
                // kept apart from a key's own syntax until `build`: "on" means the recipe's ladder,
                // whichever other key is overridden
                if flag == "discriminative" {
                    self.overrides.push(over(stage, &key("discriminative"), value));
                } else {
                    self.overrides.push(over(stage, &key(known.key), value));
                }
            }
        }
        Ok(())
    }

    /// Sets a key of the tables (`classifier.max_len`).
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown key.
    pub fn key(&mut self, key: &str, value: &str, source: &str) -> Result<()> {
        let written = if source == COMMAND_LINE { key.to_string() } else { format!("{source}: {key}") };
        if !self.rows.iter().any(|row| row.key == key) {
            let name = key.rsplit('.').next().unwrap_or(key);
            let like: Vec<_> = self.rows.iter().map(|r| r.key.as_str()).filter(|k| k.ends_with(name)).take(3).collect();
            let error = Error::usage(format!("{written} is no key of a recipe"));
            return Err(if like.is_empty() || name.is_empty() {
                error
            } else {
                error.hint(format!("there is {}", like.join(", ")))
            });
        }
        self.overrides.push(Override {
            stage: key.split('.').next().and_then(stage_of_section),
            written,
            key: key.to_string(),
            value: value.to_string(),
            source: source.to_string(),
        });
        Ok(())
    }

    /// Applies a configuration file: recipe flags as keys, stages as tables `[pretrain] [finetune]
    /// [classifier]`, in which keys of the recipe's tables may stand too (`max_len = 800`). Returns
    /// the top-level keys that are no recipe flags, for the caller to judge.
    ///
    /// # Errors
    /// [`Error::Usage`] as [`flag`](Self::flag) and [`key`](Self::key); a value that is neither
    /// number, text, truth value nor a list.
    pub fn config(&mut self, table: &toml::Table, file: &str) -> Result<Vec<String>> {
        let mut others = Vec::new();
        for (name, value) in table {
            if let (Some(stage), toml::Value::Table(entries)) = (stage_of_section(name), value) {
                for (entry, value) in entries {
                    let value = config_text(value).ok_or_else(|| unfit(file, entry))?;
                    let key = format!("{name}.{entry}");
                    if !FLAGS.iter().any(|f| f.name == entry) && self.rows.iter().any(|row| row.key == key) {
                        self.key(&key, &value, file)?;
                    } else {
                        self.flag(Some(stage), entry, &value, file)?;
                    }
                }
            } else if FLAGS.iter().any(|f| f.name == name) {
                self.flag(None, name, &config_text(value).ok_or_else(|| unfit(file, name))?, file)?;
            } else {
                others.push(name.clone());
            }
        }
        Ok(others)
    }

    /// Resolves the recipe.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the flag of a value which is ill-typed or out of range.
    pub fn build(mut self) -> Result<Recipe> {
        let mut sources: Vec<String> = Vec::new();
        for o in &self.overrides {
            if !sources.contains(&o.source) {
                sources.push(o.source.clone());
            }
        }
        // the meaning of a bare number of epochs depends on the kind of unfreezing, so it comes
        // last
        let rank = |o: &Override| {
            let source = sources.iter().position(|s| *s == o.source);
            (o.key.ends_with(".epochs"), source, o.stage.is_some())
        };
        let mut overrides = std::mem::take(&mut self.overrides);
        overrides.sort_by_key(rank);

        let mut recipe = Recipe::from_rows(self.name.clone(), self.rows)?;
        let mut written: Vec<(String, String)> = Vec::new();
        for o in overrides {
            for (key, value) in assignments(&recipe, &o)? {
                let mut rows = recipe.rows.clone();
                let row = rows.iter_mut().find(|row| row.key == key).expect("assignments are to keys of the recipe");
                row.value = value;
                row.source = o.source.clone();
                recipe = Recipe::from_rows(self.name.clone(), rows).map_err(|e| ill_typed(&o, &e))?;
                written.retain(|(k, _)| *k != key);
                written.push((key, o.written.clone()));
            }
        }
        // what a recipe itself says of classes means nothing to a number; the user's word is
        // checked
        let smoothing = "classifier.label_smoothing";
        if recipe.classifier.task == TaskName::Regression && written.iter().all(|(key, _)| key != smoothing) {
            let mut rows = recipe.rows.clone();
            if let Some(row) = rows.iter_mut().find(|row| row.key == smoothing && row.value != 0.0) {
                row.value = 0.0.into();
                row.source = "--task regression".into();
            }
            recipe = Recipe::from_rows(self.name.clone(), rows)?;
        }
        check(&recipe).map_err(|(key, fault)| {
            let name = written.iter().find(|(k, _)| *k == key).map_or(key.as_str(), |(_, written)| written);
            Error::usage(format!("{name}: {} {fault}", key.rsplit('.').next().unwrap_or(&key)))
        })?;
        Ok(recipe)
    }
}

fn stage_of_section(section: &str) -> Option<Stage> {
    Stage::ALL.into_iter().find(|&s| s.section() == section)
}

/// A value of a configuration file as the command line would have it.
fn config_text(value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(n) => n.to_string(),
        toml::Value::Float(x) => x.to_string(),
        toml::Value::Boolean(on) => if *on { "on" } else { "off" }.to_string(),
        toml::Value::Array(values) => values.iter().map(config_text).collect::<Option<Vec<_>>>()?.join(","),
        toml::Value::Datetime(_) | toml::Value::Table(_) => return None,
    })
}

fn unfit(file: &str, name: &str) -> Error {
    Error::usage(format!("{file}: the value of '{name}' must be a number, a text, true, false or a list"))
}

/// Keys and values that an override stands for.
fn assignments(recipe: &Recipe, o: &Override) -> Result<Vec<(String, Value)>> {
    let current = |key: &str| recipe.row(key).map(|row| row.value.clone()).unwrap_or_default();
    let (section, name) = o.key.split_once('.').expect("keys have a section");
    match name {
        "discriminative" => {
            let ladder = |name: &str| (format!("{section}.ladder"), Value::from(name));
            match o.value.as_str() {
                "off" => Ok(vec![ladder("off")]),
                "on" if current(&format!("{section}.ladder")) == "off" => Ok(vec![ladder("factor")]),
                "on" => Ok(vec![]),
                factor => {
                    let factor = number(factor).ok_or_else(|| expected(o, "on, off or a number"))?;
                    Ok(vec![ladder("factor"), (format!("{section}.ladder_factor"), factor.into())])
                }
            }
        }
        // a bare number: the epochs of the step in which everything trains, the earlier ones as
        // they are
        "epochs" if !o.value.contains(',') => {
            let epochs = Value::from(whole(&o.value).ok_or_else(|| expected(o, "a whole number or a list of them"))?);
            let gradual = current(&format!("{section}.unfreezing")) == "gradual";
            let mut list = match current(&o.key) {
                Value::Array(list) if gradual => list,
                _ => Vec::new(),
            };
            list.pop();
            list.push(epochs);
            Ok(vec![(o.key.clone(), list.into())])
        }
        // a name or a list, whichever stands there now
        "splits" if !matches!(o.value.as_str(), "auto" | "awd") => {
            let list = parse(o, &Value::Array(Vec::new())).ok().filter(|list| list.is_array());
            let list = list.ok_or_else(|| expected(o, "auto, awd or a list of whole numbers"))?;
            Ok(vec![(o.key.clone(), list)])
        }
        "splits" => Ok(vec![(o.key.clone(), o.value.as_str().into())]),
        _ => Ok(vec![(o.key.clone(), parse(o, &current(&o.key))?)]),
    }
}

/// A value of the same kind as the present one.
fn parse(o: &Override, present: &Value) -> Result<Value> {
    let value = o.value.trim();
    match present {
        Value::String(_) => Ok(value.into()),
        Value::Bool(_) => match value {
            "on" | "true" => Ok(true.into()),
            "off" | "false" => Ok(false.into()),
            _ => Err(expected(o, "on or off")),
        },
        Value::Array(_) if matches!(value, "none" | "") => Ok(Value::Array(vec![])),
        Value::Array(_) => {
            let items = value.split(',').map(|item| scalar(item.trim()));
            items.collect::<Option<Vec<_>>>().map(Value::from).ok_or_else(|| expected(o, "a number or a list of them"))
        }
        _ if value == "none" => Ok(Value::Null),
        _ => scalar(value).ok_or_else(|| expected(o, "a number")),
    }
}

/// A finite number, whole if it is written so.
fn scalar(text: &str) -> Option<Value> {
    whole(text).map(Value::from).or_else(|| number(text).map(Value::from))
}

fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|x: &f64| x.is_finite())
}

fn expected(o: &Override, what: &str) -> Error {
    Error::usage(format!("{}: expected {what}, found '{}'", o.written, o.value))
}

/// serde's words about a value, without its talk of types of this program.
fn ill_typed(o: &Override, error: &Error) -> Error {
    let message = error.to_string();
    if let Some((_, options)) = message.split_once("expected one of ") {
        return expected(o, &format!("one of {}", options.replace('`', "")));
    }
    if message.contains("null") {
        return expected(o, "a value");
    }
    let whole = ["usize", "u32", "u64", "integer"].iter().any(|t| message.contains(t));
    expected(o, if whole { "a whole number that is not negative" } else { "a number" })
}
