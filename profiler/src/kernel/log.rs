//! What the kernel side says of forks, execs and exits, for those who look for a fault (`--verbose`).

use ::log::{Level, Log, Metadata, Record};
use aya::Ebpf;
use aya_log::EbpfLogger;

/// The global that lets records of a level and above through; 0 lets none.
pub(super) const LEVEL: &str = aya_log::LEVEL;

/// Of `LEVEL`: nothing is said, and the verifier drops the code that would.
pub(super) const SILENT: u8 = 0;

/// Of `LEVEL`: debug and above.
pub(super) const VERBOSE: u8 = Level::Debug as u8;

/// Prints to standard error.
struct Printer;

impl Log for Printer {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("pyalloc: kernel side: {}", record.args());
    }

    fn flush(&self) {}
}

/// What the kernel side has said and nobody has read yet.
pub(super) struct Said(EbpfLogger<&'static dyn Log>);

impl Said {
    /// Listens; `None` when the object says nothing.
    pub(super) fn listen(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(ebpf, &Printer as &'static dyn Log).ok().map(Self)
    }

    /// Prints it.
    pub(super) fn print(&mut self) {
        self.0.flush();
    }
}
