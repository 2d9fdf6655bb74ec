//! Native frames of a real extension module in real interpreters: `tests/workloads/native_ext`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytemuck::Zeroable as _;
use profiler_common::config::{ProcessConfig, process_flags};
use profiler_common::event::{mapping, native};
use profiler_common::probe::Function;
use profiler_common::unwind::cfa;
use pyalloc::event::{self, Event, StackEvent};
use pyalloc::kernel::plan::{self, ProbePlan};
use pyalloc::kernel::release::Release;
use pyalloc::kernel::{Kernel, NativeLimits, Ring, Settings};
use pyalloc::process::image::Image;
use pyalloc::process::memory::ProcessMemory;
use pyalloc::process::{Pid, maps};
use pyalloc::symbol::native::NativeNames;
use pyalloc::unwind::{Table, Unwinder};

const SLOT: u32 = 3;
const PROT_EXEC: u64 = 4;

/// Interpreter, and the headers to build the module with: Debian's own headers are a package few have. Both are looked
/// for in pyenv's folder.
const INTERPRETERS: [(&str, &str); 4] = [
    ("versions/3.11.7/bin/python3.11", "versions/3.11.7/include/python3.11"),
    ("versions/3.12.1/bin/python3.12", "versions/3.12.1/include/python3.12"),
    ("versions/3.13.0/bin/python3.13", "versions/3.13.0/include/python3.13"),
    ("/usr/bin/python3.11", "versions/3.11.7/include/python3.11"),
];

/// A path of [`INTERPRETERS`], if it is here.
fn in_pyenv(path: &str) -> Option<String> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let path = root.join(path);
    path.exists().then(|| path.to_string_lossy().into_owned())
}

fn workload() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/workloads/native_ext")
}

/// Why the live tests cannot run here.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    Command::new("gcc").arg("--version").output().is_err().then_some("needs gcc")
}

fn build_extension(headers: &str, folder: &Path) {
    let status = Command::new("gcc")
        .args(["-O2", "-fomit-frame-pointer", "-fPIC", "-shared", "-I", headers, "-o"])
        .arg(folder.join("leakext.so"))
        .arg(workload().join("leakext.c"))
        .status()
        .unwrap();
    assert!(status.success());
}

/// The workload in an interpreter; killed at the end.
struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    fn start(interpreter: &str) -> Self {
        let mut child = Command::new(interpreter)
            .arg(workload().join("serve.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut target = Self { child, input, output: BufReader::new(output) };
        assert_eq!(target.answer(), "ready");
        target
    }

    fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A traced target and what came of it.
struct Trace {
    kernel: Kernel,
    ring: Ring,
    unwinder: Unwinder,
    names: NativeNames,
    pid: Pid,
    stacks: Vec<StackEvent>,
    code_mapped: u32,
    timed: (u64, u64),
}

impl Trace {
    fn start(pid: Pid) -> Self {
        let mut kernel = Kernel::load(Settings {
            max_live_blocks: 1 << 20,
            links: None,
            native: Some(NativeLimits::default()),
            verbose: false,
        })
        .unwrap();
        let ring = kernel.take_ring().unwrap();
        kernel.attach_tracepoints(true).unwrap();
        Self {
            kernel,
            ring,
            unwinder: Unwinder::default(),
            names: NativeNames::default(),
            pid,
            stacks: Vec::new(),
            code_mapped: 0,
            timed: (0, 0),
        }
    }

    fn configure(&mut self, flags: u32) {
        let config = ProcessConfig { slot: SLOT, flags, ..ProcessConfig::zeroed() };
        self.kernel.trace_process(self.pid, &config).unwrap();
    }

    fn refresh(&mut self) {
        let regions = maps::read(self.pid).unwrap();
        let done = self.unwinder.refresh(&mut self.kernel, SLOT, self.pid, &regions).unwrap();
        println!(
            "  {} new files, {} rows, {:?}; without: {:?}",
            done.new_files, done.rows, done.spent, done.without_table
        );
        assert!(!done.no_room);
    }

    fn attach_malloc(&mut self) {
        let regions = maps::read(self.pid).unwrap();
        let images = Image::all(self.pid, &regions);
        let memory = ProcessMemory::open(self.pid).unwrap();
        let target = plan::Target { memory: &memory, regions: &regions, images: &images, executable: None };
        let rules = Release::running().unwrap().site_rules();
        let mut plan = ProbePlan::for_process(&target, None, rules).unwrap();
        plan.points.retain(|point| point.function == Function::Malloc && point.name == "malloc");
        assert_eq!(plan.points.len(), 1);
        self.kernel.attach(0, self.pid, &plan.points).unwrap();
    }

    /// Time in the programs per call of malloc since the last time this was asked, ns.
    fn body_ns(&mut self) -> u64 {
        use profiler_common::counter::Counter;
        let counters = self.kernel.counters().unwrap();
        let now = (counters[Counter::BodyNanos as usize], counters[Counter::ReturnHits as usize]);
        let before = std::mem::replace(&mut self.timed, now);
        (now.0 - before.0) / (now.1 - before.1).max(1)
    }

    fn drain(&mut self) {
        let (stacks, code_mapped) = (&mut self.stacks, &mut self.code_mapped);
        self.ring.drain(|bytes| match event::decode(bytes) {
            Some(Event::Stack(stack)) => stacks.push(stack),
            Some(Event::Mapping(event)) if event.operation == mapping::MMAP => {
                *code_mapped += u32::from(event.prot_flags & PROT_EXEC != 0 && event.fd >= 0);
            }
            _ => {}
        });
    }

    /// Names of the native frames of the stacks seen, innermost first, with the walk's status and the stack's key.
    fn named(&mut self) -> Vec<(Vec<String>, u32, u64)> {
        let (names, unwinder) = (&mut self.names, &self.unwinder);
        self.stacks
            .iter()
            .map(|stack| {
                let frames = stack.native.iter().map(|&address| names.name(unwinder, SLOT, address).to_string());
                (frames.collect(), stack.head.native_status, stack.head.key)
            })
            .collect()
    }

    /// Blocks allocated by the one stack whose frames start with `expected`, and which ends at the evaluation loop.
    fn objects_of(&mut self, expected: &[&str]) -> u64 {
        self.drain();
        let all = self.named();
        let matching: Vec<_> = all.iter().filter(|(frames, ..)| frames.starts_with_names(expected)).collect();
        for (frames, status, _) in &matching {
            println!("  {status} {frames:?}");
            assert_eq!(*status, native::EVALUATOR, "{frames:?}");
            assert!(!frames.iter().any(|frame| frame.contains("EvalFrameDefault")), "{frames:?}");
        }
        assert!(!matching.is_empty(), "no stack starts with {expected:?}: {all:?}");
        let sums = self.kernel.stacks().unwrap();
        let of = |key: u64| sums.iter().find(|(other, _)| *other == key).map_or(0, |(_, sums)| sums.samples);
        matching.iter().map(|(_, _, key)| of(*key)).sum()
    }
}

trait StartsWithNames {
    fn starts_with_names(&self, expected: &[&str]) -> bool;
}

impl StartsWithNames for Vec<String> {
    fn starts_with_names(&self, expected: &[&str]) -> bool {
        self.len() >= expected.len() && self.iter().zip(expected).all(|(frame, name)| frame == name)
    }
}

#[test]
fn names_the_functions_of_an_extension_up_to_the_evaluation_loop() {
    if let Some(reason) = missing() {
        println!("SKIPPED names_the_functions_of_an_extension_up_to_the_evaluation_loop: {reason}");
        return;
    }
    for (interpreter, headers) in INTERPRETERS {
        let (Some(interpreter), Some(headers)) = (in_pyenv(interpreter), in_pyenv(headers)) else {
            println!("SKIPPED {interpreter}: it or its headers are not here");
            continue;
        };
        println!("{interpreter}");
        check_interpreter(&interpreter, &headers);
    }
}

fn check_interpreter(interpreter: &str, headers: &str) {
    let folder = tempfile::tempdir().unwrap();
    build_extension(headers, folder.path());
    let mut target = Target::start(interpreter);
    let mut trace = Trace::start(target.pid());
    trace.refresh();
    trace.configure(process_flags::NATIVE);
    trace.attach_malloc();
    assert_eq!(target.ask(&format!("import {}", folder.path().display())), "imported");
    trace.drain();
    assert!(trace.code_mapped > 0, "the extension's mapping was not seen");
    trace.refresh();
    assert_eq!(target.ask("leak 70 3333"), "done");
    assert_eq!(trace.objects_of(&["inner", "outer", "ext_leak"]), 70);
    assert_eq!(target.ask("aligned 50 3333"), "done");
    assert_eq!(trace.objects_of(&["inner", "aligner", "ext_aligned"]), 50);
    assert_eq!(target.ask("raw 30 3333"), "done");
    // What is between malloc and the extension depends on the build: static functions, tail calls.
    trace.drain();
    let all = trace.named();
    let found = all.iter().find(|(frames, status, _)| {
        *status == native::EVALUATOR && frames.windows(2).any(|pair| pair == ["raw_outer", "ext_raw"])
    });
    println!("  {:?}", found.map(|(frames, ..)| frames));
    assert!(found.is_some(), "{all:?}");
    check_mappings(&mut target, &mut trace);
    print_counters(&trace);
}

/// mmap by the extension itself, and by malloc: there the walk passes the return address that the probe has replaced.
fn check_mappings(target: &mut Target, trace: &mut Trace) {
    trace.stacks.clear();
    assert_eq!(target.ask("map 1 1048576"), "done");
    assert_eq!(target.ask("leak 1 67108864"), "done");
    trace.drain();
    let all = trace.named();
    for chain in [["map_outer", "ext_map"], ["inner", "outer"]] {
        let found = all.iter().find(|(frames, status, _)| {
            *status == native::EVALUATOR
                && frames.first().is_some_and(|first| first.contains("mmap"))
                && frames.windows(2).any(|pair| pair == chain)
        });
        println!("  {:?}", found.map(|(frames, ..)| frames));
        assert!(found.is_some(), "{chain:?} in {all:?}");
    }
}

fn print_counters(trace: &Trace) {
    use profiler_common::counter::Counter;
    let counters = trace.kernel.counters().unwrap();
    for counter in [
        Counter::NativeWalks,
        Counter::NativeFrames,
        Counter::NativeUnmapped,
        Counter::NativeNoTable,
        Counter::NativeUnsupported,
        Counter::NativeReadFailed,
        Counter::NativeTruncated,
    ] {
        print!("  {counter:?} {}", counters[counter as usize]);
    }
    println!();
}

#[test]
fn costs_of_walking() {
    if let Some(reason) = missing() {
        println!("SKIPPED costs_of_walking: {reason}");
        return;
    }
    let (Some(interpreter), Some(headers)) = (in_pyenv(INTERPRETERS[0].0), in_pyenv(INTERPRETERS[0].1)) else {
        println!("SKIPPED costs_of_walking: no {}", INTERPRETERS[0].0);
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    build_extension(&headers, folder.path());
    let mut target = Target::start(&interpreter);
    assert_eq!(target.ask(&format!("import {}", folder.path().display())), "imported");
    let best = |target: &mut Target| -> u64 {
        let runs = (0..5).map(|_| target.ask("time leak 20000 700").parse().unwrap());
        runs.min().unwrap_or(0)
    };
    let untraced = best(&mut target);
    let mut trace = Trace::start(target.pid());
    trace.refresh();
    trace.attach_malloc();
    trace.configure(0);
    let without = best(&mut target);
    let body_without = trace.body_ns();
    trace.configure(process_flags::NATIVE);
    let with = best(&mut target);
    let body_with = trace.body_ns();
    println!("ns in the programs per malloc: {body_without}, with native frames {body_with}");
    trace.drain();
    let frames =
        trace.named().iter().filter(|(frames, ..)| frames.starts_with_names(&["inner"])).map(|(f, ..)| f.len()).max();
    println!("ns per malloc: untraced {untraced}, traced {without}, with native frames {with} ({frames:?} frames)");
}

/// `PYALLOC_TABLES=a.so:b.so cargo test --release costs_of_tables -- --nocapture` says what their tables cost.
#[test]
fn costs_of_tables() {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::env::var("PYALLOC_TABLES").unwrap_or_else(|_| "/proc/self/exe".to_owned());
    for file in files.split(':') {
        let Ok(path) = std::fs::canonicalize(file) else {
            continue;
        };
        let file = std::fs::metadata(&path).unwrap();
        let device = format!("{:02x}:{:02x}", libc::major(file.dev()), libc::minor(file.dev()));
        // As if mapped: only the file matters here.
        let data = std::fs::read(&path).unwrap();
        let Some(region) = executable_region(&path, device, file.ino(), &data) else {
            continue;
        };
        let image = Image::open(Pid(std::process::id()), &region, std::slice::from_ref(&region)).unwrap();
        let started = std::time::Instant::now();
        match Table::build(&image) {
            Ok(table) => {
                let evaluator = table.rows.iter().filter(|row| row.cfa == cfa::EVALUATOR).count();
                println!(
                    "{}: {} rows ({} KiB), {} unsupported, {evaluator} of the evaluation loop, {:?}",
                    path.display(),
                    table.rows.len(),
                    table.rows.len() * 8 / 1024,
                    table.unsupported,
                    started.elapsed()
                )
            }
            Err(reason) => println!("{}: {reason}", path.display()),
        }
    }
}

fn executable_region(path: &Path, device: String, inode: u64, data: &[u8]) -> Option<maps::Region> {
    use object::{Object as _, ObjectSegment as _};
    let elf = object::File::parse(data).ok()?;
    let executable = |segment: &object::Segment<'_, '_>| matches!(segment.flags(), object::SegmentFlags::Elf { p_flags, .. } if p_flags.0 & 1 != 0);
    let segment = elf.segments().find(executable)?;
    let (offset, size) = segment.file_range();
    let offset = offset / 4096 * 4096;
    Some(maps::Region {
        start: 0x7f00_0000_0000,
        end: 0x7f00_0000_0000 + size,
        permissions: maps::Permissions { read: true, write: false, execute: true, shared: false },
        offset,
        device,
        inode,
        name: maps::RegionName::File { path: path.to_owned(), deleted: false },
    })
}
