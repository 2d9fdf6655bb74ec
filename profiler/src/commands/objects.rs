//! `pyalloc objects`: what a diagnosis sees of the objects in a process's memory, as JSON. For finding out why a diagnosis
//! says what it says, and for tests.

use std::io::BufRead as _;
use std::time::Duration;

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::objects::{Options, Subject};
use crate::process::Pid;
use crate::process::bounded::Budget;
use crate::profile::objects::ObjectLook;
use crate::terminal::{self, Stream};

/// Print what a look at the objects of a process finds, as JSON: types, containers, caches, who keeps what
#[derive(clap::Args, Debug)]
pub struct ObjectsArgs {
    /// The process
    #[arg(long)]
    pub pid: u32,
    /// Make so many looks, one after the other, and print the sums of what they cost
    #[arg(long, value_name = "N", conflicts_with = "each_line")]
    pub looks: Option<u32>,
    /// Make a look for each line of standard input
    #[arg(long)]
    pub each_line: bool,
    /// Most MiB that a look copies
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub most_mib: u64,
    /// Most milliseconds that a look takes
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub most_ms: u64,
    /// Addresses of objects of which to tell who keeps them
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub focus: Vec<u64>,
}

/// What many looks cost, and how they went.
#[derive(Debug, Default, Serialize)]
struct Sums {
    looks: u64,
    /// A bound ended them.
    partial: u64,
    not_available: u64,
    /// Objects in all looks, and what did not pass the checks.
    objects: u64,
    discarded: u64,
    /// Looks that discarded something.
    with_discarded: u64,
    bytes_read: u64,
    took_us: u64,
    longest_us: u64,
}

impl Sums {
    fn add(&mut self, look: &ObjectLook) {
        self.looks += 1;
        self.partial += u64::from(look.partial);
        self.not_available += u64::from(look.not_available.is_some());
        self.objects += look.objects;
        self.discarded += look.discarded;
        self.with_discarded += u64::from(look.discarded > 0);
        self.bytes_read += look.bytes_read;
        self.took_us += look.took_us;
        self.longest_us = self.longest_us.max(look.took_us);
    }
}

/// Runs it.
///
/// # Errors
/// A process that is no Python process, or whose memory may not be read (exit code 3).
pub fn run(args: &ObjectsArgs) -> Result<Exit, Failure> {
    let mut subject = Subject::open(Pid(args.pid)).map_err(Failure::cannot_observe)?;
    let budget = Budget { bytes: args.most_mib << 20, time: Duration::from_millis(args.most_ms) };
    let options = Options { budget, focus: args.focus.clone(), ..Options::default() };
    let mut look = || subject.look(&options).map_err(Failure::cannot_observe);
    match args.looks {
        Some(count) => {
            let mut sums = Sums::default();
            for _ in 0..count {
                sums.add(&look()?);
            }
            print(&sums)?;
        }
        None if args.each_line => {
            for line in std::io::stdin().lock().lines() {
                line.map_err(Failure::cannot_observe)?;
                print(&look()?)?;
            }
        }
        None => {
            let text = serde_json::to_string_pretty(&look()?).map_err(Failure::cannot_observe)?;
            terminal::print(Stream::Output, &format!("{text}\n"))?;
        }
    }
    Ok(Exit::Fine)
}

/// On one line.
fn print(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(Failure::cannot_observe)?;
    terminal::print(Stream::Output, &format!("{text}\n"))
}
