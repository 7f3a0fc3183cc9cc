//! The settings of a resolved recipe: typed settings of the model, the text and the three stages.
//!
//! The names of the fields are the keys of the tables (`classifier.max_len`); `training` is
//! flattened, so its keys stand directly under their stage (`pretrain.lr`).

use serde::{Deserialize, Serialize};

use super::choices::*;
use crate::answer::language::Mean;
use crate::autodiff::Parameters;
use crate::error::Result;
use crate::nn::DropRates;
use crate::ops::activation_regularisation::TarGuard;
use crate::ops::concat_pool::Masking;
use crate::optim::schedule::OneCycle;
use crate::optim::{Adam, AdamSettings, Asgd, AsgdSettings, Ladder, Optimiser, Schedule, Sgd, SgdSettings};
use crate::text::{Invisible, LmLayout, Rules, SubwordAlgorithm, Windows};

/// Sizes that all stages share (docs/SPEC.md §1.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSettings {
    /// What reads the text: `awd-lstm` or `qrnn`.
    #[serde(default)]
    pub encoder: EncoderName,
    /// Size of the embedding and of the last recurrent layer (E).
    pub emb: usize,
    /// Size of the other recurrent layers (H).
    pub hidden: usize,
    /// Number of recurrent layers (L).
    pub layers: usize,
    /// Whether the (tied) decoder of the language model has a bias.
    pub decoder_bias: bool,
    /// Probability that an element of a QRNN's state keeps its value for a step (docs/SPEC.md
    /// §1.5).
    #[serde(default)]
    pub zoneout: f64,
    /// Large products in bf16 where the processor multiplies it and no precision is asked for.
    #[serde(default)]
    pub bf16: bool,
}

/// How text becomes tokens (docs/SPEC.md §2); the same in all stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextSettings {
    /// How text becomes tokens: `word`, `whitespace`, `pretokenized` or `subword`.
    pub tokenizer: TokenizerName,
    /// Rules of the word tokenizer before and after it cuts: `0.7`, `v1` or `v2` (docs/SPEC.md §2).
    pub rules: Rules,
    /// Language of the word tokenizer: `en`, another code, or a table file (see
    /// [`crate::text::Language::by_name`]).
    #[serde(default = "english")]
    pub language: String,
    /// Whether rules of the word and sub-word tokenizers take characters out that nobody sees. No
    /// source has such a rule.
    #[serde(default)]
    pub invisible: Invisible,
    /// How sub-words are found where they are trained.
    #[serde(default = "unigram")]
    pub subword: SubwordAlgorithm,
    /// Share of the characters of the text that sub-words cover; the rarest others are unknown.
    #[serde(default = "coverage")]
    pub coverage: f64,
    /// A `tokenizer.json` whose sub-words are taken; `none`: they are trained on the text.
    #[serde(default = "none")]
    pub tokenizer_file: String,
    /// The vocabulary is filled up with `xxfake` to a multiple of this (v1 and v2: 8).
    pub vocab_multiple: usize,
}

fn one() -> f64 {
    1.0
}

/// Folds of the labelled documents at most.
pub const MOST_FOLDS: usize = 20;

fn one_fold() -> usize {
    1
}

fn english() -> String {
    "en".into()
}

fn unigram() -> SubwordAlgorithm {
    SubwordAlgorithm::Unigram
}

fn coverage() -> f64 {
    0.99999
}

fn none() -> String {
    "none".into()
}

/// The settings that every stage has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Rows of the vocabulary at most, special tokens included; none: no limit. Counts where a
    /// vocabulary is made.
    pub vocab_size: Option<usize>,
    /// Words seen less often are unknown.
    pub min_freq: u64,
    /// Share of the training data held out where no validation data are given.
    pub valid_fraction: f64,
    /// Columns of a language model's batch, documents of a classifier's.
    pub batch_size: usize,
    /// The same as `batch_size`, in evaluation.
    pub valid_batch_size: usize,
    /// Steps of back-propagation through time.
    pub bptt: usize,
    /// How long the windows of a language model are: `fixed`, or drawn: `variable`,
    /// `variable-first-long` (docs/SPEC.md §3.1).
    pub windows: Windows,
    /// Standard deviation of the length of drawn windows.
    pub window_sd: f64,
    /// Probability that a drawn window has half of the usual length.
    pub window_half_p: f64,
    /// Shortest drawn window.
    pub window_min: usize,
    /// A drawn window is at most `bptt` and this.
    pub window_excess: usize,
    /// The rate of a step is multiplied by its window's length / bptt.
    pub lr_rescale: bool,
    /// Epochs of each unfreezing step.
    pub epochs: Vec<u32>,
    /// Updates at most, over the whole stage.
    pub max_steps: Option<u64>,
    /// Updates at least: where the epochs give fewer, the last unfreezing step has more of them.
    #[serde(default)]
    pub updates_least: Option<u64>,
    /// Updates at most: where the epochs give more, the last unfreezing step has fewer.
    #[serde(default)]
    pub updates_most: Option<u64>,
    /// Multiplies the updates that the epochs give, and both bounds (`--effort`).
    #[serde(default = "one")]
    pub effort: f64,
    /// Stop when the validation loss has not improved for this share of the epochs.
    #[serde(default)]
    pub patience: Option<f64>,
    /// Maximal learning rate of each unfreezing step ([`per_step`]).
    pub lr: Vec<f64>,
    /// How the rates of the layer groups follow from the highest one (discriminative rates).
    pub ladder: LadderName,
    /// Factor of the ladder `factor`; span of the ladder `slice`.
    pub ladder_factor: f64,
    /// Which layer groups learn when: `gradual`, `full`, `last` or `chain-thaw`.
    pub unfreezing: Unfreezing,
    /// The learning rate over the updates: `stlr`, `constant`, `cosine` or `one-cycle`.
    pub schedule: ScheduleName,
    /// STLR: share of the updates until the peak, for each unfreezing step ([`per_step`]).
    pub stlr_cut_frac: Vec<f64>,
    /// STLR: peak / lowest rate, for each unfreezing step.
    pub stlr_ratio: Vec<f64>,
    /// One-cycle: the highest rate divided by this is the first one.
    pub one_cycle_div: f64,
    /// One-cycle: share of the updates in which the rate rises.
    pub one_cycle_pct: f64,
    /// One-cycle: the highest rate divided by this is the last one.
    pub one_cycle_div_final: f64,
    /// One-cycle: momentum at the beginning, at the highest rate, at the end.
    pub one_cycle_momentum: [f64; 3],
    /// One-cycle: whether the rise has a whole number of updates.
    pub one_cycle_whole_steps: bool,
    /// The rate is divided by 10 after these epochs (counted over the stage).
    pub lr_drop_at: Vec<u32>,
    /// What updates the parameters: `adam`, `sgd`, `nt-asgd` or `asgd`.
    pub optimiser: OptimiserName,
    /// β1 of Adam, unless the schedule moves it.
    pub beta1: f64,
    /// β2 of Adam: how slowly its mean of squared gradients changes.
    pub beta2: f64,
    /// What Adam adds to the root of that mean, so that nothing is divided by zero.
    pub eps: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay: the share of a weight that goes, times the rate.
    pub weight_decay: f64,
    /// Decoupled from the gradient (AdamW), or added to it (L2).
    pub weight_decay_decoupled: bool,
    /// Whether batch norm and the decoder's bias decay too.
    pub decay_norm_and_bias: bool,
    /// Limit of the gradients' global norm.
    pub clip: Option<f64>,
    /// Every unfreezing step begins with a new optimiser state.
    pub reset_optimiser: bool,
    /// Epochs that the non-monotone trigger looks back.
    pub nonmono: usize,
    /// PyTorch's ASGD averages and takes up its rate one step late.
    pub asgd_as_pytorch: bool,
    /// The non-monotone trigger ends the stage (`finetune.py` of AWD-LSTM).
    pub stop_on_nonmono: bool,
    /// Stop when the validation loss has not improved for more than this many epochs.
    pub early_stopping: Option<usize>,
    /// The stage's result is its best epoch by validation, not its last.
    pub restore_best: bool,
    /// Dropout of the encoder's input; as those below before `drop_mult` (docs/SPEC.md §1.2).
    pub drop_input: f64,
    /// Dropout of the recurrent weights.
    pub drop_weight: f64,
    /// Dropout of whole words of the embedding.
    pub drop_embedding: f64,
    /// Dropout between recurrent layers.
    pub drop_hidden: f64,
    /// Multiplies all of them and `drop_output`.
    pub drop_mult: f64,
    /// Weight of the activation regularisation (AR, docs/SPEC.md §1.3).
    pub alpha: f64,
    /// Weight of the temporal activation regularisation (TAR).
    pub beta: f64,
    /// Where TAR is left out: in windows of one step (`time`), or in batches of one row, too
    /// (`batch`).
    pub tar_guard: TarGuard,
    /// What to do about a loss or gradient that is not finite: `stop`, `skip` or `rewind`.
    pub on_nan: OnNan,
}

/// Pretraining or fine-tuning of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LmSettings {
    #[serde(flatten)]
    pub training: TrainingSettings,
    /// How the documents become columns: `fixed`, `shuffled` or `in-order` (docs/SPEC.md §3.1).
    pub layout: LmLayout,
    /// Dropout of the decoder's input, locked.
    pub drop_output: f64,
    /// AR on the output after its dropout, or before it.
    pub ar_on_dropped: bool,
    /// The softmax of training: `full`, `sampled` or `adaptive`.
    pub loss: LossName,
    /// Negatives of the sampled softmax.
    pub negatives: usize,
    /// Where the adaptive softmax cuts the vocabulary.
    pub splits: Splits,
    /// The words of a model that goes on from another.
    #[serde(default)]
    pub vocabulary: VocabularyName,
    /// A text that does not fill the columns with a window each has fewer of them.
    #[serde(default)]
    pub fit_batch: bool,
    /// Over what the validation loss is averaged: every `token` alike, or every window (`batch`).
    pub valid_average: Mean,
    /// Whether texts of the test set join the corpus (never their labels): transductive
    /// (docs/SPEC.md §4.7).
    pub test_text: bool,
}

/// Training of the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierSettings {
    #[serde(flatten)]
    pub training: TrainingSettings,
    /// Steps that are pooled at most.
    pub max_len: usize,
    /// Whether a chunk is kept only if it starts strictly after `length − max_len` (docs/SPEC.md
    /// §1.7).
    pub max_len_strict: bool,
    /// How padding is treated in pooling: `0.7`, `v1` or `v2` (docs/SPEC.md §1.6).
    pub masking: Masking,
    /// Inner layers of the head.
    pub head_sizes: Vec<usize>,
    /// Dropout of each block of the head; `drop_mult` multiplies the first alone.
    pub head_drops: Vec<f64>,
    /// Whether the linear layers of the head have a bias.
    pub linear_bias: bool,
    /// Value of the batch norms' biases at the beginning (docs/SPEC.md §1.6).
    pub norm_bias_init: f64,
    /// Batch norm of a frozen group uses its running statistics (0.7).
    pub frozen_norm_eval: bool,
    /// In which order documents are taken: `sortish` or `sortish-short-last`.
    pub sampler: SamplerName,
    /// Leave out the last batch of an epoch when it is short.
    pub drop_last: bool,
    /// In how many folds the labelled documents are cut where there are fewer than `folds_below`
    /// and no validation data: a network is trained for each, without its documents. 1: a share is
    /// held out.
    #[serde(default = "one_fold")]
    pub folds: usize,
    /// Labelled documents below which they are cut into folds.
    #[serde(default)]
    pub folds_below: usize,
    /// Share of a label that all classes have alike, in training (docs/SPEC.md §1.6).
    #[serde(default)]
    pub label_smoothing: f64,
    /// The task: the kind of answer for a text.
    #[serde(default)]
    pub task: TaskName,
    /// `none`; `balanced`: the rarer a class, the more it counts; or a file of weights.
    #[serde(default = "none")]
    pub class_weights: String,
    /// From which probability on a label counts as there (`--task labels`).
    #[serde(default)]
    pub thresholds: ThresholdsName,
    /// γ of the focal loss; 0: none.
    #[serde(default)]
    pub focal: f64,
    /// Weight of a language model's loss beside the classifier's; 0: none.
    #[serde(default)]
    pub auxiliary_lm: f64,
    /// Chain-thaw: rate of the other groups / rate of the last.
    pub chain_thaw_factor: f64,
}

impl TrainingSettings {
    /// Drop rates times the multiplier; `output` as given (see [`LmSettings::drops`],
    /// [`ClassifierSettings::drops`]).
    fn drops(&self, output: f64) -> DropRates {
        DropRates {
            embedding: self.drop_embedding,
            input: self.drop_input,
            weight: self.drop_weight,
            hidden: self.drop_hidden,
            output,
        }
        .times(self.drop_mult)
    }

    pub fn ladder(&self) -> Ladder {
        match self.ladder {
            LadderName::Off => Ladder::Off,
            LadderName::Factor => Ladder::Factor(self.ladder_factor),
            LadderName::LmCode => Ladder::LmCode,
            LadderName::PretrainCode => Ladder::PretrainCode,
            LadderName::Slice => Ladder::Slice(self.ladder_factor),
            LadderName::SliceTop => Ladder::SliceTop,
        }
    }

    /// The schedule of unfreezing step `step` of `steps`.
    pub fn schedule(&self, step: usize, steps: usize) -> Schedule {
        match self.schedule {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Cosine => Schedule::Cosine,
            ScheduleName::Stlr => Schedule::Stlr {
                cut_frac: per_step(&self.stlr_cut_frac, step, steps),
                ratio: per_step(&self.stlr_ratio, step, steps),
            },
            ScheduleName::OneCycle => Schedule::OneCycle(OneCycle {
                div: self.one_cycle_div,
                pct: self.one_cycle_pct,
                div_final: self.one_cycle_div_final,
                momentum: self.one_cycle_momentum,
                whole_steps: self.one_cycle_whole_steps,
            }),
        }
    }

    /// β1 or momentum where the schedule does not set it.
    pub(in crate::train) fn base_momentum(&self) -> f64 {
        if self.optimiser == OptimiserName::Adam { self.beta1 } else { self.momentum }
    }

    /// The optimiser that training begins with. Exemptions from weight decay are the caller's
    /// (`decay_norm_and_bias`).
    pub(in crate::train) fn new_optimiser(&self, parameters: &Parameters) -> Result<Box<dyn Optimiser>> {
        let decoupled = self.weight_decay_decoupled;
        Ok(match self.optimiser {
            OptimiserName::Adam => {
                Box::new(Adam::new(parameters, AdamSettings { beta2: self.beta2, eps: self.eps, decoupled })?)
            }
            OptimiserName::Sgd | OptimiserName::NtAsgd => {
                Box::new(Sgd::new(parameters, SgdSettings { momentum: self.momentum > 0.0, decoupled })?)
            }
            OptimiserName::Asgd => self.new_averaging(parameters)?,
        })
    }

    /// The optimiser that takes over when the non-monotone trigger fires.
    pub(in crate::train) fn new_averaging(&self, parameters: &Parameters) -> Result<Box<dyn Optimiser>> {
        let (as_pytorch, decoupled) = (self.asgd_as_pytorch, self.weight_decay_decoupled);
        Ok(Box::new(Asgd::new(parameters, AsgdSettings { t0: 0, as_pytorch, decoupled })?))
    }
}

impl LmSettings {
    /// All drop rates, multiplied.
    pub fn drops(&self) -> DropRates {
        self.training.drops(self.drop_output)
    }
}

impl ClassifierSettings {
    /// In how many folds a run cuts so many labelled documents (`folds`); 1: in none.
    pub fn folds_of(&self, documents: usize, valid_is_given: bool) -> usize {
        let held_out = !valid_is_given && self.training.valid_fraction > 0.0;
        if held_out && self.task == TaskName::Class && documents < self.folds_below {
            self.folds.min(documents).max(1)
        } else {
            1
        }
    }

    /// Drop rates of the encoder, multiplied; `output` is that of the head's first block.
    pub fn drops(&self) -> DropRates {
        self.training.drops(self.head_drops.first().copied().unwrap_or(0.0))
    }

    /// Dropout of every block of the head (docs/SPEC.md §1.6): the first multiplied, the others
    /// not.
    pub fn head_drops(&self) -> Vec<f64> {
        let multiplied = |(k, p): (usize, &f64)| if k == 0 { p * self.training.drop_mult } else { *p };
        self.head_drops.iter().enumerate().map(multiplied).collect()
    }
}

/// The value for step `step` of `steps` of a list: its last value belongs to the last step; earlier
/// steps take the others in order, the last but one repeating.
pub fn per_step<T: Copy>(values: &[T], step: usize, steps: usize) -> T {
    let last = values.len() - 1;
    if step + 1 >= steps { values[last] } else { values[step.min(last.saturating_sub(1))] }
}
