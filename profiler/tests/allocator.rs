//! What the allocators hold free, read from outside, against what they say of themselves.

mod support;

use std::cell::Cell;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pyalloc::allocator::{Arena, FreeKind, Held, NotRead, Places, advice};
use pyalloc::process::bounded::Budget;
use pyalloc::process::image::Image;
use pyalloc::process::maps;
use pyalloc::process::memory::{Memory, ProcessMemory};
use pyalloc::python::arenas::{self, Pymalloc};
use pyalloc::python::{Interpreter, NotPython};
use serde::Deserialize;
use support::Target;

/// What `held.py` says.
#[derive(Clone, Debug, Deserialize)]
struct Said {
    glibc: Option<Mallinfo>,
    arenas: Vec<SaidArena>,
    pools: Option<SaidPools>,
    blocks: u64,
}

/// `struct mallinfo2`, the fields that are used.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Mallinfo {
    arena: u64,
    hblks: u64,
    hblkhd: u64,
    fsmblks: u64,
    fordblks: u64,
    keepcost: u64,
}

/// What `malloc_info` says of an arena.
#[derive(Clone, Copy, Debug, Deserialize)]
struct SaidArena {
    free: u64,
    fast: u64,
    system: u64,
}

/// What `sys._debugmallocstats` says.
#[derive(Clone, Debug, Deserialize)]
struct SaidPools {
    /// Block size, pools, blocks in use, free blocks.
    classes: Vec<[u64; 4]>,
    arenas: u64,
    unused_pools: u64,
    live_bytes: u64,
    free_bytes: u64,
}

/// A running `held.py`.
struct Workload {
    target: Target,
    name: String,
    before: Said,
    memory: ProcessMemory,
    places: Places,
}

/// What `held.py` allocates and frees itself from one report to the next: the text of a report, objects in pools.
const SLACK: u64 = 16 << 10;

/// Other tests run beside these.
const PATIENT: Budget = Budget { bytes: 8 << 30, time: Duration::from_secs(30) };

impl Workload {
    fn start(name: &str, python: &Path, mode: &str) -> Self {
        Self::start_command(&format!("{name} {mode}"), Command::new(python).arg(support::workload("held.py")).arg(mode))
    }

    fn start_command(name: &str, command: &mut Command) -> Self {
        let mut target = Target::start_command(command);
        let line = target.line();
        let before = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        let pid = target.pid();
        let regions = maps::read(pid).expect("the target's mappings");
        let images = Image::all(pid, &regions);
        let memory = ProcessMemory::open(pid).expect("the target's memory");
        let python = match Interpreter::discover_unverified(pid) {
            Ok(python) => Some(python),
            Err(NotPython::NoInterpreter { .. }) => None,
            Err(error) => panic!("{name}: {error}"),
        };
        let places = Places::find(pid, &memory, &regions, &images, python.as_ref());
        Self { target, name: name.to_owned(), before, memory, places }
    }

    fn look(&self) -> Held {
        let regions = maps::read(self.target.pid()).expect("the target's mappings");
        self.places.look(&self.memory, &regions, PATIENT)
    }

    /// What it says after the look.
    fn after(&mut self) -> Said {
        writeln!(self.target.child.stdin.as_mut().expect("a pipe"), "again").expect("the target reads");
        serde_json::from_str(&self.target.line()).expect("a report")
    }

    /// Looks while it waits and holds all of glibc's numbers against its own.
    fn compare_glibc(&mut self) -> Held {
        let held = self.look();
        let after = self.after();
        let glibc = held.glibc.as_ref().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let name = &self.name;
        let own = |said: &Said| said.glibc.unwrap_or_else(|| panic!("{name}: not glibc"));
        let sum = |of: fn(&Arena) -> u64| glibc.arenas.iter().map(of).sum::<u64>();
        let (before, after_all) = (&self.before, &after);
        let near = |what: &str, found: u64, said: fn(&Mallinfo) -> u64| {
            between(name, what, found, said(&own(before)), said(&own(after_all)))
        };
        // mallinfo counts a thread's cache as in use.
        let listed = |arena: &Arena| arena.free_bytes() - arena.free_bytes_of(FreeKind::ThreadCache);
        near("free", glibc.arenas.iter().map(listed).sum(), |said| said.fordblks);
        near("fast bins", sum(|arena| arena.free_bytes_of(FreeKind::FastBin)), |said| said.fsmblks);
        assert_eq!(sum(|arena| arena.system_bytes), own(&after).arena, "{name}: system");
        near("main top", glibc.arenas[0].free_bytes_of(FreeKind::Top), |said| said.keepcost);
        assert_eq!(glibc.arenas.len(), after.arenas.len(), "{name}: arenas");
        for (index, arena) in glibc.arenas.iter().enumerate() {
            let free = |said: &Said| said.arenas[index].free;
            between(name, "arena's free", listed(arena), free(&self.before), free(&after));
            let fast = arena.free_bytes_of(FreeKind::FastBin);
            between(name, "arena's fast bins", fast, self.before.arenas[index].fast, after.arenas[index].fast);
            assert_eq!(arena.system_bytes, after.arenas[index].system, "{name}: arena {index}");
            assert_eq!((arena.main, arena.skipped_bytes), (index == 0, arena.skipped_bytes), "{name}");
            check_ranges(name, arena);
        }
        let settings = glibc.settings.unwrap_or_else(|| panic!("{name}: no settings"));
        assert_eq!(settings.mmapped_chunks, own(&after).hblks, "{name}");
        assert_eq!(settings.mmapped_bytes, own(&after).hblkhd, "{name}");
        println!(
            "{name}: glibc {:?}, {} arenas, free {} of {} (said {}), caches {}, refused {}, {} KiB read in {:?}",
            glibc.version,
            glibc.arenas.len(),
            sum(Arena::free_bytes),
            sum(|arena| arena.system_bytes),
            own(&after).fordblks,
            sum(|arena| arena.free_bytes_of(FreeKind::ThreadCache)),
            held.refused,
            held.bytes_read >> 10,
            held.elapsed,
        );
        held
    }
}

/// The target's own doing between its reports moves its numbers a little: what is found lies between, give or take.
fn between(name: &str, what: &str, found: u64, before: u64, after: u64) {
    let (low, high) = (before.min(after).saturating_sub(SLACK), before.max(after) + SLACK);
    assert!((low..=high).contains(&found), "{name}: {what} {found}, said {before} before and {after} after");
}

/// Ascending, disjoint, in the arena.
fn check_ranges(name: &str, arena: &Arena) {
    assert!(arena.free.is_sorted_by(|one, other| one.end <= other.start), "{name}: free ranges");
    assert!(arena.spans.is_sorted_by(|one, other| one.end <= other.start), "{name}: spans");
    let inside = |start, end| arena.spans.iter().any(|span| span.start <= start && end <= span.end);
    assert!(arena.free.iter().all(|range| range.start < range.end && inside(range.start, range.end)), "{name}");
    assert_eq!(arena.in_use_bytes + arena.free_bytes(), arena.system_bytes, "{name}");
}

/// One interpreter on each C library: this machine's, and those that were fetched.
fn libraries() -> Vec<(String, PathBuf)> {
    let wanted = ["system", "debian bullseye 3.9", "debian trixie 3.13", "debian sid 3.15"];
    let found: Vec<_> =
        support::every_interpreter().into_iter().filter(|(name, _)| wanted.contains(&name.as_str())).collect();
    for name in wanted.iter().filter(|name| !found.iter().any(|(found, _)| found == *name)) {
        println!("{name}: not there, not tested");
    }
    assert!(!found.is_empty(), "no interpreter to test on");
    found
}

#[test]
fn fragments_are_what_mallinfo_says() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "fragmented").compare_glibc();
        assert_eq!(held.refused, 0, "{name}");
        let glibc = held.glibc.expect("glibc");
        // Every other of 40000 blocks of 1550 bytes on the average is free: next to none covers a page.
        let fragments = advice::fragments(&glibc);
        assert!((28 << 20..34 << 20).contains(&fragments), "{name}: {fragments}");
        assert!(advice::bytes(&advice::malloc_trim(&glibc)) < 4 << 20, "{name}");
    }
}

#[test]
fn every_arena_is_found_with_all_its_heaps() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "many_arenas").compare_glibc();
        let glibc = held.glibc.expect("glibc");
        assert_eq!((glibc.arenas.len(), held.refused), (13, 0), "{name}");
        assert!(glibc.arenas.iter().any(|arena| arena.spans.len() >= 2), "{name}: no arena has two heaps");
        let most = advice::bytes(&advice::arena_max(&glibc, 1));
        let two = advice::bytes(&advice::arena_max(&glibc, 2));
        assert!(0 < two && two < most, "{name}: {two} of {most}");
    }
}

#[test]
fn fewer_arenas_by_the_environment_are_seen() {
    for (name, python) in libraries() {
        let mut command = Command::new(&python);
        let command = command.env("MALLOC_ARENA_MAX", "2").arg(support::workload("held.py")).arg("many_arenas");
        let held = Workload::start_command(&name, command).compare_glibc();
        let glibc = held.glibc.expect("glibc");
        assert_eq!(glibc.arenas.len(), 2, "{name}");
        assert_eq!(glibc.settings.and_then(|settings| settings.arena_max), Some(2), "{name}");
        assert!(advice::arena_max(&glibc, 2).is_empty(), "{name}");
    }
}

#[test]
fn an_untrimmed_top_is_seen_and_trimming_would_give_it_back() {
    for (name, python) in libraries() {
        let mut workload = Workload::start(&name, &python, "untrimmed_top");
        let held = workload.compare_glibc();
        let glibc = held.glibc.expect("glibc");
        assert_eq!(glibc.settings.expect("settings").trim_threshold, 1 << 30, "{name}");
        let top = glibc.arenas[0].free_bytes_of(FreeKind::Top);
        // Blocks of the interpreter lie among those that were given back.
        assert!(top > 20_000_000, "{name}: {top}");
        let above = advice::bytes(&advice::trim_threshold(&glibc, 1 << 20));
        assert!((top - 8192..=top).contains(&above), "{name}: {above} of {top}");
        let trimmed = advice::bytes(&advice::malloc_trim(&glibc));
        assert!((49_000_000..54_000_000).contains(&trimmed), "{name}: {trimmed}");
    }
}

#[test]
fn full_thread_caches_are_counted_chunk_by_chunk() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "full_caches").compare_glibc();
        let glibc = held.glibc.expect("glibc");
        let each = glibc.settings.expect("settings").thread_cache_count;
        // 64 sizes, of 32 bytes to 1040.
        let full = each * (0..64).map(|index| 32 + 16 * index).sum::<u64>();
        let cached = glibc.arenas[0].free_bytes_of(FreeKind::ThreadCache);
        println!("{name}: {cached} of {full} bytes in the main thread's cache, {each} of a size");
        // The reports that follow take some out, and put none in.
        assert!(cached <= full && cached > full * 9 / 10, "{name}: {cached} of {full}");
    }
}

#[test]
fn fast_bins_are_followed() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "fast_bins").compare_glibc();
        let glibc = held.glibc.expect("glibc");
        let fast = glibc.arenas[1].free_bytes_of(FreeKind::FastBin);
        // 2500 blocks of 32 to 96 bytes, without those in the thread's cache; glibc 2.43 has no fast bins.
        let expected = if glibc.version >= (2, 43) { 0..1 } else { 160_000..180_000 };
        assert!(expected.contains(&fast), "{name}: {fast}");
        assert_eq!(held.refused, 0, "{name}");
    }
}

#[test]
fn a_heap_in_two_pieces_is_walked_over_its_gap() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "foreign_break").compare_glibc();
        let glibc = held.glibc.expect("glibc");
        let skipped = glibc.arenas[0].skipped_bytes;
        assert!((3 * 4096..16 * 4096).contains(&skipped), "{name}: {skipped}");
        assert_eq!(held.refused, 0, "{name}");
    }
}

#[test]
fn what_malloc_has_beside_the_heap_is_found_by_its_lists() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "blocked_break").compare_glibc();
        let glibc = held.glibc.expect("glibc");
        // Blocks in use are in no list: where they lie is not known there.
        assert!(glibc.arenas[0].skipped_bytes > 1 << 20, "{name}");
        assert!(glibc.arenas[0].spans.len() > 100, "{name}");
        assert_eq!(held.refused, 0, "{name}");
    }
}

#[test]
fn settings_are_those_the_program_made() {
    for (name, python) in libraries() {
        let held = Workload::start(&name, &python, "settings").compare_glibc();
        let settings = held.glibc.expect("glibc").settings.expect("settings");
        let found = (settings.trim_threshold, settings.mmap_threshold, settings.arena_max, settings.dynamic);
        assert_eq!(found, (777_000, 200_000, Some(3), false), "{name}");
        assert!(settings.mmapped_chunks >= 5 && settings.mmapped_bytes >= 25_000_000, "{name}: {settings:?}");
    }
}

fn compare_pools(name: &str, found: &Pymalloc, before: &Said, after: &Said) {
    let (Some(first), Some(last)) = (&before.pools, &after.pools) else { panic!("{name}: no statistics") };
    between(name, "live bytes", found.live_bytes, first.live_bytes, last.live_bytes);
    between(name, "free bytes", found.free_in_pools_bytes, first.free_bytes, last.free_bytes);
    assert_eq!(found.arenas.len() as u64, last.arenas, "{name}: arenas");
    let pool = if name.contains("3.8") || name.contains("3.9") { 4096 } else { 16384 };
    let unused = (advice::bytes(&found.free_pools) + advice::bytes(&found.never_used)) / pool;
    let (low, high) = (first.unused_pools.min(last.unused_pools), first.unused_pools.max(last.unused_pools));
    assert!((low..=high).contains(&unused), "{name}: {unused} pools unused, said {low} to {high}");
    for [size, pools, used, free] in &last.classes {
        let class = found.classes.iter().find(|class| class.block_size == *size).expect("a class");
        assert_eq!(class.live_blocks + class.free_blocks, class.pools * ((pool - 48) / size), "{name} {size}");
        assert!(class.pools.abs_diff(*pools) <= 1, "{name} {size}: {} pools, said {pools}", class.pools);
        assert!(class.live_blocks.abs_diff(*used) <= 64, "{name} {size}: {} live, said {used}", class.live_blocks);
        assert!(class.free_blocks.abs_diff(*free) <= 64 + pool / size, "{name} {size}: {}", class.free_blocks);
    }
    let sum = found.live_bytes + found.free_in_pools_bytes + found.overhead_bytes + found.refused_bytes;
    let sum = sum + advice::bytes(&found.free_pools) + advice::bytes(&found.never_used);
    assert_eq!(sum, advice::bytes(&found.arenas), "{name}: the parts make the whole");
    assert_eq!(found.refused, 0, "{name}");
}

#[test]
fn pools_are_what_every_interpreter_says() {
    for (name, python) in support::every_interpreter() {
        let mut workload = Workload::start(&name, &python, "objects");
        let held = workload.look();
        let after = workload.after();
        let free_threaded = name.ends_with('t');
        match held.pymalloc {
            Ok(found) => {
                println!(
                    "{name}: {} arenas, {} live in {} blocks, {} free in pools, {} in free pools; read {} KiB in {:?}",
                    found.arenas.len(),
                    found.live_bytes,
                    found.live_blocks,
                    found.free_in_pools_bytes,
                    advice::bytes(&found.free_pools),
                    held.bytes_read >> 10,
                    held.elapsed
                );
                compare_pools(&name, &found, &workload.before, &after);
                // Blocks that came from the C library count there too.
                assert!(found.live_blocks <= after.blocks + 64, "{name}");
                assert!(found.free_in_pools_bytes > 1 << 20, "{name}: the workload leaves free blocks");
            }
            Err(error) => {
                assert!(free_threaded, "{name}: {error}");
                assert_eq!(error, NotRead::Python(arenas::NotRead::Mimalloc), "{name}");
            }
        }
    }
}

#[test]
fn a_sub_interpreters_pools_are_found_too() {
    let mut tested = false;
    for (name, python) in support::every_interpreter() {
        let minor = support::minor_version(&python).unwrap_or(0);
        if minor < 12 || name.ends_with('t') {
            continue;
        }
        let plain = Workload::start(&name, &python, "nothing").look().pymalloc.expect("pymalloc");
        let held = Workload::start(&name, &python, "sub_interpreters").look();
        let more = held.pymalloc.expect("pymalloc");
        // 50000 strings of 64 bytes.
        let grown = more.live_bytes.saturating_sub(plain.live_bytes);
        println!("{name}: {} arenas, {grown} bytes more with a sub-interpreter", more.arenas.len());
        assert!(grown > 50_000 * 64, "{name}: {grown}");
        assert_eq!(more.refused, 0, "{name}");
        tested = true;
    }
    if !tested {
        println!("SKIPPED a_sub_interpreters_pools_are_found_too: no interpreter of 3.12 or later");
    }
}

#[test]
fn a_busy_process_is_looked_at_without_absurd_numbers() {
    for (name, python) in libraries() {
        let workload = Workload::start(&name, &python, "busy");
        let start = Instant::now();
        let (mut looks, mut refused, mut most) = (0_u64, 0_u64, 0_u64);
        while start.elapsed() < Duration::from_secs(2) && looks < 10_000 {
            let held = workload.look();
            let glibc = held.glibc.as_ref().expect("glibc");
            for arena in &glibc.arenas {
                check_ranges(&name, arena);
                assert!(arena.system_bytes < 1 << 30, "{name}: {}", arena.system_bytes);
            }
            let pymalloc = held.pymalloc.as_ref().expect("pymalloc");
            assert!(pymalloc.live_bytes <= advice::bytes(&pymalloc.arenas), "{name}");
            looks += 1;
            refused += held.refused;
            most = most.max(held.refused);
        }
        println!("{name}: {looks} looks, {refused} refused, {most} at most in one");
        assert!(looks > 0, "{name}");
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let (name, python) = libraries().into_iter().next().expect("an interpreter");
    let mut command = Command::new(&python);
    let held = Workload::start_command(
        &name,
        command.env("PYTHONMALLOC", "malloc").args([support::workload("held.py").as_os_str(), "settings".as_ref()]),
    )
    .look();
    assert_eq!(held.pymalloc.expect_err("no pools"), NotRead::Python(arenas::NotRead::CLibrary));
    assert!(held.glibc.is_ok());
    let library = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/interpreters/allocators/libjemalloc2/usr/lib/x86_64-linux-gnu/libjemalloc.so.2");
    match library.canonicalize() {
        Ok(library) => {
            let mut command = Command::new(&python);
            let command = command.env("LD_PRELOAD", library);
            let held = Workload::start_command(
                &name,
                command.args([support::workload("held.py").as_os_str(), "settings".as_ref()]),
            )
            .look();
            let error = held.glibc.expect_err("jemalloc is in front");
            assert_eq!(error, NotRead::Replaced("libjemalloc.so.2".into()));
            println!("{error}");
            assert!(held.pymalloc.is_ok());
        }
        Err(_) => println!("libjemalloc.so.2: not fetched by `cargo xtask interpreters`, not tested"),
    }
}

/// A process's memory in which now and then a word is another one: what a look may meet while the target runs, and worse.
struct Broken<'a> {
    memory: &'a ProcessMemory,
    /// One word of so many is changed.
    rarity: u64,
    state: Cell<u64>,
}

impl Broken<'_> {
    /// xorshift64.
    fn random(&self) -> u64 {
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        state
    }
}

impl Memory for Broken<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.memory.read(address, buffer)?;
        for word in buffer.chunks_exact_mut(8) {
            if self.random().is_multiple_of(self.rarity) {
                let value = u64::from_le_bytes(word.try_into().expect("eight bytes"));
                let random = self.random();
                let other = [0, u64::MAX, random, value ^ 1, value << 4, value.wrapping_add(16), address];
                word.copy_from_slice(&other[(random % 7) as usize].to_le_bytes());
            }
        }
        Ok(())
    }
}

#[test]
fn whatever_the_memory_holds_a_look_ends_and_its_numbers_agree() {
    let (name, python) = libraries().into_iter().next().expect("an interpreter");
    for mode in ["many_arenas", "blocked_break", "full_caches"] {
        let mut command = Command::new(&python);
        let command = command.env("MALLOC_ARENA_MAX", "4").arg(support::workload("held.py")).arg(mode);
        let workload = Workload::start_command(&name, command);
        let regions = maps::read(workload.target.pid()).expect("the target's mappings");
        let mut refused = 0;
        for seed in 1..=12 {
            let rarity = [3, 40, 1000, 30_000][seed as usize % 4];
            let broken = Broken { memory: &workload.memory, rarity, state: Cell::new(seed << 40 | seed) };
            let budget = Budget { bytes: 64 << 20, time: Duration::from_millis(100) };
            let held = workload.places.look(&broken, &regions, budget);
            held.glibc.iter().flat_map(|glibc| &glibc.arenas).for_each(|arena| check_ranges(&name, arena));
            if let Ok(pools) = &held.pymalloc {
                let parts = pools.live_bytes + pools.free_in_pools_bytes + pools.overhead_bytes + pools.refused_bytes;
                assert!(parts <= advice::bytes(&pools.arenas), "{name}");
            }
            if let Ok(glibc) = &held.glibc {
                assert!(advice::fragments(glibc) <= glibc.arenas.iter().map(Arena::free_bytes).sum(), "{name}");
            }
            refused += held.refused;
        }
        assert!(refused > 0, "{name} {mode}: nothing was refused");
    }
}

/// Not a test: what a look costs. `PYALLOC_LOOK_BLOCKS` is how many blocks of 1550 bytes to make.
#[test]
#[ignore = "measures: run it with --release -- --ignored --nocapture"]
fn cost_of_a_look() {
    let (name, python) = libraries().into_iter().next().expect("an interpreter");
    for blocks in ["65000", "650000"] {
        for mode in ["fragmented", "objects"] {
            let mut command = Command::new(&python);
            let command = command.env("BLOCKS", blocks).arg(support::workload("held.py")).arg(mode);
            let workload = Workload::start_command(&name, command);
            let mut looks: Vec<_> = (0..9).map(|_| workload.look()).collect();
            looks.sort_by_key(|held| held.elapsed);
            let glibc = looks[4].glibc.as_ref().expect("glibc");
            let pools = looks[4].pymalloc.as_ref().expect("pymalloc");
            println!(
                "{mode} {blocks}: malloc {} MiB, pymalloc {} MiB, {} MiB read, median {:?}, least {:?}, most {:?}",
                glibc.arenas.iter().map(|arena| arena.system_bytes).sum::<u64>() >> 20,
                advice::bytes(&pools.arenas) >> 20,
                looks[4].bytes_read >> 20,
                looks[4].elapsed,
                looks[0].elapsed,
                looks[8].elapsed,
            );
        }
    }
}

#[test]
fn a_spent_budget_is_said() {
    let (name, python) = libraries().into_iter().next().expect("an interpreter");
    let workload = Workload::start(&name, &python, "fragmented");
    let regions = maps::read(workload.target.pid()).expect("the target's mappings");
    let budget = Budget { bytes: 4 << 20, time: Duration::from_secs(10) };
    let held = workload.places.look(&workload.memory, &regions, budget);
    assert!(held.unfinished && held.bytes_read <= budget.bytes);
    let glibc = held.glibc.expect("a part");
    assert!(glibc.arenas[0].skipped_bytes > 1 << 20);
    check_ranges(&name, &glibc.arenas[0]);
}
