//! Which processes are watched: what the commands that trace for somebody else's question share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};
use regex::Regex;

use super::trace::TraceArgs;
use crate::exit::Failure;

/// The processes to watch.
#[derive(Args, Debug)]
pub struct Whom {
    /// The process to watch, with those it forked and will fork; may be given several times.
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Watch every Python process whose command line fits this expression, and their children.
    #[arg(long, value_name = "REGEX")]
    name: Option<Regex>,
    /// Watch every Python process in this control group and below (a folder under /sys/fs/cgroup).
    #[arg(long, value_name = "FOLDER")]
    cgroup: Option<PathBuf>,
    /// Only the process itself, none of its children.
    #[arg(long)]
    no_children: bool,
}

impl Whom {
    /// A quiet trace of them, or of a command; everything else is as `trace` has it.
    ///
    /// # Errors
    /// `trace` refuses its arguments.
    pub fn as_trace(&self, command: &[OsString]) -> Result<TraceArgs, Failure> {
        let mut words: Vec<OsString> = vec!["trace".into(), "--quiet".into()];
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        self.pid.iter().for_each(|pid| option("--pid", pid.to_string().into()));
        self.name.iter().for_each(|name| option("--name", name.as_str().into()));
        self.cgroup.iter().for_each(|folder| option("--cgroup", folder.into()));
        words.extend(self.no_children.then(|| "--no-children".into()));
        if !command.is_empty() {
            words.push("--".into());
            words.extend(command.iter().cloned());
        }
        let parsed = TraceArgs::augment_args(clap::Command::new("trace")).try_get_matches_from(words);
        parsed.and_then(|matches| TraceArgs::from_arg_matches(&matches)).map_err(Failure::usage)
    }
}
