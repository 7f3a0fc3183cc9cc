//! `ulmfit report`: a page about a run, or about several side by side.

use std::path::PathBuf;

use serde_json::json;

use super::shared::DataArgs;
use super::{Global, job, output, values};
use crate::answer::mistakes::examine;
use crate::answer::panel::{Panel, Voices};
use crate::error::{Error, Result};
use crate::files;
use crate::report::subject::Subject;
use crate::report::{comparison, html, mistakes, tensorboard};
use crate::text::{Role, Source};

/// Make a page about a run, or compare several; write event files for TensorBoard
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The page needs nothing outside of itself. With --data it holds texts of the data.\n\nExamples:\n  ulmfit report small large --out comparison.html\n  ulmfit report model --data test.csv\n  ulmfit report model --tensorboard logs"
)]
pub struct Args {
    /// Folders of models or of runs, finished or not
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// The page [default: report.html in the present folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Labelled texts: how right and how sure the answers are, and the words behind errors
    #[arg(long, value_name = "FILE|-")]
    pub data: Option<String>,
    /// Errors to explain for each folder
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = values::from_zero, requires = "data")]
    pub errors: usize,
    /// Also write the curves as event files below this folder
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    #[command(flatten)]
    pub files: DataArgs,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("report.html"));
    output::check_place("--out", &out)?;
    if args.data.as_ref().is_some_and(|data| files::is_same(&out, data.as_ref())) {
        return Err(Error::usage(format!("--out {}: is the file of --data", out.display())));
    }
    if args.folders.len() > comparison::MOST {
        let message = format!("{} folders: a page compares {} at most", args.folders.len(), comparison::MOST);
        return Err(Error::usage(message));
    }
    for (at, folder) in args.folders.iter().enumerate() {
        if args.folders[..at].contains(folder) {
            return Err(Error::usage(format!("{} is named twice", folder.display())));
        }
    }
    let mut subjects = args.folders.iter().map(|folder| Subject::load(folder)).collect::<Result<Vec<_>>>()?;
    let data = args.data.as_ref().map(|data| job::source_or_stdin(data, &args.files, Role::Dataset)).transpose()?;
    if let Some(data) = &data {
        look_at_answers(args, global, &mut subjects, data)?;
    }
    let named = data.as_ref().map(Source::name);
    let page = match &subjects[..] {
        [one] => {
            let mut more = String::new();
            if let (Some(data), Some(examined)) = (named, &one.examined) {
                mistakes::section(&mut more, data, &[(one.name.clone(), examined)])?;
            }
            html::page(&one.name, &one.runs, &more)?
        }
        several => comparison::comparison(&format!("{} runs", several.len()), several, named)?,
    };
    let events = match &args.tensorboard {
        Some(folder) => tensorboard::write(folder, &subjects)?,
        None => Vec::new(),
    };
    files::put_output(&out, page)?;
    let mut text = format!("report: {}", out.display());
    if let Some(folder) = &args.tensorboard {
        text += &format!("\ntensorboard: {} event files in {}", events.len(), folder.display());
    }
    let measured = |subject: &Subject| {
        subject.examined.as_ref().map(|examined| {
            json!({
                "error": examined.outcome.measured.score("error_percent"),
                "test_size": examined.outcome.measured.count,
                "explained": examined.mistakes.iter().map(|mistake| mistake.row).collect::<Vec<_>>(),
            })
        })
    };
    let runs: Vec<_> = subjects.iter().map(|s| json!({ "name": s.name, "data": measured(s) })).collect();
    output::result(global.json, &text, &json!({ "report": out, "runs": runs, "tensorboard": events }))
}

/// Answers the data with the models of every folder.
fn look_at_answers(args: &Args, global: &Global, subjects: &mut [Subject], data: &Source) -> Result<()> {
    if !global.quiet {
        output::to_stderr(&data.describe());
    }
    global.announce_device();
    for (folder, subject) in args.folders.iter().zip(subjects) {
        let mut panel = Panel::load(folder, None, Voices::All, || global.graph())?;
        subject.examined = Some(examine(&mut panel, data, args.errors)?);
        output::warn(panel.warning());
    }
    Ok(())
}
