//! `ulmfit man`: manual pages, made from what `--help` says.

use std::path::PathBuf;

use clap_mangen::Man;

use super::{Global, output};
use crate::error::{Error, Result};
use crate::files;

/// The manual page of the program or of a command, to standard output
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit man | man -l -\n  ulmfit man run\n  ulmfit man --out ~/.local/share/man/man1"
)]
pub struct Args {
    /// The command [default: the whole program]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Option<String>,
    /// Writes all pages into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    let mut program = super::definition();
    // gives every command its full name and the global flags
    program.build();
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, "create", &e))?;
        let mut pages = vec![program.clone()];
        pages.extend(program.get_subcommands().cloned());
        for page in &pages {
            let name = page.get_display_name().unwrap_or_else(|| page.get_name()).replace(' ', "-");
            files::put(&out.join(format!("{name}.1")), text(page)?)?;
        }
        let value = serde_json::json!({ "folder": out, "pages": pages.len() });
        return output::result(global.json, &format!("{} pages in {}", pages.len(), out.display()), &value);
    }
    let page = match &args.command {
        Some(name) => program.find_subcommand(name).ok_or_else(|| {
            Error::usage(format!("man {name}: no such command")).hint("'ulmfit --help' lists the commands")
        })?,
        None => &program,
    };
    output::to_stdout(&text(page)?)
}

/// A page in roff.
fn text(command: &clap::Command) -> Result<String> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text).map_err(|e| Error::io("the manual page", "write", &e))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
