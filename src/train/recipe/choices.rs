//! The names that a recipe chooses from: encoders, tasks, tokenizers, optimisers, schedules, ..

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::nn::Answers;
use crate::ops::adaptive_softmax;

/// Kinds of encoders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderName {
    /// The one that there was before there was a choice.
    #[default]
    AwdLstm,
    Qrnn,
}

impl EncoderName {
    /// As in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EncoderName::AwdLstm => "awd-lstm",
            EncoderName::Qrnn => "qrnn",
        }
    }
}

/// The task of the classifier: the kind of answer for a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// One class of several.
    #[default]
    Class,
    /// Any number of labels.
    Labels,
    /// One class for two texts, each encoded by itself.
    Pair,
    /// A number.
    Regression,
    /// A tag for every word.
    Tags,
}

/// From which probability on a label counts as there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThresholdsName {
    /// A half, for all labels.
    #[default]
    #[serde(rename = "0.5")]
    Half,
    /// For each label where its F1 on the validation data is highest.
    #[serde(rename = "tuned")]
    Tuned,
}

impl TaskName {
    /// As in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            TaskName::Class => "class",
            TaskName::Labels => "labels",
            TaskName::Pair => "pair",
            TaskName::Regression => "regression",
            TaskName::Tags => "tags",
        }
    }

    /// The kind of answer.
    pub fn answers(self) -> Answers {
        match self {
            TaskName::Class | TaskName::Pair => Answers::Class,
            TaskName::Labels => Answers::Labels,
            TaskName::Regression => Answers::Number,
            TaskName::Tags => Answers::Tags { both: false },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerName {
    Word,
    Whitespace,
    Pretokenized,
    Subword,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimiserName {
    Adam,
    Sgd,
    /// SGD until the non-monotone trigger fires, ASGD from there (docs/SPEC.md §4.5).
    NtAsgd,
    /// ASGD from the first step.
    Asgd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    Stlr,
    Constant,
    Cosine,
    OneCycle,
}

/// [`Ladder`](crate::optim::Ladder) without its number, which is `ladder_factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LadderName {
    Off,
    Factor,
    LmCode,
    PretrainCode,
    Slice,
    SliceTop,
}

/// Which layer groups train when (docs/SPEC.md §4.3, §6 Table 7); see
/// [`LmSettings::steps`](super::LmSettings::steps) and
/// [`ClassifierSettings::steps`](super::ClassifierSettings::steps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfreezing {
    /// From the top down: step k of n trains the last k groups, step n all of them.
    Gradual,
    /// All groups in every step.
    Full,
    /// The last group in every step.
    Last,
    /// The last group; then each other group alone, from the bottom up; then all.
    ChainThaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    Full,
    /// Sampled softmax in training, full in evaluation (docs/SPEC.md §1.4).
    Sampled,
    /// Adaptive softmax (docs/SPEC.md §1.4), cut where [`Splits`] says.
    Adaptive,
}

/// Where an adaptive softmax cuts a vocabulary whose frequent words come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Splits {
    /// A vocabulary of any size ([`adaptive_softmax::splits_of_any`]).
    Auto,
    /// As the AWD code does (docs/SPEC.md §1.4): not at all up to 75,000 words.
    Awd,
    /// Ends of all parts but the last.
    At(Vec<usize>),
}

impl Splits {
    /// The cuts of a vocabulary of `v` words: the ends of all parts but the last; empty for a full
    /// softmax.
    pub fn of(&self, v: usize) -> Vec<usize> {
        match self {
            Splits::Auto => adaptive_softmax::splits_of_any(v),
            Splits::Awd => adaptive_softmax::splits(v),
            Splits::At(all) => all.iter().copied().filter(|&split| split < v).collect(),
        }
    }
}

/// A name or a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SavedSplits {
    Name(String),
    At(Vec<usize>),
}

impl Serialize for Splits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Splits::Auto => SavedSplits::Name("auto".into()),
            Splits::Awd => SavedSplits::Name("awd".into()),
            Splits::At(all) => SavedSplits::At(all.clone()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Splits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match SavedSplits::deserialize(deserializer) {
            Ok(SavedSplits::Name(name)) if name == "auto" => Ok(Splits::Auto),
            Ok(SavedSplits::Name(name)) if name == "awd" => Ok(Splits::Awd),
            // the earlier name of the rule of the AWD code
            Ok(SavedSplits::At(all)) if all.is_empty() => Ok(Splits::Awd),
            Ok(SavedSplits::At(all)) => Ok(Splits::At(all)),
            _ => Err(serde::de::Error::custom("expected one of `auto`, `awd`, a list of whole numbers")),
        }
    }
}

/// The words of a language model that goes on from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VocabularyName {
    /// The words of the new text (docs/SPEC.md §2.3).
    #[default]
    Text,
    /// The words of the model to start from, in its order, then the other words of the text.
    Union,
}

/// How a loss or gradient that is not finite is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNan {
    Stop,
    Skip,
    Rewind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerName {
    /// The longest document's batch first, the others shuffled (0.7, v1).
    Sortish,
    /// And the short last batch last (v2).
    SortishShortLast,
}
