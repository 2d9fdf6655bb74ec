//! Tables of bounded length: a small compressed file must not unfold into memory without end.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Most rows of a table that grows with the number of distinct call paths.
pub(super) const ROWS: usize = 1 << 22;
/// Most processes of a trace: the kernel side's slots have 16 bits.
pub(super) const PROCESSES: usize = 1 << 16;
/// Most entries of a list that is written by hand, such as notes and counters.
pub(super) const FEW: usize = 1 << 10;

/// Reads a list of at most `MOST` entries; a longer one is an error.
pub(super) fn vec<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Bounded::<T, MOST>(PhantomData))
}

struct Bounded<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::custom(format_args!("a list has more than {MOST} entries")));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_longer_list_is_refused() {
        let read = |text: &str| super::vec::<_, u8, 3>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("[1,2,3]").unwrap(), [1, 2, 3]);
        assert_eq!(read("[1,2,3,4]").unwrap_err().to_string(), "a list has more than 3 entries at line 1 column 9");
    }
}
