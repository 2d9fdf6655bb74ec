//! `pyalloc man`: the manual pages, one a command.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;

use crate::exit::{Exit, Failure};
use crate::output::{sudo_owner, write_atomically};

/// Write the manual pages into a folder.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// The folder; it must be there
    folder: PathBuf,
}

const EXAMPLES: &str = "Examples:
  mkdir -p ~/.local/share/man/man1 && pyalloc man ~/.local/share/man/man1
  man pyalloc-trace";

/// Runs the command; `words` is the command line to describe.
///
/// # Errors
/// The folder is not there or cannot be written.
pub fn run(args: &ManArgs, words: Command) -> Result<Exit, Failure> {
    // Every page names its command in full only once the whole is built; `help` is explained by each page itself.
    let mut words = words.disable_help_subcommand(true);
    words.build();
    let subcommands: Vec<Command> = words.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    for command in std::iter::once(words).chain(subcommands) {
        let page = Man::new(command);
        let mut text = Vec::new();
        page.render(&mut text).map_err(Failure::usage)?;
        let path = args.folder.join(page.get_filename());
        write_atomically(&path, sudo_owner(), |out| out.write_all(&text)).map_err(Failure::usage)?;
    }
    Ok(Exit::Fine)
}
