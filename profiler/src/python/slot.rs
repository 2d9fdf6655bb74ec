//! Where each thread keeps the pointer to its own `PyThreadState`: found without symbols or disassembly.
//!
//! Every thread state stores its thread's fs base, so the slot is the place that holds the thread state's
//! address at the same distance from the fs base of every thread. The slot's value stays right while the GIL
//! is released, which `tstate_current` and `_Py_tss_tstate` do not.

use std::collections::{BTreeMap, HashMap};

use profiler_common::config::{ThreadSlot, thread_slot};

use super::layout::Layout;
use super::threads::{self, Thread};
use crate::process::image::Image;
use crate::process::memory::Memory;

/// The target's C library, as far as thread-specific data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// glibc.
    Glibc {
        /// `specific_1stblock` in `struct pthread`, bytes from fs base.
        first_block: u64,
    },
    /// musl.
    Musl,
    /// Linked into the program, or something else.
    Unknown,
}

/// `specific_1stblock` in glibc 2.31, 2.36, 2.41 and 2.43.
const GLIBC_FIRST_BLOCK: u64 = 0x310;
/// Keys in glibc's first block, and in each of the others.
const GLIBC_BLOCK_KEYS: u64 = 32;
/// Bytes of an entry {u64 sequence; void *data}.
const GLIBC_ENTRY: u64 = 16;
/// `data` in an entry.
const GLIBC_DATA: u64 = 8;
/// `tcbhead_t.dtv` in glibc; its entries are as large as those of thread-specific data.
const GLIBC_DTV: u64 = 8;
/// `tsd` in musl's `struct pthread`: 1.2 and 1.1.
const MUSL_TSD: [i64; 2] = [0x80, 0x88];

/// Where a thread's own data may lie, bytes from fs base: static TLS before it, `struct pthread` after.
const SCAN_FROM: i64 = -0x1000;
const SCAN_TO: i64 = 0x900;
/// Bytes read at once: a part that is not mapped must not hide the rest.
const SCAN_STEP: usize = 0x100;

/// No slot could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// No thread state names a living thread.
    #[error("no thread_id leads to a living thread")]
    NoThread,
    /// Nothing near the threads' fs bases points to their thread states.
    #[error("no thread-specific slot holds the threads' states")]
    NotFound,
    /// More than one place does; it passes with time.
    #[error("{count} thread-specific slots hold the threads' states")]
    Ambiguous {
        /// How many.
        count: usize,
    },
}

impl Libc {
    /// Recognizes the C library among a process's images.
    pub fn of<'a>(images: impl Iterator<Item = &'a Image> + Clone) -> Self {
        let named = |prefixes: &[&str]| {
            images.clone().any(|image| prefixes.iter().any(|prefix| image.file_name().starts_with(prefix)))
        };
        if named(&["libc.so.6", "libc-2."]) {
            let first_block = images.clone().find_map(first_block).unwrap_or(GLIBC_FIRST_BLOCK);
            Self::Glibc { first_block }
        } else if named(&["ld-musl-", "libc.musl-"]) {
            Self::Musl
        } else {
            Self::Unknown
        }
    }

    /// Whether a file of this name tells which C library it is.
    pub fn is_part(name: &str) -> bool {
        ["libc.so.6", "libc-2.", "libpthread", "ld-musl-", "libc.musl-"].iter().any(|prefix| name.starts_with(prefix))
    }
}

/// glibc's own word, for libthread_db: {bits, count, offset of `specific`}, which the first block precedes.
///
/// In libc.so.6, before 2.34 in libpthread.so.0.
fn first_block(image: &Image) -> Option<u64> {
    let descriptor = image.export("_thread_db_pthread_specific")?;
    let bytes = image.bytes_at(descriptor.vaddr)?;
    let specific = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    let block = GLIBC_BLOCK_KEYS * GLIBC_ENTRY;
    u64::from(specific).checked_sub(block).filter(|&start| start < 0x2000)
}

/// The slot of an interpreter that is not initialized: its key will be in `autoTSSkey`, or it is the variable `coded`
/// that the interpreter's code names.
///
/// Mode NONE where that cannot be told (other C libraries): look again when it runs.
pub fn before_start(layout: &Layout, runtime: u64, coded: Option<ThreadSlot>, libc: Libc) -> ThreadSlot {
    match (layout.runtime.auto_tss_key, libc) {
        (None, _) => coded.unwrap_or_default(),
        (Some(key), Libc::Glibc { first_block }) => ThreadSlot {
            mode: thread_slot::KEY_IN_MEMORY,
            reserved: 0,
            offset: (first_block + GLIBC_DATA).cast_signed(),
            inner: runtime.wrapping_add(key),
        },
        _ => ThreadSlot::default(),
    }
}

/// The slot in processes that this one forks: `PyOS_AfterFork_Child` deletes the key and makes another, which is the next
/// one on musl, and on glibc the lowest that is free.
pub fn of_forked(memory: &dyn Memory, layout: &Layout, runtime: u64, found: ThreadSlot, libc: Libc) -> ThreadSlot {
    let Some(key) = layout.runtime.auto_tss_key else { return found };
    let in_memory = |mode, offset: i64| ThreadSlot { mode, reserved: 0, offset, inner: runtime.wrapping_add(key) };
    let glibc = |first_block: u64| in_memory(thread_slot::KEY_IN_MEMORY, (first_block + GLIBC_DATA).cast_signed());
    if !from_key(memory, layout, runtime, libc).contains(&found) {
        return found;
    }
    match libc {
        Libc::Glibc { first_block } => glibc(first_block),
        _ if MUSL_TSD.contains(&found.offset) && found.mode == thread_slot::FS_INDIRECT => {
            in_memory(thread_slot::KEY_IN_MEMORY_MUSL, found.offset)
        }
        _ => glibc(GLIBC_FIRST_BLOCK),
    }
}

/// Whether `autoTSSkey` has been created; true where a version has none.
pub fn key_created(memory: &dyn Memory, layout: &Layout, runtime: u64) -> bool {
    let Some(key) = layout.runtime.auto_tss_key else {
        return true;
    };
    memory.i32(runtime.wrapping_add(key)).is_ok_and(|initialized| initialized != 0)
}

/// The thread states by fs base: sub-interpreters give one thread several.
type Groups = HashMap<u64, Vec<u64>>;

/// Finds the slot of a running interpreter; `coded` is the one that its code names, if it does.
pub fn find(
    memory: &dyn Memory,
    layout: &Layout,
    runtime: u64,
    threads: &[Thread],
    coded: Option<ThreadSlot>,
    libc: Libc,
) -> Result<ThreadSlot, SlotError> {
    let mut groups = Groups::new();
    for thread in threads.iter().filter(|thread| threads::is_fs_base(memory, thread.fs_base)) {
        groups.entry(thread.fs_base).or_default().push(thread.state);
    }
    if groups.is_empty() {
        return Err(SlotError::NoThread);
    }
    // Thread states can outlive their threads (a C thread that ended, a fork outside Python), so not every
    // one must agree; but a slot that holds for less than half of the threads is none.
    let enough = groups.len().div_ceil(2);
    let by_key = from_key(memory, layout, runtime, libc)
        .into_iter()
        .chain(coded)
        .find(|slot| votes(memory, slot, &groups) >= enough);
    match by_key {
        Some(slot) => Ok(slot),
        None => scan(memory, layout, &groups, enough),
    }
}

/// The slots that the key in `autoTSSkey` may mean.
fn from_key(memory: &dyn Memory, layout: &Layout, runtime: u64, libc: Libc) -> Vec<ThreadSlot> {
    let key = layout.runtime.auto_tss_key.map(|key| runtime.wrapping_add(key));
    let Some(Ok(key)) = key.map(|address| memory.u32(address.wrapping_add(4)).map(u64::from)) else {
        return Vec::new();
    };
    match libc {
        Libc::Glibc { first_block } => vec![glibc(first_block, key)],
        Libc::Musl => MUSL_TSD.map(|tsd| indirect(tsd, key * 8)).to_vec(),
        Libc::Unknown => {
            let musl = MUSL_TSD.map(|tsd| indirect(tsd, key * 8));
            [glibc(GLIBC_FIRST_BLOCK, key)].into_iter().chain(musl).collect()
        }
    }
}

fn glibc(first_block: u64, key: u64) -> ThreadSlot {
    if key < GLIBC_BLOCK_KEYS {
        return relative((first_block + GLIBC_ENTRY * key + GLIBC_DATA).cast_signed());
    }
    let blocks = first_block + GLIBC_BLOCK_KEYS * GLIBC_ENTRY;
    indirect((blocks + 8 * (key / GLIBC_BLOCK_KEYS)).cast_signed(), GLIBC_ENTRY * (key % GLIBC_BLOCK_KEYS) + GLIBC_DATA)
}

fn relative(offset: i64) -> ThreadSlot {
    ThreadSlot { mode: thread_slot::FS_RELATIVE, reserved: 0, offset, inner: 0 }
}

fn indirect(offset: i64, inner: u64) -> ThreadSlot {
    ThreadSlot { mode: thread_slot::FS_INDIRECT, reserved: 0, offset, inner }
}

/// What the slot of a thread holds.
pub fn value(memory: &dyn Memory, slot: &ThreadSlot, fs_base: u64) -> Option<u64> {
    let first = || memory.u64(fs_base.wrapping_add_signed(slot.offset)).ok();
    match slot.mode {
        thread_slot::FS_RELATIVE => first(),
        thread_slot::FS_INDIRECT => memory.u64(first()?.wrapping_add(slot.inner)).ok(),
        thread_slot::DYNAMIC_TLS => {
            let vector = memory.u64(fs_base.wrapping_add(GLIBC_DTV)).ok()?;
            let room = memory.u64(vector.wrapping_sub(GLIBC_ENTRY)).ok()?;
            if slot.offset.cast_unsigned() > room.checked_mul(GLIBC_ENTRY)? {
                return None;
            }
            let block = memory.u64(vector.wrapping_add_signed(slot.offset)).ok()?;
            memory.u64(block.wrapping_add(slot.inner)).ok()
        }
        _ => None,
    }
}

/// In how many threads the slot holds a thread state of that thread.
fn votes(memory: &dyn Memory, slot: &ThreadSlot, groups: &Groups) -> usize {
    let agrees = |(fs_base, states): &(&u64, &Vec<u64>)| {
        value(memory, slot, **fs_base).is_some_and(|state| states.contains(&state))
    };
    groups.iter().filter(agrees).count()
}

/// Looks for the slot around every thread's fs base.
fn scan(memory: &dyn Memory, layout: &Layout, groups: &Groups, enough: usize) -> Result<ThreadSlot, SlotError> {
    let mut found: BTreeMap<i64, usize> = BTreeMap::new();
    for (&fs_base, states) in groups {
        for offset in offsets_of(memory, fs_base, states) {
            *found.entry(offset).or_default() += 1;
        }
    }
    let most = found.values().copied().max().unwrap_or(0);
    if most < enough {
        return Err(SlotError::NotFound);
    }
    let best: Vec<i64> = found.iter().filter(|(_, n)| **n == most).map(|(at, _)| *at).collect();
    let tsd = GLIBC_FIRST_BLOCK.cast_signed()..(GLIBC_FIRST_BLOCK + GLIBC_BLOCK_KEYS * GLIBC_ENTRY).cast_signed();
    let expected = |offset: &&i64| tsd.contains(*offset) == layout.runtime.auto_tss_key.is_some();
    let preferred: Vec<i64> = best.iter().filter(expected).copied().collect();
    match (preferred.as_slice(), best.as_slice()) {
        ([offset], _) | ([], [offset]) => Ok(relative(*offset)),
        _ => Err(SlotError::Ambiguous { count: best.len() }),
    }
}

/// The distances from fs base at which one of the states' addresses lies.
fn offsets_of(memory: &dyn Memory, fs_base: u64, states: &[u64]) -> Vec<i64> {
    let mut offsets = Vec::new();
    let mut buffer = [0; SCAN_STEP];
    for start in (SCAN_FROM..SCAN_TO).step_by(SCAN_STEP) {
        if memory.read(fs_base.wrapping_add_signed(start), &mut buffer).is_err() {
            continue;
        }
        for (at, bytes) in (start..).step_by(8).zip(buffer.as_chunks().0) {
            if states.contains(&u64::from_le_bytes(*bytes)) {
                offsets.push(at);
            }
        }
    }
    offsets
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::layout::LAYOUTS;
    use super::*;

    /// Memory of u64s at addresses; everything else near them is zero.
    struct Words(BTreeMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
            for (byte, at) in buffer.iter_mut().zip(address..) {
                let word = self.0.get(&(at & !7)).copied().unwrap_or(0);
                *byte = word.to_le_bytes()[usize::try_from(at % 8).unwrap()];
            }
            Ok(())
        }
    }

    const RUNTIME: u64 = 0x10_0000;

    fn thread(number: u64) -> Thread {
        Thread {
            state: 0x50_0000 + number * 0x1000,
            interpreter: 0x40_0000,
            fs_base: 0x7000_0000 + number * 0x10_0000,
            native_id: None,
        }
    }

    /// Threads 0 to `count`, each with its state at `slot(fs_base)`.
    fn target(key: u64, count: u64, mut place: impl FnMut(&mut BTreeMap<u64, u64>, &Thread)) -> (Words, Vec<Thread>) {
        let threads: Vec<_> = (0..count).map(thread).collect();
        let mut words = BTreeMap::from([(RUNTIME + 592, key << 32 | 1)]);
        for thread in &threads {
            words.insert(thread.fs_base, thread.fs_base);
            place(&mut words, thread);
        }
        (Words(words), threads)
    }

    const GLIBC: Libc = Libc::Glibc { first_block: 0x310 };

    #[test]
    fn finds_low_keys_high_keys_and_musl() {
        let layout = &LAYOUTS[3];
        let (memory, threads) = target(1, 3, |words, t| {
            words.insert(t.fs_base + 0x328, t.state);
        });
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, GLIBC), Ok(relative(0x328)));
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, Libc::Unknown), Ok(relative(0x328)));
        let (memory, threads) = target(40, 3, |words, t| {
            words.insert(t.fs_base + 0x518, t.fs_base + 0x8000);
            words.insert(t.fs_base + 0x8000 + 16 * 8 + 8, t.state);
        });
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, GLIBC), Ok(indirect(0x518, 136)));
        let (memory, threads) = target(2, 3, |words, t| {
            words.insert(t.fs_base + 0x80, t.fs_base + 0x8000);
            words.insert(t.fs_base + 0x8010, t.state);
        });
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, Libc::Musl), Ok(indirect(0x80, 16)));
    }

    #[test]
    fn scans_for_thread_local_variables_and_sees_through_the_running_thread() {
        let layout = LAYOUTS.iter().find(|row| row.minor == 15).unwrap();
        let (mut memory, threads) = target(0, 3, |words, t| {
            words.insert(t.fs_base - 24, t.state);
        });
        memory.0.insert(threads[1].fs_base - 40, threads[1].state);
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, GLIBC), Ok(relative(-24)));
        let only = &threads[1..2];
        let ambiguous = find(&memory, layout, RUNTIME, only, None, GLIBC);
        assert_eq!(ambiguous, Err(SlotError::Ambiguous { count: 2 }));
    }

    #[test]
    fn believes_the_code_where_it_agrees_with_the_threads() {
        let layout = LAYOUTS.iter().find(|row| row.minor == 15).unwrap();
        let dynamic = ThreadSlot { mode: thread_slot::DYNAMIC_TLS, reserved: 0, offset: 48, inner: 0x28 };
        let (memory, threads) = target(0, 3, |words, t| {
            let vector = t.fs_base + 0x8010;
            words.insert(t.fs_base + 8, vector);
            words.insert(vector - 16, 6);
            words.insert(vector + 48, t.fs_base + 0x9000);
            words.insert(t.fs_base + 0x9028, t.state);
        });
        assert_eq!(find(&memory, layout, RUNTIME, &threads, Some(dynamic), GLIBC), Ok(dynamic));
        let wrong = Some(ThreadSlot { offset: 112, ..dynamic });
        assert_eq!(find(&memory, layout, RUNTIME, &threads, wrong, GLIBC), Err(SlotError::NotFound));
        assert_eq!(before_start(layout, RUNTIME, Some(dynamic), GLIBC), dynamic);
    }

    #[test]
    fn bears_dead_threads_but_not_most_of_them() {
        let layout = &LAYOUTS[3];
        let (memory, mut threads) = target(0, 2, |words, t| {
            words.insert(t.fs_base + 0x318, t.state);
        });
        threads.push(thread(9));
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, GLIBC), Ok(relative(0x318)));
        let wrong = find(&memory, layout, RUNTIME, &[thread(9)], None, GLIBC);
        assert_eq!(wrong, Err(SlotError::NoThread));
        let (memory, threads) = target(0, 3, |_, _| ());
        assert_eq!(find(&memory, layout, RUNTIME, &threads, None, GLIBC), Err(SlotError::NotFound));
    }

    #[test]
    fn a_forked_process_has_another_key() {
        let layout = &LAYOUTS[3];
        let (memory, _) = target(2, 1, |_, _| ());
        let forked = |found, libc| of_forked(&memory, layout, RUNTIME, found, libc);
        let in_memory = |mode, offset| ThreadSlot { mode, reserved: 0, offset, inner: RUNTIME + 592 };
        assert_eq!(forked(relative(0x338), GLIBC), in_memory(thread_slot::KEY_IN_MEMORY, 0x318));
        assert_eq!(forked(relative(0x338), Libc::Unknown), in_memory(thread_slot::KEY_IN_MEMORY, 0x318));
        for libc in [Libc::Musl, Libc::Unknown] {
            assert_eq!(forked(indirect(0x88, 16), libc), in_memory(thread_slot::KEY_IN_MEMORY_MUSL, 0x88));
        }
        // Found by looking around: nobody knows what it is.
        assert_eq!(forked(relative(-24), GLIBC), relative(-24));
        let coded = LAYOUTS.iter().find(|row| row.minor == 15).unwrap();
        assert_eq!(of_forked(&memory, coded, RUNTIME, relative(-24), GLIBC), relative(-24));
    }

    #[test]
    fn waits_for_the_key_before_the_interpreter_runs() {
        let slot = before_start(&LAYOUTS[3], RUNTIME, None, GLIBC);
        assert_eq!((slot.mode, slot.offset, slot.inner), (thread_slot::KEY_IN_MEMORY, 0x318, RUNTIME + 592));
        assert_eq!(before_start(&LAYOUTS[3], RUNTIME, None, Libc::Musl), ThreadSlot::default());
    }
}
