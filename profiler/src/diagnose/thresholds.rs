//! From when on something counts, each number with its reason. Nothing else in this room is tuned.

const MIB: u64 = 1 << 20;

/// Shortest watch from which growth is judged, ms: ten readings. Allocators take memory in steps of up to a second's work,
/// and a garbage collection or a request's burst lasts about as long.
pub const SHORTEST_MS: u64 = 9_000;
/// A verdict from a shorter watch than this says that a longer one would make it surer, s: a warm-up takes that long.
pub const WARM_UP_S: f64 = 30.0;
/// Fewest readings of a process from which a slope is told: below, the error of a slope by medians is as wide as itself.
pub const FEWEST_READINGS: usize = 10;
/// The watch that is advised where there is too little, s: long enough for some garbage collections and log rotations.
pub const USUAL_WATCH_S: u64 = 60;
/// The longest watch that is advised, s: who is on call can wait that long.
pub const LONGEST_WATCH_S: u64 = 3600;

/// Growth below this is not told from noise, bytes: pymalloc takes 1 MiB at a time (256 KiB before 3.10), a thread's arena
/// of glibc grows by 132 KiB, and a dict of 100 000 entries that doubles its table takes 5 MiB at once.
pub const LEAST_GROWTH: u64 = 2 * MIB;
/// Nor is growth below this share of the resident memory, in thousandths: large processes breathe.
pub const LEAST_GROWTH_PER_MILLE: u64 = 5;
/// Growth of less than this is nothing at all, bytes.
pub const NOTHING: u64 = MIB / 2;

/// It has levelled off when the last part of the watch brings less than this share of what an even growth would have.
pub const LEVEL_SHARE: f64 = 0.2;
/// That last part, as a share of the watch.
pub const LAST_PART: f64 = 0.4;

/// A finding is most of the growth from this share of it on.
pub const MOST: f64 = 0.6;
/// A finding is worth a word in a mixture from this share on.
pub const PART: f64 = 0.2;
/// A function is said to allocate the growth if at least this share of it is below it.
pub const CULPRIT_SHARE: f64 = 0.5;

/// Held free by allocators: trouble from this many bytes on that are at least [`HELD_SHARE`] of the resident memory. A
/// healthy heap holds a quarter of itself free (glibc's bins and tops, pymalloc's part-filled pools).
pub const HELD_LEAST: u64 = 32 * MIB;
/// See [`HELD_LEAST`].
pub const HELD_SHARE: f64 = 0.35;

/// A worker is large if it has more than this for itself alone, bytes: a bare interpreter with a web framework has 15 to
/// 30 MiB.
pub const LARGE_WORKER: u64 = 32 * MIB;
/// Copies of the same are about the same size: the smallest worker has at least this share of the largest.
pub const LIKE_WORKERS: f64 = 0.7;
/// What one copy instead of many saves is worth a word from this share of the tree's memory on.
pub const COPIES_SHARE: f64 = 0.3;

/// Memory that comes and goes is trouble from this many bytes at once on that are at least [`BURST_SHARE`] of the resident
/// memory without it and without what it left with the allocators.
pub const BURST_LEAST: u64 = 8 * MIB;
/// See [`BURST_LEAST`].
pub const BURST_SHARE: f64 = 0.5;
/// One burst that is given back is no pattern; so many are.
pub const BURSTS: u64 = 3;
/// A request's line and headers are no payload: what each burst receives is put against it from this many bytes on.
pub const PAYLOAD_LEAST: u64 = 4096;
/// What is live belongs to work under way if calls under way hold at least this share of it ...
pub const IN_FLIGHT_SHARE: f64 = 0.4;
/// ... and as much as this many times of it has come and gone.
pub const TURNOVER: f64 = 2.0;
/// What a third of the growth is not in the lows of the last third of an even growth.
pub const FLOOR_TO_ALL: f64 = 1.5;
/// A finding of less than this share of the growth is not worth a word.
pub const LEAST_PART: f64 = 0.05;
/// Pages copied on write are worth a finding from this many bytes on.
pub const COPIED_LEAST: u64 = 16 * MIB;

/// An interval of readings is idle if less than this many receives and accepted connections come in a second.
pub const IDLE_EVENTS_PER_S: f64 = 0.5;
/// Idle and busy stretches are compared if each is at least this share of the watch.
pub const STRETCH_SHARE: f64 = 0.15;
/// Growth does not follow traffic if its rate in idle stretches is at least this share of that in busy ones.
pub const INDEPENDENT: f64 = 0.5;
/// It does if the rate in idle stretches is at most this share.
pub const FOLLOWS: f64 = 0.2;

/// Elements that a container gains at least to be called growing, in number and per mille of what it had.
pub const CONTAINER_GAIN: u64 = 16;
/// See [`CONTAINER_GAIN`].
pub const CONTAINER_GAIN_PER_MILLE: u64 = 5;
/// Containers explain all of the growth if what is seen of their entries is at least this share of it.
pub const PYTHON_SHARE: f64 = 0.5;
/// Native memory or lost references are all of the growth if at most this share of it is something else.
pub const NATIVE_SHARE: f64 = 0.25;
