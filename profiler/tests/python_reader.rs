//! The interpreter's threads and frames read from outside, against what the target says of itself; and the
//! reasons for which a process is refused.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use profiler_common::config::thread_slot;
use pyalloc::process::Pid;
use pyalloc::process::memory::{Memory as _, ProcessMemory};
use pyalloc::python::remote::{self, End};
use pyalloc::python::{Interpreter, NotPython, slot};
use pyalloc::symbol::{CodeTable, Source};
use serde::Deserialize;
use support::Target;

/// A line that `nested.py` prints.
#[derive(Deserialize)]
struct Reported {
    thread: String,
    ident: u64,
    tid: u64,
    fd: u64,
    frames: Vec<(String, String, u32)>,
}

/// Reads a thread's stack from outside: what Python shows, and the number of frames dropped.
fn stack(interpreter: &Interpreter, ident: u64) -> (Vec<(String, String, u32)>, usize) {
    let memory = ProcessMemory::open(interpreter.pid).expect("the target's memory");
    let thread = interpreter.threads.iter().find(|thread| thread.fs_base == ident);
    let thread = thread.expect("the thread is in the interpreter's list");
    let held = slot::value(&memory, &interpreter.thread_slot, ident);
    assert_eq!(held, Some(thread.state), "the slot holds the thread's state");
    let walk = interpreter.walk(&memory, thread);
    assert_eq!(walk.end, End::Complete);
    let source = Source { layout: interpreter.layout, memory: Some(&memory) };
    let mut table = CodeTable::default();
    let mut shown = Vec::new();
    for frame in &walk.frames {
        let record = remote::record(&memory, interpreter.layout, frame.code, frame.code).expect("a code object");
        table.insert(&record, source, || true);
        if let Some(frame) = table.frame(record.serial, frame.lasti) {
            shown.push((frame.file.to_string(), frame.function.to_string(), frame.line));
        }
    }
    let dropped = walk.frames.len() - shown.len();
    (shown, dropped)
}

/// Starts `nested.py`; both its threads wait.
fn nested(python: &Path) -> (Target, [Reported; 2]) {
    nested_command(Command::new(python).arg(support::workload("nested.py")))
}

fn nested_command(command: &mut Command) -> (Target, [Reported; 2]) {
    let mut target = Target::start_command(command);
    let reports = [(); 2].map(|()| {
        let line = target.line();
        serde_json::from_str::<Reported>(&line).expect("a report")
    });
    for report in &reports {
        target.wait_in_call(report.tid, &format!("0 {:#x}", report.fd));
    }
    (target, reports)
}

#[test]
fn every_frame_is_what_python_says() {
    for (_, python) in support::every_interpreter() {
        let minor = support::minor_version(&python).expect("Python 3");
        let (target, reports) = nested(&python);
        let interpreter = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
        assert_eq!((interpreter.version.minor, interpreter.version.micro.is_some()), (minor, true));
        assert!(interpreter.initialized && interpreter.threads.len() == 2);
        assert!(interpreter.code_dealloc().is_some() && interpreter.finalize().is_some());
        for report in reports {
            let (shown, dropped) = stack(&interpreter, report.ident);
            assert_eq!(shown.len(), report.frames.len(), "{} {}", python.display(), report.thread);
            for (at, (found, expected)) in shown.iter().zip(&report.frames).enumerate() {
                assert_eq!(found, expected, "{} {} frame {at}", python.display(), report.thread);
            }
            // Only 3.13 and later specialise calls of classes so that a frame of the interpreter is among them; 3.13t
            // does not specialise.
            let specialised = minor >= 13 && !(minor == 13 && interpreter.version.free_threaded);
            assert_eq!(dropped, usize::from(specialised), "{}", python.display());
            println!(
                "{} ({}), {}: {} frames equal, {dropped} dropped, slot {:?}",
                python.display(),
                interpreter.version,
                report.thread,
                shown.len(),
                interpreter.thread_slot
            );
        }
    }
}

#[test]
fn functions_for_probes_are_where_the_file_has_them() {
    for (python, _) in support::known_interpreters() {
        let (target, _) = nested(&python);
        let interpreter = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
        let memory = ProcessMemory::open(target.pid()).expect("the target's memory");
        for function in [interpreter.code_dealloc(), interpreter.finalize()] {
            let function = function.expect("a function");
            let mut running = [0; 16];
            memory.read(function.address, &mut running).expect("code");
            let at = usize::try_from(function.file_offset).expect("an offset");
            assert_eq!(interpreter.image.data[at..at + 16], running);
        }
        if let Some(vaddr) = local_symbol(&interpreter.image.data, "code_dealloc") {
            assert_eq!(interpreter.code_dealloc().map(|function| function.vaddr), Some(vaddr));
            println!("{}: code_dealloc by symbol", python.display());
        }
    }
}

/// Address of a symbol that is not exported; `None` in a stripped file.
fn local_symbol(data: &[u8], name: &str) -> Option<u64> {
    use object::{Object as _, ObjectSymbol as _};
    let file = object::File::parse(data).expect("an ELF file");
    let symbol = file.symbol_by_name(name)?;
    Some(symbol.address())
}

#[test]
fn versions_before_the_first_known_are_refused_with_a_reason() {
    for python in support::interpreters() {
        let mut target = Target::start(&python, ["-c", "import sys; print(1); sys.stdout.flush(); sys.stdin.read()"]);
        target.line();
        match (support::minor_version(&python), Interpreter::discover(target.pid())) {
            (Some(8..), Ok(interpreter)) => println!("{}: {}", python.display(), interpreter.version),
            (Some(8..), Err(error)) => panic!("{}: {error}", python.display()),
            (_, Ok(interpreter)) => panic!("{} was not refused", interpreter.version),
            (_, Err(refusal)) => {
                println!("{}: {refusal}", python.display());
                assert!(matches!(refusal, NotPython::Unsupported { .. }));
                assert!(refusal.to_string().contains("run the service with one of 3.8, 3.9"));
            }
        }
    }
}

fn refused(pid: Pid) -> NotPython {
    let refusal = Interpreter::discover(pid).expect_err("a refusal");
    println!("{refusal}");
    assert!(!refusal.to_string().contains('\n'));
    refusal
}

#[test]
fn processes_that_are_not_python_are_refused() {
    let mut ended = Command::new("true").spawn().expect("true starts");
    let pid = Pid(ended.id());
    // A process that ended and is not waited for yet.
    while !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
        std::thread::yield_now();
    }
    assert!(matches!(refused(pid), NotPython::NoProgram { .. }));
    ended.wait().expect("it ended");
    assert!(matches!(refused(pid), NotPython::Gone { .. }));
    let mut other = Command::new("sleep").arg("600").spawn().expect("sleep starts");
    let refusal = refused(Pid(other.id()));
    other.kill().and_then(|()| other.wait()).expect("it ends");
    assert!(matches!(refusal, NotPython::NoInterpreter { .. }));
}

/// Debian's interpreter, a static one, under another name; `None` where there is none.
fn copy_of_static_python(folder: &Path, name: &str) -> Option<PathBuf> {
    let copy = folder.join(name);
    fs::copy("/usr/bin/python3.11", &copy).ok()?;
    Some(copy)
}

fn start_copy(copy: &Path) -> Target {
    let mut target = Target::start_command(
        Command::new(copy).args(["-c", "print(1, flush=True); input()"]).env("PYTHONHOME", "/usr"),
    );
    target.line();
    target
}

#[test]
fn debug_builds_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(python) = copy_of_static_python(folder.path(), "python3.11d") else {
        println!("not tested: needs /usr/bin/python3.11");
        return;
    };
    let target = start_copy(&python);
    assert!(matches!(refused(target.pid()), NotPython::DebugBuild { .. }));
}

#[test]
fn a_deleted_program_with_an_odd_path_is_found() {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let folder = tempfile::tempdir().expect("a folder");
    let odd = folder.path().join("a path\nwith breaks");
    fs::create_dir(&odd).expect("a folder");
    let (true, Some(python)) = (root, copy_of_static_python(&odd, "service")) else {
        println!("not tested: needs root, to open the file behind a mapping, and /usr/bin/python3.11");
        return;
    };
    let target = start_copy(&python);
    fs::remove_file(&python).expect("it can be deleted");
    let interpreter = Interpreter::discover(target.pid()).expect("an interpreter");
    assert_eq!(interpreter.image.path, python);
    assert!(interpreter.version.serial.starts_with("3.11."));
}

/// Holds a starting interpreter in `setlocale`, before it exists: the locale's file is a pipe without a writer.
#[test]
fn an_interpreter_that_has_not_started_gets_its_slot_from_the_key() {
    for (python, minor) in support::known_interpreters() {
        let folder = tempfile::tempdir().expect("a folder");
        let locale = folder.path().join("xx_XX");
        fs::create_dir(&locale).expect("a folder");
        let pipe = locale.join("LC_CTYPE");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
        assert!(made.success());
        let mut target = Target::start_command(
            Command::new(&python)
                .arg(support::workload("nested.py"))
                .env("LOCPATH", folder.path())
                .env("LC_ALL", "xx_XX")
                .stderr(Stdio::null()),
        );
        wait_for_partner(&target);
        let early = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
        assert!(!early.initialized && early.threads.is_empty());
        assert_eq!(early.thread_slot.mode, thread_slot::KEY_IN_MEMORY);
        // Both ends, so that no later open waits.
        let release = OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe");
        let report: Reported = serde_json::from_str(&target.line()).expect("a report");
        let late = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
        drop(release);
        let memory = ProcessMemory::open(target.pid()).expect("the target's memory");
        assert_eq!(memory.i32(early.thread_slot.inner).expect("the struct of the key"), 1);
        let key = memory.u32(early.thread_slot.inner + 4).expect("the key");
        assert_eq!(late.thread_slot.mode, thread_slot::FS_RELATIVE);
        assert_eq!(late.thread_slot.offset, early.thread_slot.offset + 16 * i64::from(key));
        println!("3.{minor}: key {key}, {} thread", report.thread);
    }
}

/// Threads that call, return, allocate and hold the GIL; sub-interpreters where this version can make them.
const BUSY: &str = r#"
import sys, threading, os
try:
    try: import _interpreters as subs
    except ImportError: import _xxsubinterpreters as subs
    made = [subs.create() for _ in range(2)]
except ImportError:
    made = []
def down(n): return [n] + down(n - 1) if n else []
def spin():
    while True: down(40)
for _ in range(4): threading.Thread(target=spin, daemon=True).start()
print(len(made), flush=True)
sys.stdin.read()
os._exit(0)
"#;

#[test]
fn busy_threads_and_sub_interpreters_are_found_every_time() {
    for (python, minor) in support::known_interpreters() {
        let mut target = Target::start(&python, ["-c", BUSY]);
        let made = target.line();
        for _ in 0..10 {
            let interpreter = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
            assert!(interpreter.initialized && interpreter.threads.len() >= 5);
            assert_eq!(interpreter.thread_slot.mode, thread_slot::FS_RELATIVE);
        }
        println!("3.{minor}: 10 times, {} sub-interpreters", made.trim());
    }
}

/// Takes 40 keys for thread-specific data before Python gets its own.
const KEYS: &str = "#include <pthread.h>\n__attribute__((constructor)) static void take(void) \
                    { pthread_key_t key; for (int i = 0; i < 40; i++) pthread_key_create(&key, 0); }";

#[test]
fn keys_beyond_the_first_block_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, library) = (folder.path().join("keys.c"), folder.path().join("keys.so"));
    fs::write(&source, KEYS).expect("a file");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("no C compiler: not tested");
        return;
    }
    for (python, minor) in support::known_interpreters() {
        let (target, reports) =
            nested_command(Command::new(&python).arg(support::workload("nested.py")).env("LD_PRELOAD", &library));
        let interpreter = Interpreter::discover_unverified(target.pid()).expect("an interpreter");
        assert_eq!(interpreter.thread_slot.mode, thread_slot::FS_INDIRECT);
        for report in &reports {
            assert_eq!(stack(&interpreter, report.ident).0, report.frames);
        }
        println!("3.{minor}: {:?}", interpreter.thread_slot);
    }
}

/// The child of a fork has the parent's interpreter and one of its threads.
const FORK: &str = r#"
import os, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
child = os.fork()
if child: os.waitpid(child, 0)
else: print(os.getpid(), flush=True), sys.stdin.read()
"#;

#[test]
fn the_child_of_a_fork_is_found() {
    for (python, _) in support::known_interpreters() {
        let mut target = Target::start(&python, ["-W", "ignore", "-c", FORK]);
        let child = target.line().trim().parse().expect("a pid");
        let interpreter = Interpreter::discover_unverified(Pid(child)).expect("an interpreter");
        assert!(interpreter.initialized && interpreter.threads.len() == 1);
        drop(target.child.stdin.take());
    }
}

/// Waits until the target sleeps in openat.
fn wait_for_partner(target: &Target) {
    let pid = target.pid();
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the target runs");
    while !(read("syscall").starts_with("257 ") && read("stat").contains(") S ")) {
        std::thread::yield_now();
    }
}
