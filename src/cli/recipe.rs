//! The recipe flags, with and without a stage as prefix.

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::values::{self, Discriminative, Epochs, Rates};

/// Tables of hyper-parameters (docs/SPEC.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecipeName {
    Paper,
    Scripts,
    Fastai1,
    Fastai2,
    Awd,
    AwdQrnn,
    Multifit,
    Tiny,
    Default,
}

/// Encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncoderName {
    AwdLstm,
    Qrnn,
}

/// Reading direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionArg {
    Forward,
    Backward,
}

/// Learning-rate schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    Stlr,
    Constant,
    Cosine,
    OneCycle,
}

/// Ways to unfreeze layer groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnfreezingArg {
    Gradual,
    Full,
    Last,
    ChainThaw,
}

/// Tokenizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenizerArg {
    Word,
    Whitespace,
    Pretokenized,
    Subword,
}

/// How sub-words are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SubwordArg {
    Unigram,
    Bpe,
}

/// What becomes of characters that nobody sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InvisibleArg {
    Keep,
    Drop,
}

/// What a classifier learns of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskArg {
    /// One class
    Class,
    /// Any number of labels
    Labels,
    /// One class for two texts
    Pair,
    /// A number
    Regression,
    /// A tag for every word
    Tags,
}

/// What to do when the loss or a gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnNanArg {
    Stop,
    Skip,
    Rewind,
}

/// The recipe flags; `None` leaves the choice to the recipe.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeArgs {
    /// Table of settings to start from [default: scripts; run: default; demo: tiny]
    #[arg(long, value_enum)]
    pub recipe: Option<RecipeName>,
    /// Reading direction
    #[arg(long, value_enum)]
    pub direction: Option<DirectionArg>,
    /// Train both directions and average their probabilities
    #[arg(long)]
    pub bidirectional: bool,
    /// What reads the text
    #[arg(long, value_enum)]
    pub encoder: Option<EncoderName>,
    /// Size of the embedding
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub emb_size: Option<usize>,
    /// Hidden size of the recurrent layers
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub hidden_size: Option<usize>,
    /// Number of recurrent layers
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub layers: Option<usize>,
    /// Largest vocabulary, special tokens included
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub vocab_size: Option<usize>,
    /// Keep words that occur at least N times
    #[arg(long, value_name = "N")]
    pub min_freq: Option<u64>,
    /// Length of a window of back-propagation through time
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub bptt: Option<usize>,
    /// Columns of a language model's batch, documents of a classifier's
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub batch_size: Option<usize>,
    /// Epochs; a list gives those of each unfreezing step
    #[arg(long, value_name = "N|n1,n2,..")]
    pub epochs: Option<Epochs>,
    /// Highest learning rate; a list gives that of each unfreezing step
    #[arg(long, value_name = "X|x1,x2,..")]
    pub lr: Option<Rates>,
    /// Multiplies every dropout rate
    #[arg(long, value_name = "X", value_parser = values::not_negative)]
    pub drop_mult: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "X", value_parser = values::not_negative)]
    pub weight_decay: Option<f64>,
    /// Learning-rate schedule
    #[arg(long, value_enum)]
    pub schedule: Option<ScheduleArg>,
    /// A learning rate of its own for each layer group
    #[arg(long, value_name = "on|off|FACTOR")]
    pub discriminative: Option<Discriminative>,
    /// Order in which layer groups begin to learn
    #[arg(long, value_enum)]
    pub unfreezing: Option<UnfreezingArg>,
    /// Stop after N updates
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_steps: Option<usize>,
    /// Repeat with N seeds and give mean and standard deviation
    #[arg(long, value_name = "N", value_parser = values::few)]
    pub seeds: Option<usize>,
    /// Train on a balanced subset of N labelled documents
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub labels: Option<usize>,
    /// Share of the training data to hold out where no validation file is given
    #[arg(long, value_name = "X", value_parser = values::fraction)]
    pub valid_fraction: Option<f64>,
    /// How text becomes tokens
    #[arg(long, value_enum)]
    pub tokenizer: Option<TokenizerArg>,
    /// How sub-words are found (--tokenizer subword)
    #[arg(long, value_enum)]
    pub subword: Option<SubwordArg>,
    /// Take the sub-words of this tokenizer.json rather than train them (--tokenizer subword)
    #[arg(long, value_name = "FILE")]
    pub tokenizer_file: Option<String>,
    /// Rules of the word and sub-word tokenizers: 0.7, v1 or v2
    #[arg(long, value_name = "RULES", value_parser = ["0.7", "v1", "v2"])]
    pub rules: Option<String>,
    /// Language of the word tokenizer: en, another code (de, fr, ja), or a table of words (F.toml)
    #[arg(long, value_name = "CODE|F.toml")]
    pub language: Option<String>,
    /// Soft hyphens and zero-width characters in words
    #[arg(long, value_enum)]
    pub invisible: Option<InvisibleArg>,
    /// What the classifier learns of a text [default: class]
    #[arg(long, value_enum)]
    pub task: Option<TaskArg>,
    /// How much each class counts: alike, the rarer the more, or as a file says (CSV: class,
    /// weight)
    #[arg(long, value_name = "none|balanced|FILE")]
    pub class_weights: Option<String>,
    /// From which probability on a label is there: a half, or tuned on the validation data (--task
    /// labels)
    #[arg(long, value_name = "0.5|tuned", value_parser = ["0.5", "tuned"])]
    pub thresholds: Option<String>,
    /// Gamma of the focal loss: what the classifier is sure of counts less
    #[arg(long, value_name = "X", value_parser = values::not_negative)]
    pub focal: Option<f64>,
    /// Weight of the language model's loss on the classifier's texts, beside the classifier's own
    #[arg(long, value_name = "X", value_parser = values::not_negative)]
    pub auxiliary_lm: Option<f64>,
    /// What to do when the loss or a gradient is not finite
    #[arg(long, value_enum)]
    pub on_nan: Option<OnNanArg>,
    /// Set any line of the recipe, as classifier.max_len=800; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::assignment, action = ArgAction::Append)]
    pub set: Vec<(String, String)>,
    /// The same from a configuration file
    #[arg(long, hide = true, value_parser = values::assignment, action = ArgAction::Append)]
    pub config_set: Vec<(String, String)>,
}

impl RecipeArgs {
    /// These, and what they leave open from `general`.
    #[must_use]
    pub fn or(&self, general: &RecipeArgs) -> RecipeArgs {
        macro_rules! first {
            ($($field:ident),*) => {
                RecipeArgs {
                    bidirectional: self.bidirectional || general.bidirectional,
                    set: [&*general.set, &*self.set].concat(),
                    config_set: [&*general.config_set, &*self.config_set].concat(),
                    $($field: self.$field.clone().or(general.$field.clone())),*
                }
            };
        }
        first!(
            recipe,
            direction,
            encoder,
            emb_size,
            hidden_size,
            layers,
            vocab_size,
            min_freq,
            bptt,
            batch_size,
            epochs,
            lr,
            drop_mult,
            weight_decay,
            schedule,
            discriminative,
            unfreezing,
            max_steps,
            seeds,
            labels,
            valid_fraction,
            tokenizer,
            subword,
            tokenizer_file,
            rules,
            language,
            invisible,
            task,
            class_weights,
            thresholds,
            focal,
            auxiliary_lm,
            on_nan
        )
    }
}

/// Prefixes of `run` and `demo`, which are also the tables of a configuration file.
pub const STAGES: [&str; 3] = ["pretrain", "finetune", "classifier"];

/// The recipe flags of `run` and `demo`: for every stage (no prefix) and for one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StagedRecipe {
    /// Flags without a prefix.
    pub general: RecipeArgs,
    /// `--pretrain-…`, without what the general flags say.
    pub pretrain: RecipeArgs,
    /// `--finetune-…`
    pub finetune: RecipeArgs,
    /// `--classifier-…`
    pub classifier: RecipeArgs,
}

impl StagedRecipe {
    /// What holds for a stage: its own flags, else the general ones.
    pub fn pretrain(&self) -> RecipeArgs {
        self.pretrain.or(&self.general)
    }

    /// See [`StagedRecipe::pretrain`].
    pub fn finetune(&self) -> RecipeArgs {
        self.finetune.or(&self.general)
    }

    /// See [`StagedRecipe::pretrain`].
    pub fn classifier(&self) -> RecipeArgs {
        self.classifier.or(&self.general)
    }
}

fn template() -> Command {
    RecipeArgs::augment_args(Command::new("recipe").no_binary_name(true).disable_help_flag(true))
}

/// `--set` names its stage in the key.
fn may_have_prefix(arg: &clap::Arg) -> bool {
    !matches!(arg.get_action(), ArgAction::Append)
}

/// Long names of all recipe flags.
pub fn flags() -> Vec<String> {
    template().get_arguments().filter_map(|arg| arg.get_long().map(String::from)).collect()
}

impl Args for StagedRecipe {
    fn augment_args(command: Command) -> Command {
        let mut command = RecipeArgs::augment_args(command);
        for stage in STAGES {
            for arg in template().get_arguments().filter(|arg| may_have_prefix(arg)) {
                let name = format!("{stage}-{}", arg.get_long().expect("every recipe flag has a long name"));
                command = command.arg(arg.clone().id(name.clone()).long(name).hide(true));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StagedRecipe {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of = |stage: &str| {
            let mut line = Vec::new();
            for arg in template().get_arguments().filter(|arg| may_have_prefix(arg)) {
                let name = arg.get_long().expect("every recipe flag has a long name");
                let id = format!("{stage}-{name}");
                if matches.value_source(&id) != Some(ValueSource::CommandLine) {
                    continue;
                }
                if matches!(arg.get_action(), ArgAction::SetTrue) {
                    line.push(format!("--{name}").into());
                } else {
                    let mut flag = std::ffi::OsString::from(format!("--{name}="));
                    matches.get_raw(&id).into_iter().flatten().for_each(|value| flag.push(value));
                    line.push(flag);
                }
            }
            RecipeArgs::from_arg_matches(&template().try_get_matches_from(line)?)
        };
        Ok(StagedRecipe {
            general: RecipeArgs::from_arg_matches(matches)?,
            pretrain: of("pretrain")?,
            finetune: of("finetune")?,
            classifier: of("classifier")?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<StagedRecipe, clap::Error> {
        let command = StagedRecipe::augment_args(Command::new("x").no_binary_name(true));
        StagedRecipe::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    #[test]
    fn a_prefix_holds_for_its_stage() {
        let line = ["--epochs", "2", "--pretrain-epochs", "1,3", "--classifier-lr=0.5", "--finetune-bidirectional"];
        let recipe = parse(&line).unwrap();
        assert_eq!(recipe.pretrain().epochs, Some(Epochs(vec![1, 3])));
        assert_eq!(recipe.finetune().epochs, Some(Epochs(vec![2])));
        assert_eq!((recipe.classifier().lr, recipe.pretrain().lr), (Some(Rates(vec![0.5])), None));
        assert_eq!((recipe.finetune().bidirectional, recipe.classifier().bidirectional), (true, false));
    }

    #[test]
    fn a_wrong_value_names_the_flag_as_written() {
        let text = parse(&["--pretrain-lr", "fast"]).unwrap_err().to_string();
        assert!(text.contains("--pretrain-lr") && text.contains("not a finite number"), "{text}");
    }

    /// docs/CLI.md, "Recipe flags".
    #[test]
    fn all_flags_of_the_contract() {
        let contract = "recipe direction bidirectional encoder emb-size hidden-size layers vocab-size min-freq bptt batch-size epochs lr drop-mult \
             weight-decay schedule discriminative unfreezing max-steps seeds labels valid-fraction tokenizer on-nan";
        let flags = flags();
        assert!(contract.split_whitespace().all(|name| flags.iter().any(|f| f == name)), "{flags:?}");
    }
}
