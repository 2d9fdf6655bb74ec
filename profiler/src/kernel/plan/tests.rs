//! Plans for real interpreters, and the sites known to be right in them.

use std::path::Path;

use super::*;
use crate::kernel::site::SiteClass;
use crate::python::allocators::{self, Allocators};
use crate::python::nudge::NoNudge;
use crate::python::running::{Running, interpreters};

const RULES: SiteRules = SiteRules::for_kernel(6, 18);

/// `PyTypeObject.tp_dealloc` in builds with the GIL (facts of CPython 3.8 to 3.15).
const TP_DEALLOC: u64 = 48;

fn plan(running: &Running) -> ProbePlan {
    plan_with(running, false)
}

fn plan_with(running: &Running, exact_objects: bool) -> ProbePlan {
    let interpreter = running.interpreter();
    let code_type = interpreter.image.address_of("PyCode_Type").unwrap();
    let python = Python { interpreter, code_dealloc: running.memory.u64(code_type + TP_DEALLOC).ok(), exact_objects };
    ProbePlan::for_process(&target(running), Some(&python), RULES).unwrap()
}

fn target(running: &Running) -> Target<'_, impl Memory> {
    Target {
        memory: &running.memory,
        regions: &running.regions,
        images: &running.images,
        executable: running.executable(),
    }
}

fn point<'a>(plan: &'a ProbePlan, name: &str) -> &'a ProbePoint {
    plan.points.iter().find(|point| point.name == name).unwrap_or_else(|| panic!("no {name}: {:?}", plan.notes))
}

fn is_libc_236(plan: &ProbePlan) -> bool {
    let malloc = point(plan, "malloc");
    let data = std::fs::read(malloc.openable.path()).unwrap();
    let version = b"GNU C Library (Debian GLIBC 2.36-";
    data.windows(version.len()).any(|bytes| bytes == version)
}

#[test]
fn counts_every_small_object_where_it_is_asked_to() {
    for program in interpreters() {
        let running = Running::start(&program, &[]);
        let Objects { seen, nudge, refused } = plan(&running).objects;
        let pools = if running.interpreter().minor == 8 { SmallObjects::Arenas } else { SmallObjects::Pools };
        assert_eq!((seen, nudge.len(), refused), (pools, 0, None), "{program:?}");
        let exact = plan_with(&running, true);
        let inlines = allocators::inlines_pymalloc(running.interpreter().image);
        if let Some(NoNudge::NoRoom(_)) = exact.objects.refused {
            assert!(inlines && exact.objects.nudge.is_empty() && exact.objects.seen == pools, "{program:?}");
            continue;
        }
        assert_eq!(exact.objects.seen, SmallObjects::Each, "{program:?} {:?}", exact.objects);
        assert_eq!(exact.objects.nudge.len(), if inlines { 8 } else { 0 }, "{program:?}");
        for name in ["_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyObject_Free"] {
            let point = point(&exact, name);
            assert!(point.cookie.is_of_objects() && point.wants_return() == (name != "_PyObject_Free"), "{point:?}");
        }
        assert!(!point(&exact, "malloc").cookie.is_of_objects());
        assert!(!exact.points.iter().any(|point| point.function == Function::PoolOpen), "{program:?}");
        let debug = Running::start(&program, &[("PYTHONMALLOC", "debug")]);
        let refused = plan_with(&debug, true).objects;
        assert!(refused.refused.is_some() && refused.nudge.is_empty(), "{program:?} {refused:?}");
        let malloc = Running::start(&program, &[("PYTHONMALLOC", "malloc")]);
        let objects = plan_with(&malloc, true).objects;
        assert_eq!((objects.seen, objects.nudge.len(), objects.refused), (SmallObjects::Each, 0, None), "{program:?}");
    }
}

#[test]
fn probes_every_interpreter_at_hand() {
    for program in interpreters() {
        let running = Running::start(&program, &[]);
        let plan = plan(&running);
        println!("{}: {:#?}", program.display(), plan.notes);
        for point in &plan.points {
            let site = point.placement.site();
            println!(
                "  {:<24}{:<20}+{:<3}{:<24}{:?} {:?} pushed {} return {}",
                point.name,
                point.image_path.file_name().unwrap_or_default().display(),
                site.distance(),
                point.instruction,
                site.class(),
                &site.arguments()[..usize::from(point.function.arguments())],
                site.pushed(),
                point.wants_return(),
            );
            assert_eq!(point.wants_return(), point.function.needs_return(), "{}", point.name);
        }
        for name in ["malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "free"] {
            assert!(point(&plan, name).image_path.ends_with("libc.so.6"), "{program:?} {name}");
        }
        for name in ["code_dealloc", "Py_FinalizeEx", "Py_Exit", "_exit"] {
            assert!(!point(&plan, name).wants_return());
        }
        let pools = plan.points.iter().any(|point| point.function == Function::PoolOpen);
        assert_eq!(pools, running.interpreter().minor > 8, "{program:?}: {:?}", plan.notes);
        assert!(plan.by_file().all(|points| points.is_sorted_by_key(ProbePoint::file_offset)));
        assert!(plan.by_file().count() <= 2, "points of a file lie together");
    }
}

/// The sites found by hand in Debian 12's C library.
#[test]
fn takes_the_known_sites_of_debians_c_library() {
    let running = Running::start(&interpreters()[0], &[]);
    let plan = plan(&running);
    if !is_libc_236(&plan) {
        println!("the C library is not Debian's 2.36: its sites are not compared");
        return;
    }
    let check = |name: &str, distance: u64, instruction: &str| {
        let point = point(&plan, name);
        let site = point.placement.site();
        assert_eq!(site.distance(), distance, "{name}: {}", point.instruction);
        assert!(point.instruction.starts_with(instruction), "{name}: {}", point.instruction);
        assert_eq!(site.class(), SiteClass::Emulated, "{name}");
        assert_eq!(site.pushed(), 0, "{name}");
    };
    check("malloc", 0, "push r12");
    check("calloc", 0, "push");
    check("realloc", 0, "push");
    check("free", 3, "je");
    check("posix_memalign", 7, "push r12");
    check("aligned_alloc", 7, "je");
    let names: Vec<&str> = plan.points.iter().map(|point| point.name.as_str()).collect();
    assert!(!names.contains(&"memalign"), "an alias of aligned_alloc");
    assert!(!names.contains(&"cfree"), "an alias of free");
}

/// The implementations that CPython's tables point to: `(program's path contains, index in the table, distance, text)`.
const OBJECT_SITES: [(&str, usize, u64, &str); 9] = [
    ("3.8.", 0, 0, "push"),
    ("3.9.", 0, 4, "push rbx"),
    ("3.10.", 0, 4, "push rbx"),
    ("3.11.7", 0, 4, "push rbx"),
    ("3.12.1", 0, 0, "push"),
    ("3.13.0", 0, 0, "push"),
    ("3.9.", 3, 3, "je"),
    ("3.11.7", 3, 3, "je"),
    ("3.13.0", 3, 3, "je"),
];

#[test]
fn takes_the_known_sites_of_pymalloc() {
    for program in interpreters() {
        let running = Running::start(&program, &[]);
        let interpreter = running.interpreter();
        let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
        let sites = Sites::new(interpreter.image, RULES);
        let path = program.to_string_lossy();
        for (_, index, distance, text) in OBJECT_SITES.iter().filter(|known| path.contains(known.0)) {
            let (function, argument) = match index {
                0 => (Function::Malloc, profiler_common::probe::Register::Rsi),
                _ => (Function::Free, profiler_common::probe::Register::Rsi),
            };
            // The table's functions take a context first: the second argument must be live, as in calloc's shape.
            let role = if function == Function::Malloc { Function::Calloc } else { function };
            let vaddr = interpreter.image.vaddr_of(allocators.object.functions[*index]).unwrap();
            let site = *sites.place(role, vaddr).unwrap().site();
            let instruction = sites.instruction_text(site.vaddr()).unwrap();
            assert_eq!(site.distance(), *distance, "{path} {index}: {instruction}");
            assert!(instruction.starts_with(text), "{path} {index}: {instruction}");
            assert_eq!(site.arguments()[1], argument, "{path}");
        }
    }
}

/// Debian's `_PyObject_Malloc` has its first emulated instruction behind three pushes: no return probe may stand there.
#[test]
fn takes_no_return_site_behind_pushes() {
    let program = Path::new("/usr/bin/python3.11");
    if !program.exists() {
        println!("{}: missing, not tested", program.display());
        return;
    }
    let running = Running::start(program, &[]);
    let interpreter = running.interpreter();
    let allocators = Allocators::read(&interpreter, &running.memory, &running.regions).unwrap();
    let sites = Sites::new(interpreter.image, RULES);
    let vaddr = interpreter.image.vaddr_of(allocators.object.malloc()).unwrap();
    let entry_only = sites.choose(Function::Free, vaddr).unwrap();
    let returning = sites.place(Function::Calloc, vaddr);
    println!("entry only: {entry_only:?}; returning: {returning:?}");
    assert!(returning.is_ok_and(|placement| placement.site().pushed() == 0));
}

/// An allocator of one's own, as LD_PRELOAD brings jemalloc or tcmalloc in.
const PRELOADED: &str = r#"
#include <stddef.h>
#include <string.h>
static char memory[64 << 20];
static size_t used;
static void *take(size_t size) {
    char *block = memory + __atomic_fetch_add(&used, (size + 31) / 16 * 16, __ATOMIC_RELAXED);
    *(size_t *)block = size;
    return block + 16;
}
void *malloc(size_t size) { return take(size); }
void *calloc(size_t count, size_t size) { return take(count * size); }
void *realloc(void *old, size_t size) {
    void *block = take(size);
    if (old) memcpy(block, old, size < ((size_t *)old)[-2] ? size : ((size_t *)old)[-2]);
    return block;
}
void free(void *block) { (void)block; }
"#;

#[test]
fn probes_the_allocator_that_is_preloaded() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("own.c"), folder.path().join("libown.so"));
    std::fs::write(&source, PRELOADED).unwrap();
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-O2", "-fno-builtin", "-shared", "-fPIC", "-o"]);
    assert!(compiler.arg(&library).arg(&source).status().unwrap().success());
    let running = Running::start(&interpreters()[0], &[("LD_PRELOAD", library.to_str().unwrap())]);
    let plan = plan(&running);
    for name in ["malloc", "calloc", "realloc", "free"] {
        assert_eq!(point(&plan, name).image_path, library, "{name}");
    }
    let note = "libown.so does not export posix_memalign";
    assert!(plan.notes.iter().any(|text| text.starts_with(note)), "{:?}", plan.notes);
    assert!(!plan.points.iter().any(|point| point.name == "posix_memalign"));
}

#[test]
fn finds_the_entry_point() {
    let running = Running::start(&interpreters()[0], &[]);
    let executable = running.executable().unwrap();
    let plan = ProbePlan::for_entry(&running.images, executable, RULES);
    let [entry] = plan.points.as_slice() else { panic!("{:?}", plan.notes) };
    let site = entry.placement.site();
    assert_eq!((entry.function, entry.wants_return()), (Function::Entry, false));
    assert!(site.vaddr() - running.images[executable].entry < 16);
}

#[test]
fn says_that_nothing_exports_an_allocator() {
    let running = Running::start(&interpreters()[0], &[]);
    let images: Vec<Image> = running.images.iter().filter(|image| image.export("malloc").is_none()).cloned().collect();
    let target = Target { images: &images, executable: None, ..target(&running) };
    assert_eq!(ProbePlan::for_process(&target, None, RULES), Err(NoAllocator::NotExported));
}
