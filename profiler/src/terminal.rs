//! Printing a report: how wide the terminal is, whether colours are wanted, and readers that have had enough.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use crate::exit::Failure;
use crate::output::{reason, sudo_owner, write_atomically};
use crate::render::{self, Options};

/// Where a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How to render for a stream: colours on a terminal only, and never with `NO_COLOR`.
pub fn options(stream: Stream) -> Options {
    let (terminal, columns) = match stream {
        Stream::Output => (io::stdout().is_terminal(), columns(io::stdout())),
        Stream::Error => (io::stderr().is_terminal(), columns(io::stderr())),
    };
    if !terminal {
        return options_of_file();
    }
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let width =
        if columns == 0 { render::DEFAULT_WIDTH } else { columns.clamp(render::MIN_WIDTH, render::DEFAULT_WIDTH) };
    Options { colour: !no_colour, width, ..options_of_file() }
}

/// How to render into a file.
pub fn options_of_file() -> Options {
    Options { colour: false, width: render::DEFAULT_WIDTH, ..Options::default() }
}

/// How to render for a file, or where none is given for standard output.
pub fn options_for(output: Option<&Path>) -> Options {
    output.map_or_else(|| options(Stream::Output), |_| options_of_file())
}

/// Writes a report to a file of the caller's, or where none is given prints it.
///
/// # Errors
/// The file or standard output cannot be written.
pub fn put(output: Option<&Path>, document: impl AsRef<[u8]>) -> Result<(), Failure> {
    match output {
        Some(path) => {
            write_atomically(path, sudo_owner(), |out| out.write_all(document.as_ref())).map_err(Failure::usage)
        }
        None => print_bytes(Stream::Output, document.as_ref()),
    }
}

/// Prints. A reader that had enough (`| head`) is no failure.
///
/// # Errors
/// The stream cannot be written, for instance because the disk behind it is full.
pub fn print(stream: Stream, text: &str) -> Result<(), Failure> {
    print_bytes(stream, text.as_bytes())
}

/// As [`print`], for what need not be text.
fn print_bytes(stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
    let written = match stream {
        Stream::Output => write(&mut io::stdout().lock(), bytes),
        Stream::Error => write(&mut io::stderr().lock(), bytes),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::usage(format_args!("cannot write the report: {}", reason(&error))))
        }
        _ => Ok(()),
    }
}

fn write(out: &mut dyn io::Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes).and_then(|()| out.flush())
}

fn columns(of: impl std::os::fd::AsFd) -> usize {
    rustix::termios::tcgetwinsize(of).map_or(0, |size| usize::from(size.ws_col))
}
