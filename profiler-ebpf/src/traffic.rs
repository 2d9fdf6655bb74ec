//! What traced processes receive from sockets and send to them, whatever the family; and connections accepted.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::BtfTracePointContext;
use profiler_common::config::MAX_SLOTS;
use profiler_common::ledger::Traffic;

use crate::{atomic, process};

/// By slot. An array, so that there is always room: 40 bytes a slot.
#[map]
static TRAFFIC: Array<Traffic> = Array::with_max_entries(MAX_SLOTS, 0);

/// `MSG_PEEK` (include/linux/socket.h): the data stays where it is, and comes again.
const MSG_PEEK: u32 = 2;

/// System call numbers of x86-64.
const ACCEPT: u64 = 43;
const ACCEPT4: u64 = 288;

/// `sock_recv_length(sk, length, flags)`; a negative length is an error.
#[inline(always)]
pub fn try_receive(ctx: &BtfTracePointContext) -> i32 {
    let (length, flags) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2).cast_unsigned());
    if length <= 0 || flags & MSG_PEEK != 0 {
        return 0;
    }
    if let Some(sums) = sums() {
        // SAFETY: the map's value is aligned and lives as long as the map.
        unsafe {
            atomic::add(&raw mut (*sums).received, u64::from(length.cast_unsigned()));
            atomic::add(&raw mut (*sums).receives, 1);
        }
    }
    0
}

/// `sock_send_length(sk, length, flags)`; a negative length is an error.
#[inline(always)]
pub fn try_send(ctx: &BtfTracePointContext) -> i32 {
    let length = ctx.arg::<i32>(1);
    if length <= 0 {
        return 0;
    }
    if let Some(sums) = sums() {
        // SAFETY: as above.
        unsafe {
            atomic::add(&raw mut (*sums).sent, u64::from(length.cast_unsigned()));
            atomic::add(&raw mut (*sums).sends, 1);
        }
    }
    0
}

/// Whether a system call accepts connections.
#[inline(always)]
pub fn accepts(system_call: u64) -> bool {
    system_call == ACCEPT || system_call == ACCEPT4
}

/// Such a call returns: a descriptor, or a negated error number.
#[inline(always)]
pub fn try_accepted(result: u64) -> i32 {
    if result.cast_signed() < 0 {
        return 0;
    }
    if let Some(sums) = sums() {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*sums).accepted, 1) };
    }
    0
}

/// The running process's; `None` if it is not traced.
#[inline(always)]
fn sums() -> Option<*mut Traffic> {
    let config = process::config(process::current().pid)?;
    TRAFFIC.get_ptr_mut(config.slot)
}
