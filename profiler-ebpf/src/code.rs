//! Code objects: each gets a serial number at first sight, which dies with it.
//!
//! A frame that is being executed holds a reference to its code object, so an address found in a live frame
//! belongs to the object that `code_dealloc` has not yet been called for. That makes (address, serial) an
//! identity that a reused address cannot forge, on every version of CPython.
//!
//! Before the probe of `code_dealloc` is on (a process just forked runs some milliseconds without), and in a process in
//! which there is none, code objects die unseen. What is recorded then must not be named by the dead: a serial that was
//! given so is kept with a print of the code object, and holds only for what has the same print. From CPython 3.12 on
//! each code object has a version that no other gets; before, the print is of what names the code object.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use profiler_common::config::{ABSENT, MAX_SLOTS, ProcessConfig, process_flags};
use profiler_common::counter::Counter;

use profiler_common::event::{NewCode, frame, kind};
use profiler_common::ledger::{BlockKey, LiveCode};
use profiler_common::{LINETABLE_COPY, STRING_COPY};

use crate::process::Current;
use crate::thread::{KNOWN_CODES, KnownCode, PRINT_BYTES, Thread};
use crate::walk::mix;
use crate::{atomic, counters, process, ring};

/// Most code objects alive at once, of all traced processes.
const MAX_CODES: u32 = 1 << 18;

/// By slot and address.
#[map]
static CODES: HashMap<BlockKey, LiveCode> = HashMap::with_max_entries(MAX_CODES, BPF_F_NO_PREALLOC);

/// The last serial given.
#[map]
static LAST_SERIAL: Array<u64> = Array::with_max_entries(1, 0);

/// How many code objects that had a serial have died.
#[map]
static DEATHS: Array<u64> = Array::with_max_entries(1, 0);

/// By slot: 1 from when the probe of `code_dealloc` is on. Written by userspace.
#[map]
static DEATHS_SEEN: Array<u64> = Array::with_max_entries(MAX_SLOTS, 0);

/// The serial of the code object at an address; `frame::UNKNOWN_SERIAL` when it cannot be recorded.
///
/// What a thread has met it looks up in its own state first: that is in the cache, and the map that all share is not.
/// A code object in a live frame cannot die, so what was noted since the last death is right.
#[inline(always)]
pub fn serial(config: &ProcessConfig, current: Current, thread: *mut Thread, code: u64) -> u64 {
    if config.flags & process_flags::DEATHS_SEEN == 0 {
        return checked_serial(config, thread, current.pid, current.tid, code);
    }
    let deaths = DEATHS.get(0).copied().unwrap_or(0);
    let place = (code >> 4 ^ code >> 11) as usize & (KNOWN_CODES - 1);
    // SAFETY: the state is a map value that stays valid while the program runs; the place is below the array's length.
    unsafe {
        let known = (&raw mut (*thread).known).cast::<KnownCode>().add(place);
        if (*known).code == code && (*known).deaths == deaths {
            return (*known).serial;
        }
        let serial = shared_serial(config, current, thread, code);
        if serial != frame::UNKNOWN_SERIAL {
            *known = KnownCode { code, serial, deaths };
        }
        serial
    }
}

#[inline(always)]
fn shared_serial(config: &ProcessConfig, current: Current, thread: *mut Thread, code: u64) -> u64 {
    let key = BlockKey::new(config.slot, code);
    match known(key) {
        Some(LiveCode { serial, print: 0 }) => serial,
        Some(_) => checked_serial(config, thread, current.pid, current.tid, code),
        None => first_sight(config, current, code, 0),
    }
}

#[inline(always)]
fn known(key: BlockKey) -> Option<LiveCode> {
    // SAFETY: an entry is written once, before it is visible.
    CODES.get_ptr(&key).map(|live| unsafe { *live })
}

/// As [`serial`], where what is known of the address may be of a code object that has died unseen.
///
/// A global function in the verifier's sense, as the walk's step is.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn checked_serial(
    config: *const ProcessConfig,
    thread: *mut Thread,
    pid: u32,
    tid: u32,
    code: u64,
) -> u64 {
    // SAFETY: the caller's pointers are a map's values; the verifier wants to see that null has been thought of.
    let Some(config) = (unsafe { config.as_ref() }) else { return frame::UNKNOWN_SERIAL };
    if thread.is_null() {
        return frame::UNKNOWN_SERIAL;
    }
    let current = Current { pid, tid };
    // Looked at before the print is taken: what is alive from then on cannot die unseen.
    let seen = DEATHS_SEEN.get(config.slot).copied().unwrap_or(0) != 0;
    if seen {
        process::deaths_are_seen(current.pid, config.slot);
    }
    let key = BlockKey::new(config.slot, code);
    let known = known(key);
    if known.is_none() && seen {
        return first_sight(config, current, code, 0);
    }
    let print = print(config, thread, code);
    let kept = if seen { 0 } else { print };
    match known {
        Some(live) if live.print == 0 => live.serial,
        Some(live) if live.print == print => {
            if seen {
                // Should it fail, it is checked again the next time.
                let _ = CODES.insert(&key, &LiveCode { print: 0, ..live }, 0);
            }
            live.serial
        }
        _ => first_sight(config, current, code, kept),
    }
}

/// Hash of what tells a code object apart; never 0.
///
/// Where it has no version: of its size and its texts, and not only of where they are. Code compiled and dropped in a
/// loop finds all its parts where those of its predecessor were.
#[inline(always)]
fn print(config: &ProcessConfig, thread: *mut Thread, code: u64) -> u64 {
    let layout = &config.layout;
    let mut hash = mix(0, u64::from(read_u32(code, layout.code_firstlineno)));
    let version = read_u32(code, layout.code_version);
    // 0 where the layout has none, and when CPython has run out of them.
    if version != 0 {
        hash = mix(mix(hash, u64::from(version)), read_u64(code + u64::from(layout.code_qualname)));
        return hash | 1;
    }
    hash = mix(hash, read_u64(code + SIZE));
    for offset in [layout.code_filename, layout.code_qualname, layout.code_linetable] {
        let object = read_u64(code + u64::from(offset));
        hash = mix(mix(hash, object), print_of(thread, object));
    }
    hash | 1
}

/// Hash of the first bytes of an object, but its count of references, which changes.
// SAFETY: no other item of that name exists.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn print_of(thread: *mut Thread, object: u64) -> u64 {
    if thread.is_null() {
        return 0;
    }
    // SAFETY: the state is a map value that stays valid while the program runs, and only this thread writes it.
    let bytes = unsafe { (&raw mut (*thread).print).cast::<u8>() };
    let copied = copy::<PRINT_BYTES>(bytes, object + REFERENCES) as usize;
    let mut hash = copied as u64;
    for word in 0..PRINT_BYTES / 8 {
        if 8 * word + 8 > copied {
            break;
        }
        // SAFETY: as above, and the word is within the array.
        hash = mix(hash, unsafe { (*thread).print[word] });
    }
    hash
}

/// `ob_size` of a code object, its number of instructions (CPython 3.11); before, its numbers of arguments.
const SIZE: u64 = 16;

/// Bytes of an object's count of references; 16 in free-threaded builds, where the second half says whose it is.
const REFERENCES: u64 = 16;

/// `code_dealloc(code)`: from now on the address may become another code object.
pub fn died(config: &ProcessConfig, code: u64) {
    counters::one(Counter::CodeDeaths);
    forget(BlockKey::new(config.slot, code));
}

/// Takes a code object out of the map, and thereby out of what threads remember.
#[inline(always)]
fn forget(key: BlockKey) {
    // A code object that never stood in a stack is not in the map.
    if CODES.remove(&key).is_ok()
        && let Some(deaths) = DEATHS.get_ptr_mut(0)
    {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map.
        unsafe { atomic::add(deaths, 1) };
    }
}

#[inline(never)]
fn first_sight(config: &ProcessConfig, current: Current, code: u64, print: u64) -> u64 {
    let key = BlockKey::new(config.slot, code);
    let serial = next_serial();
    if serial != frame::UNKNOWN_SERIAL && CODES.insert(&key, &LiveCode { serial, print }, 0).is_ok() {
        if announce(config, current, code, serial) {
            return serial;
        }
        // An entry whose record was lost could never be named; without it the next sight tries again.
        forget(key);
    }
    counters::one(Counter::CodeUnknown);
    frame::UNKNOWN_SERIAL
}

fn next_serial() -> u64 {
    match LAST_SERIAL.get_ptr_mut(0) {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map.
        Some(last) => unsafe { atomic::add(last, 1) + 1 },
        None => frame::UNKNOWN_SERIAL,
    }
}

/// Sends what userspace needs to name the code object, with copies of its strings taken while it is alive.
fn announce(config: &ProcessConfig, current: Current, code: u64, serial: u64) -> bool {
    let layout = &config.layout;
    let Some(mut entry) = ring::reserve::<NewCode>() else {
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the ring gave a record of this size; every field is written before it is submitted. Reads of the
    // target's memory go through the helper, which fails instead of faulting.
    unsafe {
        (*record).header = ring::header(kind::NEW_CODE, config.slot, current);
        (*record).serial = serial;
        (*record).code = code;
        (*record).filename = read_u64(code + u64::from(layout.code_filename));
        (*record).qualname = read_u64(code + u64::from(layout.code_qualname));
        (*record).linetable = read_u64(code + u64::from(layout.code_linetable));
        (*record).firstlineno = read_u32(code, layout.code_firstlineno).cast_signed();
        (*record).firsttraceable = read_u32(code, layout.code_firsttraceable).cast_signed();
        (*record).version = read_u32(code, layout.code_version);
        (*record).filename_copied = copy::<STRING_COPY>((&raw mut (*record).filename_bytes).cast(), (*record).filename);
        (*record).qualname_copied = copy::<STRING_COPY>((&raw mut (*record).qualname_bytes).cast(), (*record).qualname);
        (*record).linetable_copied =
            copy::<LINETABLE_COPY>((&raw mut (*record).linetable_bytes).cast(), (*record).linetable);
    }
    entry.submit(0);
    true
}

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Copies `N` bytes of the target, or as many as its page still has when the next page is not present; gives how many.
#[inline(always)]
fn copy<const N: usize>(to: *mut u8, address: u64) -> u32 {
    // SAFETY: `to` has room for `N` bytes; the helper checks the target's address itself.
    if unsafe { bpf_probe_read_user(to.cast(), N as u32, address as *const _) } == 0 {
        return N as u32;
    }
    let in_page = (PAGE - (address & (PAGE - 1))) as u32;
    if in_page >= N as u32 {
        return 0;
    }
    // SAFETY: as above, and `in_page` is less than `N`.
    let failed = unsafe { bpf_probe_read_user(to.cast(), in_page, address as *const _) };
    if failed == 0 { in_page } else { 0 }
}

/// Eight bytes of the target's memory; 0 if they cannot be read.
#[inline(always)]
pub fn read_u64(address: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: the destination is a u64 on the stack; the helper checks the target's address itself.
    unsafe { bpf_probe_read_user((&raw mut value).cast(), 8, address as *const _) };
    value
}

#[inline(always)]
fn read_u32(object: u64, offset: u32) -> u32 {
    let mut value = 0u32;
    if offset != ABSENT {
        let address = object + u64::from(offset);
        // SAFETY: the destination is a u32 on the stack; the helper checks the target's address itself.
        unsafe { bpf_probe_read_user((&raw mut value).cast(), 4, address as *const _) };
    }
    value
}
