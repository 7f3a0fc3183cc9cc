//! `ulmfit recipe`: the settings of a recipe, and what one of them means.

use clap::ValueEnum;
use serde_json::json;

use super::recipe::RecipeName;
use super::values::name_of;
use super::{Global, output};
use crate::error::{Error, Result};
use crate::train::Stage;
use crate::train::recipe::{Recipe, Row, flags_of, meaning, names};

/// Stages with settings of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StageArg {
    Pretrain,
    Finetune,
    Classifier,
}

/// The settings of a recipe, with their sources; what one of them means
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit recipe default\n  ulmfit recipe paper --stage classifier\n  ulmfit recipe default --explain classifier.lr"
)]
pub struct Args {
    /// The recipe
    #[arg(value_enum, value_name = "NAME")]
    pub name: RecipeName,
    /// Only what this stage reads
    #[arg(long, value_enum, value_name = "STAGE")]
    pub stage: Option<StageArg>,
    /// What a key means, which flags set it, and what it is in the other recipes; with its section
    /// (classifier.lr) or without (lr)
    #[arg(long, value_name = "KEY")]
    pub explain: Option<String>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let recipe = Recipe::named(&name_of(&args.name))?;
    let stage = args.stage.map(|stage| match stage {
        StageArg::Pretrain => Stage::Pretrain,
        StageArg::Finetune => Stage::FinetuneLm,
        StageArg::Classifier => Stage::Classifier,
    });
    let asked = |row: &&Row| match args.explain.as_deref() {
        Some(key) => row.key == key || row.key.split_once('.').is_some_and(|(_, name)| name == key),
        None => true,
    };
    let rows: Vec<&Row> = recipe.stage_rows(stage).filter(asked).collect();
    let text = match &args.explain {
        Some(key) if rows.is_empty() => {
            return Err(Error::usage(format!("--explain {key}: no such key is in this recipe"))
                .hint(format!("'ulmfit recipe {}' lists the keys", recipe.name)));
        }
        Some(_) => rows.iter().map(|row| explained(row, &recipe.name)).collect::<Result<Vec<_>>>()?.join("\n"),
        None => recipe.print(stage),
    };
    let row =
        |row: &&Row| json!({ "key": row.key, "value": row.value, "source": row.source, "meaning": meaning(&row.key) });
    let json = json!({ "recipe": recipe.name, "rows": rows.iter().map(row).collect::<Vec<_>>() });
    output::result(global.json, &text, &json)
}

/// A few lines about one row.
fn explained(row: &Row, recipe: &str) -> Result<String> {
    let mut text = format!("{} = {}\n", row.key, row.text());
    let meaning = meaning(&row.key).unwrap_or_else(|| "nobody has said".into());
    text += &format!("  meaning    {meaning}\n  source     {}\n", row.source);
    let mut flags = flags_of(&row.key);
    flags.push(format!("--set {}=VALUE", row.key));
    text += &format!("  set by     {}\n", flags.join(", "));
    let mut others = Vec::new();
    for name in names().filter(|name| *name != recipe) {
        let other = Recipe::named(name)?;
        let value = other.row(&row.key).map_or_else(|| "not there".into(), Row::text);
        others.push(format!("{name} {value}"));
    }
    text += &format!("  elsewhere  {}\n", others.join("; "));
    Ok(text)
}
