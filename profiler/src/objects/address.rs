//! Maps by address, with a hash that is quick for them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by address.
pub type AddressMap<V> = HashMap<u64, V, BuildHasherDefault<AddressHasher>>;

/// Addresses are multiples of 8 and near each other: one multiplication spreads them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio; the table uses the highest and the lowest bits.
        self.0 = (value >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
