//! From parsed flags to a training job: recipe, context, observers, data.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::recipe::{DirectionArg, RecipeArgs, StagedRecipe};
use super::shared::{DataArgs, RunArgs};
use super::values::name_of;
use super::{Global, output};
use crate::device::cpu::isa::{isa, multiplies_bf16};
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::files;
use crate::models::{self, Architecture, Folder, METRICS_FILE, ModelConfig, REPORT_FILE, RESULT_FILE};
use crate::nn::EncoderSettings;
use crate::report::{
    environment, html,
    log::Log,
    metrics::StageMetrics,
    progress::{Journal, Progress},
};
use crate::text::Direction;
use crate::text::{Role, Source};
use crate::train::observer::{Event, Observer};
use crate::train::pipeline::{self, Run, RunOptions, RunSources, Work};
use crate::train::recipe::{FROM_DATA, FROM_MODEL, Recipe, TaskName};
use crate::train::stages::{Context, StageResult};

impl RecipeArgs {
    /// Reading direction, forward unless told.
    pub fn reading_direction(&self) -> Direction {
        self.asked_direction().unwrap_or(Direction::Forward)
    }

    /// Reading direction, where one was asked for.
    pub fn asked_direction(&self) -> Option<Direction> {
        self.direction.map(|direction| match direction {
            DirectionArg::Backward => Direction::Backward,
            DirectionArg::Forward => Direction::Forward,
        })
    }
}

/// The recipe of a command whose flags hold for one stage.
pub fn recipe(args: &RecipeArgs, default: &str, global: &Global) -> Result<Recipe> {
    args.resolve(default, global)
}

/// The recipe of `run` and `demo`.
pub fn staged_recipe(args: &StagedRecipe, default: &str, global: &Global) -> Result<Recipe> {
    args.resolve(default, global)
}

/// How labelled files of a task are read.
pub fn data_of(data: &DataArgs, task: TaskName) -> DataArgs {
    if task == TaskName::Labels { data.with_several_labels() } else { data.clone() }
}

/// Opens data files, or standard input.
pub fn sources_or_stdin(paths: &[String], data: &DataArgs, role: Role) -> Result<Vec<Source>> {
    paths.iter().map(|path| source_or_stdin(path, data, role)).collect()
}

/// The recipe for training data with a tag for every word, which nobody has to say.
///
/// # Errors
/// None: the task is a known one.
pub fn tagging(mut recipe: Recipe, train: &Source) -> Result<Recipe> {
    let key = "classifier.task";
    let source = |recipe: &Recipe| recipe.row(key).map(|row| row.source.clone());
    if train.has_tags() && source(&recipe) == source(&Recipe::named(&recipe.name)?) {
        recipe.set(key, TaskName::Tags.name().into(), FROM_DATA)?;
    }
    Ok(recipe)
}

/// Opens data files.
pub fn sources(paths: &[String], data: &DataArgs, role: Role) -> Result<Vec<Source>> {
    let all = paths.iter().map(|path| source(path, data, role)).collect::<Result<Vec<_>>>()?;
    Source::refuse_halves(&all)?;
    Ok(all)
}

/// Opens one data file.
pub fn source(path: &str, data: &DataArgs, role: Role) -> Result<Source> {
    if path == "-" && !Path::new(path).exists() {
        let message = "standard input (-) is not read here: data are read several times";
        return Err(Error::usage(message).hint("save it to a file"));
    }
    Ok(doubted(Source::open(path, &data.options(role)?)?))
}

/// Says what is doubtful about a file.
pub fn doubted(source: Source) -> Source {
    source.warnings().iter().for_each(|warning| output::to_stderr(&format!("warning: {warning}")));
    source
}

/// Opens one data file, or for `-` reads standard input, which is told and read as a file of the
/// same bytes would be.
pub fn source_or_stdin(path: &str, data: &DataArgs, role: Role) -> Result<Source> {
    if path != "-" {
        return source(path, data, role);
    }
    let (name, mut bytes) = ("standard input", Vec::new());
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| Error::io(name, "read", &e))?;
    Ok(doubted(Source::from_bytes(name, bytes, &data.options(role)?)?))
}

/// What the stages need to know besides their data.
pub fn context<'a>(
    recipe: Recipe,
    global: &Global,
    run: &RunArgs,
    direction: Direction,
    observer: &'a mut dyn Observer,
) -> Context<'a> {
    Context {
        device: global.device,
        precision: precision(&recipe, global),
        recipe,
        seed: global.seed,
        direction,
        memory_limit: global.memory_limit,
        resume: run.resume,
        checkpoint_minutes: Some(run.checkpoint_minutes),
        checkpoint_steps: run.checkpoint_steps.map(|n| n as u64),
        observer,
    }
}

/// The format of large products: as asked for, or else bf16 where the recipe and the processor
/// have it.
pub fn precision(recipe: &Recipe, global: &Global) -> Precision {
    let has_it = global.device == Device::Cpu && multiplies_bf16(isa());
    let chosen = recipe.model.bf16 && !global.precision_given && has_it;
    if chosen { Precision::Bf16 } else { global.precision }
}

/// Makes what listens to a run in the place of people at standard error: once for the run and once
/// for each of its stages.
pub type Listener<'a> = &'a dyn Fn() -> Box<dyn Observer>;

/// Progress on standard error, `metrics.jsonl` in the directory, and the log.
pub fn observers(directory: &Path, global: &Global, journal: &Journal) -> Result<Box<dyn Observer>> {
    observers_beside(Box::new(Progress::new(global.detail, journal)), directory, global)
}

/// A listener, `metrics.jsonl` in the directory, and the log.
fn observers_beside(first: Box<dyn Observer>, directory: &Path, global: &Global) -> Result<Box<dyn Observer>> {
    let metrics = StageMetrics::new(directory.join(METRICS_FILE));
    let mut all: Vec<Box<dyn Observer>> = vec![first, Box::new(metrics), Box::new(Log)];
    all.observe(&environment::event(isa().name(), &global.device.to_string(), global.precision))?;
    Ok(Box::new(all))
}

/// Writes `report.html` of a stage.
pub fn report(directory: &Path, title: &str) -> Result<PathBuf> {
    let path = directory.join(REPORT_FILE);
    html::write(&path, title, &[directory])?;
    Ok(path)
}

/// Refuses to train into the directory of the model that training starts from: it would be gone
/// before there is another.
pub fn refuse_own_model(out: &Path, model: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(out, model) || same(out, &model.join(pipeline::CLASSIFIER)) {
        return Err(Error::usage(format!("--out {} is the model that training starts from", out.display()))
            .hint("give --out a directory of its own"));
    }
    Ok(())
}

/// The recipe with the sizes of the model that a stage goes on from; sizes on the command line must
/// agree.
pub fn sized_like(asked: Recipe, config: &ModelConfig, args: &RecipeArgs, for_classifier: bool) -> Result<Recipe> {
    let mut recipe = asked.clone();
    let (encoder, bias) = match &config.architecture {
        Architecture::LanguageModel(settings) => (settings.encoder, Some(settings.decoder_bias)),
        Architecture::Classifier(settings) => (settings.encoder, None),
    };
    let (width, hidden, layers) = (encoder.width(), encoder.hidden(), encoder.layer_names().len());
    let text = |n: Option<usize>| n.map(|n| n.to_string());
    let given = [
        ("encoder", args.encoder.as_ref().map(name_of), encoder.kind().to_string()),
        ("emb-size", text(args.emb_size), width.to_string()),
        ("hidden-size", text(args.hidden_size), hidden.to_string()),
        ("layers", text(args.layers), layers.to_string()),
    ];
    for (flag, given, of_model) in given {
        if let Some(given) = given.filter(|given| *given != of_model) {
            return Err(Error::usage(format!("--{flag} {given}: the model to start from has {of_model}"))
                .hint("leave the flag out: the sizes are those of the model"));
        }
    }
    let bias = bias.unwrap_or(recipe.model.decoder_bias);
    let source = FROM_MODEL;
    recipe.set("model.encoder", encoder.kind().into(), source)?;
    recipe.set("model.emb", width.into(), source)?;
    recipe.set("model.hidden", hidden.into(), source)?;
    recipe.set("model.layers", layers.into(), source)?;
    if let EncoderSettings::Qrnn(qrnn) = encoder {
        recipe.set("model.zoneout", qrnn.zoneout.into(), source)?;
    }
    recipe.set("model.decoder_bias", bias.into(), source)?;
    super::takes::check_model(&asked, args, config.direction, &config.identity, &recipe, for_classifier)?;
    Ok(recipe)
}

/// Runs a command that trains one stage: prepares the directory, trains, writes the report, prints
/// the result. On a finished stage `--resume` only prints it.
pub fn train_one(
    global: &Global,
    recipe: Recipe,
    run: &RunArgs,
    args: &RecipeArgs,
    out: &Path,
    title: &str,
    train: impl FnOnce(&mut Context, &Path) -> Result<StageResult>,
) -> Result<()> {
    global.announce_run();
    run.begin();
    let folder = Folder::open(out, Some(run.resume), run.overwrite)?;
    let work = folder.path().to_path_buf();
    let finished = run.resume && models::is_finished(&work)?;
    crate::train::interrupt::install()?;
    let mut observer = observers(&work, global, &Journal::default())?;
    let mut context = context(recipe, global, run, args.reading_direction(), &mut *observer);
    let result = train(&mut context, &work).inspect_err(|_| folder.abandon())?;
    drop(observer);
    if !finished || files::is_writable(&work) && !files::exists(&work.join(REPORT_FILE))? {
        report(&work, title)?;
    }
    folder.finish()?;
    if finished {
        return output::result(global.json, &format!("{} is finished", out.display()), &result.json);
    }
    let page = out.join(REPORT_FILE);
    let text = format!("{}\nmodel: {}\nreport: {}", summary(&result.json), out.display(), page.display());
    output::result(global.json, &text, &result.json)
}

/// The numbers of a result, one to a line.
fn summary(json: &serde_json::Value) -> String {
    let shown = |v: &serde_json::Value| match v {
        serde_json::Value::Number(n) if n.is_f64() => Some(format!("{:.4}", n.as_f64().unwrap_or(f64::NAN))),
        serde_json::Value::Number(n) => Some(n.to_string()),
        serde_json::Value::String(s) => Some(s.clone()),
        _ => None,
    };
    let lines = json.as_object().into_iter().flatten();
    lines.filter_map(|(k, v)| Some(format!("{:<20} {}", k.replace('_', " "), shown(v)?))).collect::<Vec<_>>().join("\n")
}

/// Seeds of a whole run, each with its directory.
pub fn seed_directories(global: &Global, args: &RecipeArgs, out: &Path) -> Vec<(u64, PathBuf)> {
    let seeds = args.seeds.unwrap_or(1) as u64;
    let directory = |seed| if seeds > 1 { out.join(format!("seed-{seed}")) } else { out.to_path_buf() };
    (0..seeds).map(|k| global.seed.wrapping_add(k)).map(|seed| (seed, directory(seed))).collect()
}

/// The three stages with everything around them, for one seed or several.
#[derive(Clone, Copy)]
pub struct WholeRun<'a> {
    pub global: &'a Global,
    pub recipe: &'a Recipe,
    pub run: &'a RunArgs,
    pub args: &'a RecipeArgs,
    pub options: RunOptions,
    pub sources: &'a RunSources,
    /// What the user has been told.
    pub journal: &'a Journal,
    /// Who listens, if not people at standard error.
    pub listener: Option<Listener<'a>>,
}

/// Trains into a folder of its own; the result.
pub fn run_all(whole: &WholeRun, out: &Path) -> Result<serde_json::Value> {
    check(whole, out)?;
    whole.run.begin();
    let folder = Folder::open(out, Some(whole.run.resume), whole.run.overwrite)?;
    let result = train_all(whole, folder.path()).inspect_err(|_| folder.abandon())?;
    folder.finish()?;
    Ok(result)
}

/// [`run_all`] within a folder that is open already.
pub fn run_in(whole: &WholeRun, out: &Path) -> Result<serde_json::Value> {
    check(whole, out)?;
    train_all(whole, out)
}

/// Refuses what the stages would stumble over, before any work starts.
fn check(whole: &WholeRun, out: &Path) -> Result<()> {
    let &WholeRun { global, recipe, run, args, options, sources, .. } = whole;
    global.announce_run();
    let work = Work {
        out,
        models: args.seeds.unwrap_or(1) as u64 * if options.bidirectional { 2 } else { 1 },
        compare: options.compare,
        resume: run.resume,
        on_gpu: matches!(global.device, Device::Cuda(_)),
        memory_limit: global.memory_limit,
    };
    pipeline::check_inputs(sources, recipe, global.seed, &work)
}

fn train_all(whole: &WholeRun, out: &Path) -> Result<serde_json::Value> {
    let &WholeRun { global, recipe, run, args, options, sources, journal, listener } = whole;
    crate::train::interrupt::install()?;
    if !run.resume {
        // what a stopped run left must not count as a part of this one
        models::clear_stages(out)?;
    }
    let mut results = Vec::new();
    let directories = seed_directories(global, args, out);
    for (seed, directory) in &directories {
        let progress = || Box::new(Progress::new(global.detail, journal)) as Box<dyn Observer>;
        let listener = || listener.map_or_else(progress, |make| make());
        let mut notes = listener();
        let mut context = context(recipe.clone(), global, run, args.reading_direction(), &mut *notes);
        context.seed = *seed;
        let mut stage_observer = |directory: &Path| observers_beside(listener(), directory, global);
        let mut run = Run { context, out: directory, text: None, options, stage_observer: &mut stage_observer };
        results.push(run.run(sources).inspect_err(|_| models::abandon(directory))?);
    }
    let result = pipeline::over_seeds(&results);
    let finished = if run.resume { result_of_finished(out, &result) } else { None };
    if finished.is_some() && !files::is_writable(out) {
        return Ok(finished.unwrap_or(result));
    }
    for (_, directory) in directories {
        let stages: Vec<PathBuf> = pipeline::stage_directories(&directory)?;
        // of a finished run those alone that are missing
        let missing = |page: &Path| Ok::<_, Error>(finished.is_none() || !files::exists(page)?);
        for stage in &stages {
            if missing(&stage.join(REPORT_FILE))? {
                report(stage, "ULMFiT")?;
            }
        }
        let page = directory.join(REPORT_FILE);
        if missing(&page)? {
            let stages: Vec<&Path> = stages.iter().map(PathBuf::as_path).collect();
            html::write(&page, "ULMFiT", &stages)?;
        }
    }
    if let Some(finished) = finished {
        return Ok(finished);
    }
    let text = format!("{result:#}\n");
    crate::files::put(&out.join(RESULT_FILE), text)?;
    Ok(result)
}

/// The result that a run saved when it was finished, if going on with it gave nothing else.
fn result_of_finished(out: &Path, result: &serde_json::Value) -> Option<serde_json::Value> {
    let text = crate::files::read_text(&out.join(RESULT_FILE)).ok()?;
    let saved: serde_json::Value = serde_json::from_str(&text).ok()?;
    let same = serde_json::Value::Object({
        let mut result = result.as_object()?.clone();
        result.insert("seconds".into(), saved["seconds"].clone());
        result
    });
    (saved == same).then_some(saved)
}

/// Runs a stage that leaves nothing behind.
pub fn trial<R>(
    global: &Global,
    recipe: Recipe,
    direction: Direction,
    work: impl FnOnce(&mut Context) -> Result<R>,
) -> Result<R> {
    let device = global.announce_device();
    crate::train::interrupt::install()?;
    let mut context = Context {
        recipe,
        device,
        precision: global.precision,
        seed: global.seed,
        direction,
        memory_limit: global.memory_limit,
        resume: false,
        checkpoint_minutes: None,
        checkpoint_steps: None,
        observer: &mut Notes(Progress::new(global.detail, &Journal::default())),
    };
    work(&mut context)
}

/// What is said outside a training: its updates are not shown.
struct Notes(Progress);

impl Observer for Notes {
    fn observe(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Note { .. } | Event::Data { .. } | Event::Warning { .. } => self.0.observe(event),
            _ => Ok(()),
        }
    }
}
