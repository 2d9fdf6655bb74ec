//! A second look at objects that nothing refers to: whether they are still there, and whether their address is to be found
//! anywhere in the process's memory.

use std::collections::HashMap;

use super::address::AddressMap;
use super::copy::is_memory;
use super::heap::Heap;
use super::owner::{Names, Owner};
use crate::process::bounded::{Bounded, Budget};
use crate::process::maps::Region;
use crate::process::memory::Memory;
use crate::profile::objects::Holder;
use crate::python::object_layout as at;
use crate::python::used_blocks::used_blocks;

/// Bytes read at once.
const PIECE: u64 = 1 << 20;
/// Places of an address that are looked at.
const PLACES: usize = 8;

/// What the second look says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is there, and its address is nowhere.
    Lost,
    /// It is there, and something in memory has its address: a structure of C code, a stack, or what was left there.
    Named,
    /// It is not there any more.
    Gone,
}

/// The verdicts on objects that nothing refers to, by index; those of which the bounds left none have none.
#[derive(Debug, Default)]
pub struct Verdicts(HashMap<u32, Verdict>);

impl Verdicts {
    /// What is to be said of an object's owner after the second look; `None` if the object is not there any more.
    pub fn checked(&self, owner: Owner, object: u32, names: &Names<'_>) -> Option<Owner> {
        if owner.holder != Holder::NoReferrer {
            return Some(owner);
        }
        match self.0.get(&names.top(object)) {
            Some(Verdict::Lost) => Some(owner),
            Some(Verdict::Gone) => None,
            Some(Verdict::Named) => Some(Owner { holder: Holder::Unknown, text: "native memory".to_owned() }),
            None => Some(Owner::default()),
        }
    }
}

/// Looks at these objects again, and gives the bytes that were read for it. `regions` are of now: what refers to an object
/// that has just come is often in memory that has just come.
pub fn verdicts<M: Memory>(
    heap: &Heap<'_>,
    memory: &M,
    regions: &[Region],
    objects: impl Iterator<Item = u32>,
    pools: &[(std::ops::Range<u64>, u64)],
    budget: Budget,
) -> (Verdicts, u64) {
    let wanted: AddressMap<u32> = objects.map(|object| (heap.address(object), object)).collect();
    if wanted.is_empty() {
        return (Verdicts::default(), 0);
    }
    let bounded = Bounded::new(memory, budget);
    let Some(places) = places(regions, &bounded, &wanted) else { return (Verdicts::default(), bounded.bytes_read()) };
    let verdict = |(&address, &object): (&u64, &u32)| {
        let kind = heap.kind(object).address;
        let live = bounded.u64(address).is_ok_and(|count| count != 0)
            && bounded.u64(address + at::TYPE).is_ok_and(|now| now == kind);
        let named = places.get(&address).is_some_and(|places| places.iter().any(|&at| !is_free(&bounded, pools, at)));
        let verdict = match (live, named) {
            (false, _) => Verdict::Gone,
            (true, true) => Verdict::Named,
            (true, false) => Verdict::Lost,
        };
        (object, verdict)
    };
    (Verdicts(wanted.iter().map(verdict).collect()), bounded.bytes_read())
}

/// Where the wanted addresses stand in memory; `None` if not all of it could be read.
fn places<M: Memory>(
    regions: &[Region],
    memory: &Bounded<'_, M>,
    wanted: &AddressMap<u32>,
) -> Option<AddressMap<Vec<u64>>> {
    let (low, high) = (*wanted.keys().min()?, *wanted.keys().max()?);
    let mut places: AddressMap<Vec<u64>> = AddressMap::default();
    let mut buffer = vec![0; PIECE as usize];
    for span in regions.iter().filter(|region| region.permissions.write && is_memory(region)) {
        for start in (span.start..span.end).step_by(PIECE as usize) {
            let length = PIECE.min(span.end - start) as usize;
            let piece = buffer.get_mut(..length)?;
            if memory.read(start, piece).is_err() {
                if memory.is_spent() {
                    return None;
                }
                // It was given back meanwhile.
                continue;
            }
            for (index, chunk) in piece.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*chunk);
                if (low..=high).contains(&word) && wanted.contains_key(&word) {
                    let found = places.entry(word).or_default();
                    if found.len() < PLACES {
                        found.push(start + index as u64 * 8);
                    }
                }
            }
        }
    }
    Some(places)
}

/// Whether an address lies in a block of pymalloc that is free: what stands there is left from before.
fn is_free(memory: &impl Memory, arenas: &[(std::ops::Range<u64>, u64)], address: u64) -> bool {
    let Some((_, pool_size)) = arenas.iter().find(|(arena, _)| arena.contains(&address)) else { return false };
    let pool = address & !(pool_size - 1);
    let Some((size, blocks)) = used_blocks(|at| memory.u64(at).ok(), pool, *pool_size) else { return false };
    !blocks.iter().any(|&block| (block..block + size).contains(&address))
}
