//! The interpreter of a process: found, held against the layout of its version, ready to be walked.

use std::thread::sleep;
use std::time::Duration;

use profiler_common::config::{FaultSampling, NO_SLOT, ProcessConfig, ThreadSlot};

use super::allocators;
use super::layout::Layout;
use super::locate::{Located, NotPython, locate};
use super::remote::{self, End};
use super::slot::{self, Libc};
use super::threads::{self, Thread};
use super::tls;
use super::version::Version;
use crate::process::Pid;
use crate::process::image::Image;
use crate::process::memory::{Memory, ProcessMemory};

/// The target runs while we look: what fails is tried so often, this far apart.
const ATTEMPTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(3);

/// A function of the interpreter, for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Address in the target.
    pub address: u64,
    /// Address in the terms of the interpreter's file.
    pub vaddr: u64,
    /// Offset in the interpreter's file, bytes: where a uprobe goes.
    pub file_offset: u64,
}

/// A CPython interpreter in a process.
#[derive(Debug)]
pub struct Interpreter {
    /// The process.
    pub pid: Pid,
    /// Its version.
    pub version: Version,
    /// The layout of that version, checked on this process.
    pub layout: &'static Layout,
    /// The file that holds it.
    pub image: Image,
    /// The C library it runs on.
    pub libc: Libc,
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// Address of `PyCode_Type`.
    pub code_type: u64,
    /// False just after exec: discover it again once it runs, for the final `thread_slot`.
    pub initialized: bool,
    /// Where a thread's state is found from its fs base.
    pub thread_slot: ThreadSlot,
    /// Where it is in processes that this one forks.
    pub forked_thread_slot: ThreadSlot,
    /// The thread states at this moment; empty if not initialized.
    pub threads: Vec<Thread>,
    code_dealloc: Option<Function>,
}

/// What of an interpreter changes with time.
struct State {
    initialized: bool,
    thread_slot: ThreadSlot,
    forked_thread_slot: ThreadSlot,
    threads: Vec<Thread>,
}

impl Interpreter {
    /// What its allocators are found by.
    pub fn allocators(&self) -> allocators::Interpreter<'_> {
        let Layout { minor, free_threaded, .. } = *self.layout;
        allocators::Interpreter { image: &self.image, minor, free_threaded, runtime: self.runtime }
    }

    /// Finds the interpreter of a process that `trace` may attach to.
    ///
    /// Reads the process's memory, and never stops it.
    pub fn discover(pid: Pid) -> Result<Self, NotPython> {
        let located = locate(pid)?;
        if !located.layout.verified {
            let version = located.version;
            return Err(NotPython::Unverified { pid, version });
        }
        Self::check(pid, located)
    }

    /// As [`Self::discover`], also for versions whose layout has not been verified: for tests and doctor.
    pub fn discover_unverified(pid: Pid) -> Result<Self, NotPython> {
        Self::check(pid, locate(pid)?)
    }

    fn check(pid: Pid, located: Located) -> Result<Self, NotPython> {
        let version = located.version.clone();
        let refused = |reason: String| NotPython::Layout { pid, version: version.clone(), reason };
        let missing = |name: &str| refused(format!("its file does not export {name}"));
        let image = &located.image;
        let runtime = image.address_of("_PyRuntime").ok_or_else(|| missing("_PyRuntime"))?;
        let code_type = image.address_of("PyCode_Type").ok_or_else(|| missing("PyCode_Type"))?;
        let symbol = image.export("_PyRuntime").map_or(0, |symbol| symbol.vaddr);
        let bytes = image.bytes_at(symbol).unwrap_or_default();
        located.layout.check(bytes).map_err(|error| refused(error.to_string()))?;
        let state = State::read(&located, runtime, code_type).map_err(refused)?;
        let code_dealloc = code_dealloc(&located, code_type);
        Ok(Self {
            pid,
            version: located.version,
            layout: located.layout,
            image: located.image,
            libc: located.libc,
            runtime,
            code_type,
            initialized: state.initialized,
            thread_slot: state.thread_slot,
            forked_thread_slot: state.forked_thread_slot,
            threads: state.threads,
            code_dealloc,
        })
    }

    /// What the kernel side needs to walk this process's stacks; `flags` are `process_flags`.
    pub fn walker_config(&self, slot: u32, flags: u32) -> ProcessConfig {
        ProcessConfig {
            slot,
            flags,
            parent_slot: NO_SLOT,
            ending_tid: 0,
            faults: FaultSampling::default(),
            thread_slot: self.thread_slot,
            forked_thread_slot: self.forked_thread_slot,
            current_state: self.layout.runtime.current_state.map_or(0, |at| self.runtime.wrapping_add(at)),
            interpreters: self.runtime.wrapping_add(self.layout.runtime.interpreters_head),
            layout: self.layout.walker(),
        }
    }

    /// `code_dealloc`, which runs whenever a code object dies; its first argument is the code object.
    ///
    /// `PyCode_Type.tp_dealloc` as it is in the target; `None` before the loader has relocated it, or if it
    /// does not lie in the interpreter's code.
    pub fn code_dealloc(&self) -> Option<Function> {
        self.code_dealloc
    }

    /// `Py_FinalizeEx`: called once, when the interpreter shuts down and before its memory goes.
    pub fn finalize(&self) -> Option<Function> {
        let symbol = self.image.export("Py_FinalizeEx")?;
        function(&self.image, self.image.bias.wrapping_add(symbol.vaddr))
    }

    /// The frames of a thread, from outside.
    pub fn walk(&self, memory: &dyn Memory, thread: &Thread) -> remote::Walk {
        remote::walk(memory, self.layout, self.code_type, thread.state)
    }
}

impl State {
    /// Reads and checks; the last reason counts if it does not work out in time.
    fn read(located: &Located, runtime: u64, code_type: u64) -> Result<Self, String> {
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(PAUSE);
            }
            match Self::attempt(located, runtime, code_type) {
                Ok(state) => return Ok(state),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn attempt(located: &Located, runtime: u64, code_type: u64) -> Result<Self, String> {
        let (memory, layout) = (&located.memory, located.layout);
        let threads = threads::read(memory, layout, runtime).map_err(|error| error.to_string())?;
        let coded = match layout.runtime.auto_tss_key {
            None => tls::slot(memory, &located.image, located.libc),
            Some(_) => None,
        };
        if threads.is_empty() || !slot::key_created(memory, layout, runtime) {
            let thread_slot = slot::before_start(layout, runtime, coded, located.libc);
            return Ok(Self { initialized: false, thread_slot, forked_thread_slot: thread_slot, threads: Vec::new() });
        }
        let thread_slot =
            slot::find(memory, layout, runtime, &threads, coded, located.libc).map_err(|error| error.to_string())?;
        check_frames(memory, layout, code_type, &threads)?;
        let forked_thread_slot = slot::of_forked(memory, layout, runtime, thread_slot, located.libc);
        Ok(Self { initialized: true, thread_slot, forked_thread_slot, threads })
    }
}

/// Every frame must have a code object. A thread that runs may be caught between two frames, so half of the
/// walks must be clean; with a wrong layout none is.
fn check_frames(memory: &ProcessMemory, layout: &Layout, code_type: u64, threads: &[Thread]) -> Result<(), String> {
    let clean = |thread: &&Thread| {
        let end = remote::walk(memory, layout, code_type, thread.state).end;
        matches!(end, End::Complete | End::TooDeep)
    };
    let clean = threads.iter().filter(clean).count();
    if clean * 2 < threads.len() {
        return Err(format!(
            "of {} threads {} have frames without a code object",
            threads.len(),
            threads.len() - clean
        ));
    }
    Ok(())
}

fn code_dealloc(located: &Located, code_type: u64) -> Option<Function> {
    let slot = code_type.wrapping_add(located.layout.type_dealloc);
    function(&located.image, located.memory.u64(slot).ok()?)
}

/// The function at an address, if it lies in the image's code.
fn function(image: &Image, address: u64) -> Option<Function> {
    if !image.is_code(address) {
        return None;
    }
    let vaddr = image.vaddr_of(address)?;
    let file_offset = image.file_offset(vaddr)?;
    Some(Function { address, vaddr, file_offset })
}
