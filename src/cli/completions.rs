//! `ulmfit completions`: what a shell needs to complete a command.

use clap_complete::Shell;

use super::{Global, output};
use crate::error::Result;

/// Completions for a shell, to standard output
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ulmfit completions bash > ~/.local/share/bash-completion/completions/ulmfit\n  ulmfit completions zsh > ~/.zfunc/_ulmfit\n  ulmfit completions fish > ~/.config/fish/completions/ulmfit.fish"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "ulmfit", &mut text);
    output::to_stdout(&String::from_utf8_lossy(&text))
}
