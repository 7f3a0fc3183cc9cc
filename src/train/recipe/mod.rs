//! Recipes: every number that decides a training, with its source, resolved into typed settings.
//!
//! A recipe begins as rows `(key, value, source)` ([`names`] lists the recipes; docs/SPEC.md says
//! where they differ, §9 in short). Overrides from configuration files and the command line replace
//! rows and become their source ([`Builder`]). The result is a [`Recipe`]: the rows, to be printed
//! and saved, and the settings that training reads.
//!
//! ```
//! use ulmfit::train::Stage;
//! use ulmfit::train::recipe::{Builder, COMMAND_LINE};
//! let mut builder = Builder::new("scripts")?;
//! builder.flag(None, "drop-mult", "0.7", COMMAND_LINE)?;
//! builder.flag(Some(Stage::Classifier), "epochs", "1,1,5", COMMAND_LINE)?;
//! let recipe = builder.build()?;
//! assert_eq!(recipe.pretrain.training.drop_mult, 0.7);
//! assert_eq!(recipe.classifier.training.epochs, [1, 1, 5]);
//! let row = recipe.row("classifier.clip").unwrap();
//! assert_eq!(row.source, "docs/SPEC.md §4.4 [S]: off in practice");
//! # Ok::<(), ulmfit::error::Error>(())
//! ```

mod check;
mod choices;
mod flags;
mod meaning;
mod plan;
mod settings;
mod tables;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use choices::*;
pub use flags::{Builder, COMMAND_LINE, FLAGS, Flag, flags_of, key_of};
pub use meaning::meaning;
pub use plan::UnfreezingStep;
pub use settings::*;

use super::observer::RecipeRow;
use crate::error::{Error, Result};
use crate::train::Stage;
use tables::{RECIPES, V};

/// Recipe where none is named (docs/CLI.md).
pub const DEFAULT: &str = "scripts";

/// Recipe of `run` where none is named.
pub const OF_RUN: &str = "default";

/// Sources of rows that nobody asked for: they follow from the model to start from, from the data,
/// or from what a run compares itself with.
pub const FROM_MODEL: &str = "the model to start from";
/// See [`FROM_MODEL`].
pub const FROM_DATA: &str = "the training data";
/// See [`FROM_MODEL`].
pub const FROM_SCRATCH: &str = "comparison from scratch";
const NOT_ASKED_FOR: [&str; 3] = [FROM_MODEL, FROM_DATA, FROM_SCRATCH];

/// One line of a recipe: the value and its source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `model.emb`, `pretrain.lr` …
    pub key: String,
    pub value: Value,
    /// docs/SPEC.md section, "ours" with a reason, a configuration file, or [`COMMAND_LINE`].
    pub source: String,
}

impl Row {
    /// The value as it would be given on the command line.
    pub fn text(&self) -> String {
        text(&self.value)
    }
}

/// A resolved recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub name: String,
    rows: Vec<Row>,
    pub model: ModelSettings,
    pub text: TextSettings,
    pub pretrain: LmSettings,
    pub finetune: LmSettings,
    pub classifier: ClassifierSettings,
}

/// The settings alone, as rows spell them.
#[derive(Serialize, Deserialize)]
struct Settings {
    model: ModelSettings,
    text: TextSettings,
    pretrain: LmSettings,
    finetune: LmSettings,
    classifier: ClassifierSettings,
}

/// As saved in `config.json`.
#[derive(Serialize, Deserialize)]
struct Saved {
    name: String,
    rows: Vec<Row>,
}

impl Serialize for Recipe {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Saved { name: self.name.clone(), rows: self.rows.clone() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(deserializer)?;
        let recipe = Recipe::from_rows(saved.name, saved.rows).map_err(serde::de::Error::custom)?;
        check::check(&recipe).map_err(|(key, fault)| serde::de::Error::custom(format!("recipe: {key} {fault}")))?;
        Ok(recipe)
    }
}

/// Names of the recipes.
pub fn names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}

impl Recipe {
    /// A recipe as its table has it.
    pub fn named(name: &str) -> Result<Self> {
        Builder::new(name)?.build()
    }

    /// All rows, in the order of the stages.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that a stage reads, for an observer: those are marked that somebody changed, so
    /// that they differ from the recipe's table.
    pub fn shown_rows(&self, stage: impl Into<Option<Stage>>) -> Vec<RecipeRow> {
        let table = Recipe::named(&self.name).ok();
        let in_table = |row: &Row| table.as_ref().and_then(|table| table.row(&row.key));
        let shown = |row: &Row| RecipeRow {
            key: row.key.clone(),
            value: row.text(),
            source: row.source.clone(),
            changed: !NOT_ASKED_FOR.contains(&&*row.source)
                && in_table(row).is_none_or(|original| original.value != row.value),
        };
        self.stage_rows(stage).map(shown).collect()
    }

    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    /// The rows that a stage reads: its own and those of model and text; without a stage all rows.
    pub fn stage_rows(&self, stage: impl Into<Option<Stage>>) -> impl Iterator<Item = &Row> {
        let stage = stage.into();
        let of_stage = move |row: &&Row| {
            let section = row.key.split('.').next().unwrap_or_default();
            stage.is_none_or(|stage| ["model", "text", stage.section()].contains(&section))
        };
        self.rows.iter().filter(of_stage)
    }

    /// Replaces a value after the recipe was resolved; the row remembers who did.
    ///
    /// # Errors
    /// An unknown key, a value of another type, or one out of range.
    pub fn set(&mut self, key: &str, value: Value, source: &str) -> Result<()> {
        let mut rows = self.rows.clone();
        let Some(row) = rows.iter_mut().find(|row| row.key == key) else {
            return Err(Error::usage(format!("{key} is no key of a recipe")));
        };
        (row.value, row.source) = (value, source.to_string());
        let changed = Recipe::from_rows(self.name.clone(), rows)?;
        check::check(&changed).map_err(|(key, fault)| Error::usage(format!("{key} {fault}")))?;
        *self = changed;
        Ok(())
    }

    /// The settings of one stage that all stages have.
    pub fn training(&self, stage: Stage) -> &TrainingSettings {
        match stage {
            Stage::Pretrain => &self.pretrain.training,
            Stage::FinetuneLm => &self.finetune.training,
            Stage::Classifier => &self.classifier.training,
        }
    }

    /// The recipe as an aligned table: key, value, source.
    pub fn print(&self, stage: impl Into<Option<Stage>>) -> String {
        let rows: Vec<_> = self.stage_rows(stage).map(|row| (&row.key, row.text(), &row.source)).collect();
        let width = |of: &dyn Fn(usize) -> usize| (0..rows.len()).map(of).max().unwrap_or(0);
        let key_width = width(&|i| rows[i].0.chars().count());
        let value_width = width(&|i| rows[i].1.chars().count());
        let lines =
            rows.iter().map(|(key, value, source)| format!("{key:key_width$}  {value:value_width$}  {source}\n"));
        lines.collect()
    }

    /// Settings from rows; a row too few or of the wrong type is an error that names it.
    fn from_rows(name: String, rows: Vec<Row>) -> Result<Self> {
        let mut sections = Map::new();
        for row in &rows {
            let (section, field) = row.key.split_once('.').unwrap_or((&row.key, ""));
            let section = sections.entry(section).or_insert_with(|| Value::Object(Map::new()));
            let fields = section.as_object_mut().expect("made two lines above");
            fields.insert(field.to_string(), row.value.clone());
        }
        let settings: Settings = serde_json::from_value(Value::Object(sections))
            .map_err(|e| Error::usage(format!("recipe '{name}' cannot be read: {e}")))?;
        let Settings { model, text, pretrain, finetune, classifier } = settings;
        Ok(Recipe { name, rows, model, text, pretrain, finetune, classifier })
    }
}

/// The rows of a recipe's tables, with `*` and `lm` spelled out, later ones winning; by section,
/// then in the order of the tables.
fn table(name: &str) -> Result<Vec<Row>> {
    let Some((_, tables)) = RECIPES.iter().find(|(n, _)| *n == name) else {
        let known: Vec<_> = names().collect();
        return Err(
            Error::usage(format!("--recipe: unknown recipe '{name}'")).hint(format!("one of {}", known.join(", ")))
        );
    };
    let mut rows: Vec<Row> = Vec::new();
    for &(key, value, source) in tables.iter().copied().flatten() {
        let (section, field) = key.split_once('.').expect("a key in a table has a section");
        let sections: &[&str] = match section {
            "*" => &["pretrain", "finetune", "classifier"],
            "lm" => &["pretrain", "finetune"],
            _ => &[section],
        };
        let source = if source.starts_with('§') { format!("docs/SPEC.md {source}") } else { source.to_string() };
        for section in sections {
            let row = Row { key: format!("{section}.{field}"), value: json(value), source: source.clone() };
            match rows.iter_mut().find(|r| r.key == row.key) {
                Some(earlier) => *earlier = row,
                None => rows.push(row),
            }
        }
    }
    let sections = ["model", "text", "pretrain", "finetune", "classifier"];
    rows.sort_by_key(|row| sections.iter().position(|s| row.key.split('.').next() == Some(s)));
    Ok(rows)
}

fn json(value: V) -> Value {
    match value {
        V::None => Value::Null,
        V::On => true.into(),
        V::Off => false.into(),
        V::Int(n) => n.into(),
        V::Num(x) => x.into(),
        V::Text(s) => s.into(),
        V::Ints(n) => n.to_vec().into(),
        V::Nums(x) => x.to_vec().into(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Bool(on) => if *on { "on" } else { "off" }.into(),
        Value::Number(n) if n.is_f64() => {
            let x = n.as_f64().unwrap_or(f64::NAN);
            if x != 0.0 && !(1e-4..1e6).contains(&x.abs()) { format!("{x:e}") } else { x.to_string() }
        }
        Value::Array(values) if values.is_empty() => "none".into(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}
