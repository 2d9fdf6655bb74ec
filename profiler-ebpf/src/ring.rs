//! The ring buffer to userspace: new stacks, new code objects, mapping changes, lifecycle. No event per allocation.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use profiler_common::counter::Counter;
use profiler_common::event::{Header, Lifecycle};

use crate::process::Current;
use crate::{clock, counters};

/// Bytes of the ring: room for some 4000 new code objects at once.
const RING_BYTES: u32 = 8 << 20;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Forks, execs and exits once more, for the thread that follows: it is not to wait for what else the ring holds.
#[map]
static MOVES: RingBuf = RingBuf::with_byte_size(MOVES_BYTES, 0);

/// Room for 1600 of them.
const MOVES_BYTES: u32 = 64 << 10;

/// Tells the thread that follows, and wakes it. A full ring is not counted: who reads the other one does its work then.
pub fn tell_follower(event: Lifecycle) {
    if let Some(mut entry) = MOVES.reserve::<Lifecycle>(0) {
        entry.write(event);
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }
}

/// The start of a record of this thread.
pub fn header(kind: u32, slot: u32, current: Current) -> Header {
    Header { kind, slot, pid: current.pid, tid: current.tid, time_ns: clock::now_ns() }
}

/// Room for one record; a full ring is counted.
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        counters::one(Counter::RingFull);
    }
    entry
}

/// Sends bytes as one record; a full ring is counted and gives false.
pub fn output(bytes: &[u8]) -> bool {
    let sent = EVENTS.output::<[u8]>(bytes, 0).is_ok();
    if !sent {
        counters::one(Counter::RingFull);
    }
    sent
}
