//! The rules, one a file: each says what it saw, or nothing.

pub mod allocator;
pub mod cache;
pub mod idle;
pub mod in_flight;
pub mod levels_off;
pub mod multiplication;
pub mod native;
pub mod no_growth;
pub mod not_enough;
pub mod retained;
pub mod traffic;

use super::facts::Facts;
use crate::profile::verdict::Finding;

/// A rule on what is live: it is given the bytes of growth that no rule before it has explained.
pub type LiveRule = fn(&Facts<'_>, u64) -> Option<Finding>;

/// In the order in which they explain: the more telling first, so that no byte is explained twice.
pub const LIVE: [LiveRule; 6] =
    [levels_off::filling, in_flight::judge_growth, cache::judge, native::judge, idle::judge, retained::judge];

/// A rule on something else than what is live.
pub type Rule = fn(&Facts<'_>) -> Option<Finding>;

/// These explain bytes of their own.
pub const OTHERS: [Rule; 3] = [allocator::judge, multiplication::judge, traffic::judge];
