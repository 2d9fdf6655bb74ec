//! `pyalloc completions`: what a shell needs to complete pyalloc's words.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit::{Exit, Failure};
use crate::terminal;

/// Print the completions for a shell.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  pyalloc completions bash > ~/.local/share/bash-completion/completions/pyalloc
  pyalloc completions zsh > ~/.zfunc/_pyalloc
      with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  pyalloc completions fish > ~/.config/fish/completions/pyalloc.fish";

/// Runs the command; `words` is the command line to complete.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &CompletionsArgs, words: &Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(words), "pyalloc", &mut script);
    terminal::put(None, &script)?;
    Ok(Exit::Fine)
}

/// Without hidden commands: a shell is to offer what people type.
fn shown(words: &Command) -> Command {
    let subcommands = words.get_subcommands().filter(|one| !one.is_hide_set()).cloned();
    Command::new("pyalloc").args(words.get_arguments().cloned()).subcommands(subcommands)
}
