//! From recipe flags to a resolved recipe, every line with its source: the recipe's table, the
//! configuration file, the command line.

use super::Global;
use super::recipe::{RecipeArgs, StagedRecipe};
use super::values::{Discriminative, name_of};
use crate::error::{Error, Result};
use crate::train::Stage;
use crate::train::recipe::{Builder, COMMAND_LINE, Recipe, TokenizerName};

impl RecipeArgs {
    /// The recipe of a stage's own command; `default` where none is named.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the flag whose value does not fit.
    pub fn resolve(&self, default: &str, global: &Global) -> Result<Recipe> {
        let name = self.recipe.map_or_else(|| default.to_string(), |name| name_of(&name));
        build(Builder::new(&name)?, &[(None, self)], global)
    }

    /// The flags given that override lines of a recipe, with their values as text.
    pub(super) fn given(&self) -> Vec<(&'static str, String)> {
        fn list<T: ToString>(values: &[T]) -> String {
            values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let discriminative = self.discriminative.map(|value| match value {
            Discriminative::On => "on".to_string(),
            Discriminative::Off => "off".to_string(),
            Discriminative::Factor(factor) => factor.to_string(),
        });
        let all = [
            ("encoder", self.encoder.as_ref().map(name_of)),
            ("emb-size", self.emb_size.map(|v| v.to_string())),
            ("hidden-size", self.hidden_size.map(|v| v.to_string())),
            ("layers", self.layers.map(|v| v.to_string())),
            ("tokenizer", self.tokenizer.as_ref().map(name_of)),
            ("subword", self.subword.as_ref().map(name_of)),
            ("tokenizer-file", self.tokenizer_file.clone()),
            ("rules", self.rules.clone()),
            ("language", self.language.clone()),
            ("invisible", self.invisible.as_ref().map(name_of)),
            ("vocab-size", self.vocab_size.map(|v| v.to_string())),
            ("min-freq", self.min_freq.map(|v| v.to_string())),
            ("bptt", self.bptt.map(|v| v.to_string())),
            ("batch-size", self.batch_size.map(|v| v.to_string())),
            ("epochs", self.epochs.as_ref().map(|v| list(&v.0))),
            ("lr", self.lr.as_ref().map(|v| list(&v.0))),
            ("drop-mult", self.drop_mult.map(|v| v.to_string())),
            ("weight-decay", self.weight_decay.map(|v| v.to_string())),
            ("schedule", self.schedule.as_ref().map(name_of)),
            ("discriminative", discriminative),
            ("unfreezing", self.unfreezing.as_ref().map(name_of)),
            ("max-steps", self.max_steps.map(|v| v.to_string())),
            ("valid-fraction", self.valid_fraction.map(|v| v.to_string())),
            ("task", self.task.as_ref().map(name_of)),
            ("class-weights", self.class_weights.clone()),
            ("thresholds", self.thresholds.clone()),
            ("focal", self.focal.map(|v| v.to_string())),
            ("auxiliary-lm", self.auxiliary_lm.map(|v| v.to_string())),
            ("on-nan", self.on_nan.as_ref().map(name_of)),
        ];
        all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }
}

impl StagedRecipe {
    /// The recipe of a whole run; `default` where none is named.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the flag whose value does not fit, or that holds for the whole
    /// run but was given to one stage.
    pub fn resolve(&self, default: &str, global: &Global) -> Result<Recipe> {
        let stages = [
            (Stage::Pretrain, "pretrain", &self.pretrain),
            (Stage::FinetuneLm, "finetune", &self.finetune),
            (Stage::Classifier, "classifier", &self.classifier),
        ];
        for (stage, prefix, args) in stages {
            let whole = [
                ("recipe", args.recipe.is_some()),
                ("direction", args.direction.is_some()),
                ("bidirectional", args.bidirectional),
                ("seeds", args.seeds.is_some()),
                ("labels", args.labels.is_some() && stage != Stage::Classifier),
            ];
            if let Some((flag, _)) = whole.iter().find(|(_, given)| *given) {
                let message = format!("--{prefix}-{flag}: '{flag}' holds for the whole run, not for one stage");
                return Err(Error::usage(message).hint(format!("give it as --{flag}")));
            }
        }
        let name = self.general.recipe.map_or_else(|| default.to_string(), |name| name_of(&name));
        let groups = [(None, &self.general)].into_iter().chain(stages.map(|(stage, _, args)| (Some(stage), args)));
        build(Builder::new(&name)?, &groups.collect::<Vec<_>>(), global)
    }

    /// Size of the balanced subset of labelled documents.
    pub fn labels(&self) -> Option<usize> {
        self.classifier.labels.or(self.general.labels)
    }
}

/// Applies the flags: those of the configuration file first, so that the command line wins.
fn build(mut builder: Builder, groups: &[(Option<Stage>, &RecipeArgs)], global: &Global) -> Result<Recipe> {
    let file = global.config.as_ref().map(|file| file.display().to_string());
    let sources = [(true, file.as_deref().unwrap_or_default()), (false, COMMAND_LINE)];
    for (from_config, source) in sources {
        for (stage, args) in groups {
            for (flag, value) in args.given() {
                let prefix = stage.map(|stage| format!("{}-", stage.section())).unwrap_or_default();
                if global.from_config.contains(&format!("{prefix}{flag}")) == from_config {
                    builder.flag(*stage, flag, &value, source)?;
                }
            }
            for (key, value) in if from_config { &args.config_set } else { &args.set } {
                builder.key(key, value, source)?;
            }
        }
    }
    let recipe = builder.build()?;
    if recipe.text.tokenizer != TokenizerName::Subword && groups.iter().any(|(_, args)| args.subword.is_some()) {
        return Err(Error::usage(format!("--subword {}: the tokenizer is another one", recipe.text.subword))
            .hint("say --tokenizer subword"));
    }
    Ok(recipe)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::{Cli, Command, config};
    use crate::train::recipe::DEFAULT;

    /// Resolves the recipe of a line as the program does; `C` stands for the configuration file.
    fn resolved(line: &str, toml: &str) -> Result<Recipe> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, toml).unwrap();
        let line = line.split(' ').map(|w| if w == "C" { file.clone().into() } else { OsString::from(w) }).collect();
        let merged = config::merge(&Cli::command(), line)?;
        let cli = Cli::from_arg_matches(&Cli::command().try_get_matches_from(&merged.line).unwrap()).unwrap();
        let global = Global::new(cli.global, merged.from_config)?;
        match &cli.command {
            Command::Run(args) => args.recipe.resolve(DEFAULT, &global),
            Command::Pretrain(args) => args.input.recipe.resolve(DEFAULT, &global),
            other => panic!("{other:?}"),
        }
    }

    fn row(recipe: &Recipe, key: &str) -> (String, String) {
        let row = recipe.row(key).unwrap();
        (row.text(), row.source.rsplit('/').next().unwrap().to_string())
    }

    const RUN: &str = "ulmfit run --device cpu --train t --out o --config C";

    #[test]
    fn every_line_has_its_source() {
        let toml = "recipe = 'fastai2'\nlr = 0.5\nbatch-size = 7\n[pretrain]\nlr = 0.25\nbptt = 11\n";
        let recipe = resolved(&format!("{RUN} --classifier-lr 0.125 --batch-size 9"), toml).unwrap();
        assert_eq!(recipe.name, "fastai2");
        assert_eq!(row(&recipe, "pretrain.lr"), ("0.25".into(), "c.toml".into()));
        assert_eq!(row(&recipe, "finetune.lr"), ("0.5".into(), "c.toml".into()));
        assert_eq!(row(&recipe, "classifier.lr"), ("0.125".into(), "command line".into()));
        assert_eq!(row(&recipe, "pretrain.bptt"), ("11".into(), "c.toml".into()));
        assert_eq!(row(&recipe, "classifier.batch_size"), ("9".into(), "command line".into()));
    }

    #[test]
    fn any_line_can_be_set_and_the_command_line_wins() {
        let toml = "[classifier]\nmax_len = 800\n";
        assert_eq!(row(&resolved(RUN, toml).unwrap(), "classifier.max_len"), ("800".into(), "c.toml".into()));
        let recipe = resolved(&format!("{RUN} --set classifier.max_len=700"), toml).unwrap();
        assert_eq!(row(&recipe, "classifier.max_len"), ("700".into(), "command line".into()));
        let error = resolved(&format!("{RUN} --set classifier.magic=1"), "").unwrap_err();
        assert!(error.to_string().contains("classifier.magic"), "{error}");
    }

    #[test]
    fn what_holds_for_the_whole_run_is_refused_for_a_stage() {
        for flag in ["--pretrain-recipe tiny", "--classifier-direction backward", "--pretrain-emb-size 8"] {
            let error = resolved(&format!("{RUN} {flag}"), "").unwrap_err().to_string();
            assert!(error.contains(flag.split(' ').next().unwrap()) && error.contains("whole run"), "{error}");
        }
        assert!(resolved(&format!("{RUN} --classifier-labels 100"), "").is_ok());
    }

    #[test]
    fn a_stage_of_its_own() {
        let line =
            "ulmfit pretrain --device cpu --corpus c --out o --config C --recipe tiny --lr 1e-3 --discriminative off";
        let recipe = resolved(line, "[pretrain]\nepochs = 3\n[classifier]\nmax_len = 800\n").unwrap();
        assert_eq!(recipe.name, "tiny");
        assert_eq!(row(&recipe, "pretrain.lr"), ("0.001".into(), "command line".into()));
        assert_eq!(row(&recipe, "pretrain.ladder"), ("off".into(), "command line".into()));
        assert!(row(&recipe, "pretrain.epochs").0.ends_with('3'));
        assert_ne!(row(&recipe, "classifier.max_len").1, "c.toml");
    }

    /// The whole recipe of the peer resolves.
    #[test]
    fn the_peers_recipe() {
        let toml = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tools/peer/trec.toml")).unwrap();
        let recipe = resolved(RUN, &toml).unwrap();
        assert_eq!(row(&recipe, "finetune.epochs").0, "1,8");
        assert_eq!(row(&recipe, "classifier.epochs").0, "1,1,1,17");
    }
}
