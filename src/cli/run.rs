//! `ulmfit run`: the three stages on your own files.

use std::path::PathBuf;

use clap::ArgAction;

use super::recipe::{RecipeArgs, StagedRecipe};
use super::shared::{BlendArg, CorpusArgs, DataArgs, RunArgs, UnlabelledArgs};
use super::values::name_of;
use super::{Global, job, output, takes};
use crate::error::{Error, Result};
use crate::models::base::Base;
use crate::report::progress::Journal;
use crate::text::{Direction, Role, Source};
use crate::train::pipeline::{RunOptions, RunSources, Together};
use crate::train::recipe::OF_RUN;
use crate::train::recipe::{Recipe, TaskName};

/// The three stages on your own files
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A recipe flag holds for every stage, or with a prefix for one: --pretrain-epochs 3, --finetune-lr 0.004, \
                        --classifier-batch-size 32.\n\nExample:\n  ulmfit run --train train.csv\n  ulmfit run --corpus wiki.txt --train train.csv --test test.csv --out model\n  ulmfit run --config recipe.toml --train train.csv --out model --resume"
)]
pub struct Args {
    /// Labelled training data
    #[arg(long, value_name = "FILE", required = true)]
    pub train: String,
    /// The language model to start from: english or tiny (in the program), none, or a folder
    #[arg(long, value_name = "english|tiny|none|DIR", conflicts_with = "corpus")]
    pub base: Option<Base>,
    /// Text to pretrain the language model on
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub corpus: Vec<String>,
    /// Text to measure the pretrained language model on
    #[arg(long, value_name = "FILE")]
    pub corpus_valid: Option<String>,
    /// Labelled validation data
    #[arg(long, value_name = "FILE")]
    pub valid: Option<String>,
    /// Labelled test data
    #[arg(long, value_name = "FILE")]
    pub test: Option<String>,
    /// Text of the target domain without labels, for the second stage
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append)]
    pub unlabelled: Vec<String>,
    /// Where models and reports go [default: a folder named after the training data]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How long to train: quick, normal or best, which multiply the updates by .4, 1 and 2.5
    #[arg(long, value_enum, value_name = "quick|normal|best")]
    pub effort: Option<Effort>,
    /// auto: network and linear model answer together; off: the network alone, calibrated
    #[arg(long, value_enum, value_name = "auto|off")]
    pub blend: Option<BlendArg>,
    /// Train from scratch, too, to compare with
    #[arg(long)]
    pub compare: bool,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub corpus_data: CorpusArgs,
    #[command(flatten)]
    pub unlabelled_data: UnlabelledArgs,
    #[command(flatten)]
    pub recipe: StagedRecipe,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let (result, task) = train(args, global, &|task| Data::open(args, task, global), None)?;
    let directories = job::seed_directories(global, &args.recipe.general, &args.out());
    super::result::print(global, task, &result, &directories)
}

/// The data of the target domain, opened.
#[derive(Clone)]
pub struct Data {
    pub train: Source,
    pub valid: Option<Source>,
    pub test: Option<Source>,
    pub unlabelled: Vec<Source>,
}

impl Data {
    /// The files that the flags name.
    ///
    /// # Errors
    /// A file that cannot be read or recognised.
    pub fn open(args: &Args, task: TaskName, global: &Global) -> Result<Self> {
        let data = job::data_of(&args.data, task);
        let of_unlabelled = args.unlabelled_data.data();
        if args.unlabelled.is_empty() {
            of_unlabelled.refuse("there is no --unlabelled", global)?;
        }
        let open = |path: &String| job::source(path, &data, Role::Dataset);
        let unlabelled = job::sources(&args.unlabelled, &of_unlabelled, Role::Texts)?;
        of_unlabelled.check_flags(&unlabelled, global)?;
        let train = open(&args.train)?;
        args.data.check_flags([&train], global)?;
        Ok(Data {
            train,
            valid: args.valid.as_ref().map(open).transpose()?,
            test: args.test.as_ref().map(open).transpose()?,
            unlabelled,
        })
    }
}

/// Trains as the flags say, on the data that `data` opens for a task; gives the JSON of the result,
/// and what was learned.
/// `listener` hears what people are told otherwise.
///
/// # Errors
/// Those of the flags, of the data and of the training.
pub fn train(
    args: &Args,
    global: &Global,
    data: &dyn Fn(TaskName) -> Result<Data>,
    listener: Option<job::Listener>,
) -> Result<(serde_json::Value, TaskName)> {
    let with_corpus = !args.corpus.is_empty();
    takes::check_run(with_corpus, &args.recipe, &|flag| global.is_from_config(flag))?;
    let mut recipe = job::staged_recipe(&args.recipe, OF_RUN, global)?;
    if let Some(effort) = args.effort {
        effort.apply(&mut recipe)?;
    }
    let out = &args.out();
    let named = args.recipe.general.recipe.is_some();
    let without = named || !args.corpus.is_empty();
    let base = base_of(args.base.as_ref(), without, global);
    if let Some(path) = base.path() {
        job::refuse_own_model(out, path)?;
    }
    let recipe = sized_like(recipe, &base, &args.recipe.general, args.recipe.general.bidirectional)?;
    let Data { train, valid, test, unlabelled } = data(recipe.classifier.task)?;
    let recipe = job::tagging(recipe, &train)?;
    let mut target = vec![train.clone()];
    target.extend(unlabelled);
    let of_corpus = args.corpus_data.data();
    if !with_corpus && args.corpus_valid.is_none() {
        of_corpus.refuse("there is no --corpus", global)?;
    }
    let corpus = job::sources(&args.corpus, &of_corpus, Role::Corpus)?;
    of_corpus.check_flags(&corpus, global)?;
    let corpus_valid = args.corpus_valid.as_ref().map(|path| job::source(path, &of_corpus, Role::Corpus));
    let sources = RunSources {
        base,
        corpus,
        corpus_valid: corpus_valid.transpose()?,
        target,
        train,
        valid,
        test,
        labels: args.recipe.labels(),
    };
    let general = &args.recipe.general;
    let together = match args.blend {
        Some(BlendArg::Auto) if recipe.classifier.task != TaskName::Class => {
            return Err(Error::usage("--blend auto: the linear model knows one class a text, and the task is another")
                .hint("leave --blend out"));
        }
        _ if recipe.classifier.task != TaskName::Class => Together::Untouched,
        Some(BlendArg::Auto) => Together::Blended,
        Some(BlendArg::Off) => Together::Calibrated,
        // who names a recipe gets what that makes
        None => {
            if named {
                Together::Untouched
            } else {
                Together::Blended
            }
        }
    };
    let bidirectional = general.bidirectional;
    let options = RunOptions { bidirectional, compare: args.compare, together, unmeasured: false };
    let (recipe, sources) = (&recipe, &sources);
    let journal = &Journal::default();
    let whole = job::WholeRun { global, recipe, run: &args.run, args: general, options, sources, journal, listener };
    Ok((job::run_all(&whole, out)?, recipe.classifier.task))
}

impl Args {
    /// Where models and reports go.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| folder_for(&self.train))
    }
}

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Effort {
    Quick,
    Normal,
    Best,
}

impl Effort {
    /// Multiplies the updates of every stage of a recipe.
    pub fn apply(self, recipe: &mut Recipe) -> Result<()> {
        let source = format!("--effort {}", name_of(&self));
        ["pretrain", "finetune", "classifier"]
            .iter()
            .try_for_each(|stage| recipe.set(&format!("{stage}.effort"), self.factor().into(), &source))
    }

    /// Multiplies the updates of a stage.
    pub fn factor(self) -> f64 {
        match self {
            Effort::Quick => 0.4,
            Effort::Normal => 1.0,
            Effort::Best => 2.5,
        }
    }
}

/// What the language model starts from: as asked for; without a corpus and a named recipe the
/// English model, or, said aloud, nothing.
pub(super) fn base_of(asked: Option<&Base>, without: bool, global: &Global) -> Base {
    if let Some(base) = asked {
        return base.clone();
    }
    if without {
        return Base::None;
    }
    if Base::ENGLISH.is_here(Direction::Forward) {
        return Base::ENGLISH;
    }
    if !global.quiet {
        output::to_stderr("base: none, because this build has no English model (--base DIR takes one of your own)");
    }
    Base::None
}

/// `data/my.csv` → `my-model`, in the present folder.
pub(super) fn folder_for(train: &str) -> PathBuf {
    let name = train.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(train);
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or("ulmfit");
    PathBuf::from(format!("{stem}-model"))
}

/// The recipe with the sizes of the base, which must be the same in both directions.
pub(super) fn sized_like(mut recipe: Recipe, base: &Base, general: &RecipeArgs, both: bool) -> Result<Recipe> {
    let directions = if both { &[Direction::Forward, Direction::Backward][..] } else { &[Direction::Forward] };
    let mut sizes = None;
    for &direction in directions {
        let Some(model) = base.load(Some(direction))? else { return Ok(recipe) };
        let encoder = model.network.settings.encoder;
        let found = (encoder.kind(), encoder.width(), encoder.hidden(), encoder.layer_names().len());
        if sizes.is_some_and(|sizes| sizes != found) {
            return Err(Error::usage(format!("--base {base}: the two directions have models of other sizes")));
        }
        sizes = Some(found);
        recipe = job::sized_like(recipe, &model.config, general, false)?;
    }
    Ok(recipe)
}
