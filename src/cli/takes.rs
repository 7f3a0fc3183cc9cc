//! Which command takes which flag and which key of a recipe: the one table. What is given on the
//! command line and would do nothing is refused. (A configuration file may hold the recipe of a
//! whole run, whatever the command.)

use super::recipe::{RecipeArgs, StagedRecipe};
use super::values::name_of;
use crate::error::{Error, Result};
use crate::text::Direction;
use crate::train::recipe::{Recipe, key_of};

/// Commands that read a recipe, by what they start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    Run {
        with_corpus: bool,
    },
    Pretrain,
    /// Starts from a language model, whose vocabulary is mapped onto that of the text.
    FinetuneLm,
    /// A classifier from scratch.
    Scratch,
    /// A classifier on a language model, with its vocabulary.
    Classifier,
}

const ALL: &[&str] = &["model", "text", "pretrain", "finetune", "classifier"];

/// A command and the sections that it takes, and why not the others.
const TABLE: &[(Taker, &[&str], &str)] = &[
    (Taker::Run { with_corpus: true }, ALL, "no stage reads it"),
    (
        Taker::Run { with_corpus: false },
        &["model", "text", "finetune", "classifier"],
        "there is no --corpus to pretrain on",
    ),
    (Taker::Pretrain, &["model", "text", "pretrain"], "this command pretrains"),
    (Taker::FinetuneLm, &["model", "text", "finetune"], "this command tunes a language model"),
    (Taker::Scratch, &["model", "text", "classifier"], "this command trains a classifier"),
    (Taker::Classifier, &["model", "text", "classifier"], "this command trains a classifier"),
];

/// Keys that the model to start from has decided, beside those of `model` and `text`: of a
/// classifier, how its vocabulary was made. They may be given where they say the same.
const OF_VOCABULARY: [&str; 2] = ["vocab_size", "min_freq"];

impl Taker {
    /// Whether a key does something; if not, why not.
    fn takes(self, key: &str) -> std::result::Result<(), &'static str> {
        let (_, sections, why) = TABLE.iter().find(|(taker, ..)| *taker == self).expect("every command has a row");
        if !sections.contains(&key.split('.').next().unwrap_or_default()) {
            return Err(why);
        }
        if key.starts_with("classifier.folds") && !matches!(self, Taker::Run { .. }) {
            return Err("a stage alone trains one network; 'ulmfit run' trains one for each fold");
        }
        Ok(())
    }

    /// Section of the flags without a prefix.
    fn section(self) -> Option<&'static str> {
        match self {
            Taker::Run { .. } => None,
            Taker::Pretrain => Some("pretrain"),
            Taker::FinetuneLm => Some("finetune"),
            Taker::Scratch | Taker::Classifier => Some("classifier"),
        }
    }
}

fn refused(flag: &str, why: &str) -> Error {
    Error::usage(format!("{flag} does nothing here: {why}")).hint("leave it out")
}

/// Refuses what the command line of a stage gives and the stage does not take.
///
/// # Errors
/// [`Error::Usage`] that names the flag.
pub fn check_stage(taker: Taker, args: &RecipeArgs, from_config: &dyn Fn(&str) -> bool) -> Result<()> {
    let whole_run = [("bidirectional", args.bidirectional), ("seeds", args.seeds.is_some())];
    if let Some((flag, _)) = whole_run.into_iter().find(|(flag, given)| *given && !from_config(flag)) {
        return Err(refused(&format!("--{flag}"), "a stage alone trains one model; 'ulmfit run' takes it"));
    }
    let labelled = matches!(taker, Taker::Scratch | Taker::Classifier);
    if args.labels.is_some() && !labelled && !from_config("labels") {
        return Err(refused("--labels", "this stage reads no labels"));
    }
    let section = taker.section().expect("a stage has a section");
    for (flag, _) in args.given().into_iter().filter(|(flag, _)| !from_config(flag)) {
        let key = key_of(flag, section);
        taker.takes(&key).map_err(|why| refused(&format!("--{flag}"), why))?;
    }
    check_set(taker, args)
}

fn check_set(taker: Taker, args: &RecipeArgs) -> Result<()> {
    for (key, value) in &args.set {
        taker.takes(key).map_err(|why| refused(&format!("--set {key}={value}"), why))?;
    }
    Ok(())
}

/// Refuses what the command line of a whole run gives to a stage that does not take it.
///
/// # Errors
/// [`Error::Usage`] that names the flag.
pub fn check_run(with_corpus: bool, recipe: &StagedRecipe, from_config: &dyn Fn(&str) -> bool) -> Result<()> {
    let taker = Taker::Run { with_corpus };
    if recipe.general.bidirectional && recipe.general.direction.is_some() {
        return Err(refused("--direction", "--bidirectional trains both"));
    }
    for (prefix, args) in
        [("pretrain", &recipe.pretrain), ("finetune", &recipe.finetune), ("classifier", &recipe.classifier)]
    {
        for (flag, _) in args.given().into_iter().filter(|(flag, _)| !from_config(&format!("{prefix}-{flag}"))) {
            taker.takes(&key_of(flag, prefix)).map_err(|why| refused(&format!("--{prefix}-{flag}"), why))?;
        }
    }
    // a classifier has the vocabulary of its language model
    let own = [
        (
            "vocab-size",
            recipe.classifier.vocab_size.is_some(),
            recipe.classifier.vocab_size == recipe.finetune().vocab_size,
        ),
        ("min-freq", recipe.classifier.min_freq.is_some(), recipe.classifier.min_freq == recipe.finetune().min_freq),
    ];
    if let Some((flag, ..)) =
        own.iter().find(|(flag, given, same)| *given && !same && !from_config(&format!("classifier-{flag}")))
    {
        return Err(refused(&format!("--classifier-{flag}"), "a classifier has the vocabulary of its language model"));
    }
    let vocabulary = OF_VOCABULARY.map(|name| format!("classifier.{name}"));
    if let Some((key, value)) = recipe.general.set.iter().find(|(key, _)| vocabulary.contains(key)) {
        return Err(refused(&format!("--set {key}={value}"), "a classifier has the vocabulary of its language model"));
    }
    check_set(taker, &recipe.general)
}

/// Refuses what a model to start from has decided already, where something else is asked for.
/// `decided`: what its run had, by the keys of the recipe (`config.json`, identity). `asked`: the
/// recipe of the command line, before the sizes of the model went in.
///
/// # Errors
/// [`Error::Usage`] that names the flag.
pub fn check_model(
    asked: &Recipe,
    args: &RecipeArgs,
    direction: Direction,
    decided: &serde_json::Value,
    sized: &Recipe,
    of_classifier: bool,
) -> Result<()> {
    if let Some(given) = &args.direction
        && name_of(given) != direction.name()
    {
        let (given, of_model) = (name_of(given), direction.name());
        return Err(Error::usage(format!("--direction {given}: the model to start from reads {of_model}"))
            .hint("leave the flag out: the direction is that of the model"));
    }
    let flags = args.given().into_iter().map(|(flag, value)| (key_of(flag, "classifier"), format!("--{flag} {value}")));
    let set = args.set.iter().map(|(key, value)| (key.clone(), format!("--set {key}={value}")));
    for (key, written) in flags.chain(set) {
        let Some(row) = asked.row(&key) else { continue };
        let (section, name) = key.split_once('.').unwrap_or_default();
        let of_model = match section {
            "model" => sized.row(&key).map(|row| row.value.clone()),
            "text" if name != "vocab_multiple" => decided.get(&key).cloned(),
            "classifier" if OF_VOCABULARY.contains(&name) && of_classifier => {
                ["finetune", "pretrain"].iter().find_map(|stage| decided.get(format!("{stage}.{name}")).cloned())
            }
            _ => continue,
        };
        if of_model.as_ref() != Some(&row.value) {
            let of_model = of_model.map_or("no such choice".into(), |value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            });
            return Err(Error::usage(format!("{written}: the model to start from has {of_model}"))
                .hint("leave it out: it is that of the model"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_taker() {
        let recipe = Recipe::named("tiny").unwrap();
        for row in recipe.rows() {
            assert!(TABLE.iter().any(|(taker, ..)| taker.takes(&row.key).is_ok()), "{}", row.key);
        }
    }
}
