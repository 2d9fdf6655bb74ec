//! Bytes from the ring become events. Never panics, never believes a length.

use bytemuck::{Pod, pod_read_unaligned};
use profiler_common::event::{Header, Lifecycle, Mapping, NewCode, NewStack, kind};

/// A record from the kernel side.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stack seen for the first time.
    Stack(StackEvent),
    /// A code object seen for the first time.
    Code(Box<NewCode>),
    /// A change of the address space.
    Mapping(Mapping),
    /// An exit, an exec, or a process held for us.
    Lifecycle(Lifecycle),
}

/// A stack and its frames.
#[derive(Clone, Debug, PartialEq)]
pub struct StackEvent {
    /// The record.
    pub head: NewStack,
    /// Python frames, innermost first: see [`profiler_common::event::frame`].
    pub frames: Vec<u64>,
    /// Native return addresses, innermost first.
    pub native: Vec<u64>,
}

/// Decodes a record; `None` for one that is too short, too long, or of an unknown kind.
pub fn decode(bytes: &[u8]) -> Option<Event> {
    let header: Header = read(bytes)?;
    match header.kind {
        kind::NEW_STACK => decode_stack(bytes),
        kind::NEW_CODE => Some(Event::Code(Box::new(read(bytes)?))),
        kind::MAPPING => Some(Event::Mapping(read(bytes)?)),
        kind::LIFECYCLE => Some(Event::Lifecycle(read(bytes)?)),
        _ => None,
    }
}

fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(pod_read_unaligned)
}

fn decode_stack(bytes: &[u8]) -> Option<Event> {
    let head: NewStack = read(bytes)?;
    let words = &bytes[size_of::<NewStack>()..];
    let (depth, native_depth) = (head.depth as usize, head.native_depth as usize);
    if words.len() / 8 < depth.checked_add(native_depth)? {
        return None;
    }
    let mut words = words.chunks_exact(8).map(pod_read_unaligned::<u64>);
    let frames = words.by_ref().take(depth).collect();
    let native = words.take(native_depth).collect();
    Some(Event::Stack(StackEvent { head, frames, native }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_a_stack_and_refuses_one_that_is_cut() {
        let header = Header { kind: kind::NEW_STACK, slot: 1, pid: 2, tid: 3, time_ns: 4 };
        let head = NewStack { header, key: 5, depth: 2, status: 0, native_depth: 1, native_status: 0 };
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        for word in [10u64, 11, 12] {
            bytes.extend(word.to_le_bytes());
        }
        let expected = Event::Stack(StackEvent { head, frames: vec![10, 11], native: vec![12] });
        assert_eq!(decode(&bytes), Some(expected));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn survives_any_bytes() {
        proptest::proptest!(|(kind in 0u32..6, mut bytes: Vec<u8>)| {
            bytes.splice(0..0, kind.to_le_bytes());
            let _ = decode(&bytes);
        });
    }
}
