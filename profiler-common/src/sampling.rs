//! Which allocations are looked at, and what each of these stands for.
//!
//! Each block is drawn by itself, with a chance that grows with its size: `size / interval`, and never less than that of
//! [`SMALLEST`] bytes. A block drawn stands for `1 / chance` blocks, so the sum of what is drawn is, in the mean, the sum
//! of all. There is no counter of bytes that a program's own rhythm could keep step with, and none that threads share.

/// A block that stands for itself alone; weights are multiples of 1/65536 of it.
pub const ONE: u64 = 1 << 16;

/// The interval at which every block is seen. An interval is the bytes that are allocated between two samples, in the mean;
/// from this one to [`MAX_INTERVAL`].
pub const EVERY_BLOCK: u64 = 1;

/// Most bytes between samples: what is computed with it then fits 64 bits.
pub const MAX_INTERVAL: u64 = 1 << 24;

/// Blocks below this many bytes are drawn as blocks of this size: it is what the smallest block takes.
pub const SMALLEST: u64 = 16;

/// Unit of [`space_variance`]: bytes squared.
pub const SPACE_VARIANCE_UNIT: u64 = 1 << 8;

/// Units of [`weight_variance`] in one block squared.
pub const WEIGHT_VARIANCE_UNITS: u64 = 1 << 4;

/// Draws a block of `size` bytes by a random number: its weight, in units of 1/[`ONE`]; 0 if it is not drawn.
///
/// Blocks of `interval` bytes and more always are, with the weight [`ONE`].
pub const fn draw(size: u64, interval: u64, random: u32) -> u64 {
    let chance = if size < SMALLEST { SMALLEST } else { size };
    if chance >= interval {
        return ONE;
    }
    // Both sides are the random number and the chance times interval times 2^32; interval is below 2^32.
    if random as u64 * interval >= chance << 32 {
        return 0;
    }
    interval * ONE / chance
}

/// Bytes that a block of this size and weight stands for.
pub const fn space(size: u64, weight: u64) -> u64 {
    // A block that is not certain to be drawn is smaller than the interval: no overflow.
    if weight == ONE { size } else { size * weight / ONE }
}

/// What a block drawn adds to the variance of a sum of bytes, in units of [`SPACE_VARIANCE_UNIT`].
///
/// For independent draws with chance p the sum over those drawn of `(1 - p) (size / p)^2` is, in the mean, the variance
/// of the sum of `size / p` (Horvitz and Thompson).
pub const fn space_variance(size: u64, weight: u64) -> u64 {
    if weight == ONE {
        return 0;
    }
    let space = space(size, weight);
    space * (space - size) / SPACE_VARIANCE_UNIT
}

/// What a block drawn adds to the variance of a number of blocks, in units of 1/[`WEIGHT_VARIANCE_UNITS`].
pub const fn weight_variance(weight: u64) -> u64 {
    const UNIT: u64 = ONE / WEIGHT_VARIANCE_UNITS;
    // Rounded: those that are nearly certain to be drawn have a unit or two each.
    ((weight >> 8) * ((weight - ONE) >> 8) + UNIT / 2) / UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All random numbers, evenly thinned out.
    fn randoms() -> impl Iterator<Item = u32> {
        (0..1u32 << 16).map(|n| n << 16 | 0x8000)
    }

    #[test]
    fn the_mean_of_what_is_drawn_is_the_truth() {
        let check = |size: u64, interval: u64| {
            let weights: u64 = randoms().map(|random| draw(size, interval, random)).sum();
            let mean = weights as f64 / (ONE * (1 << 16)) as f64;
            // The numbers are 2^-16 apart, so a chance is known to half of that.
            let chance = size.max(SMALLEST) as f64 / interval as f64;
            assert!((mean - 1.0).abs() <= 0.6 / 65536.0 / chance.min(1.0) + 1e-4, "{size} of {interval}: {mean}");
        };
        for interval in [EVERY_BLOCK, 17, 4096, 100_000, 1 << 19, MAX_INTERVAL] {
            for size in [0, 1, 15, 16, 100, 511, 4096, 99_999, 1 << 19, 1 << 40] {
                check(size, interval);
            }
        }
    }

    #[test]
    fn large_blocks_are_always_seen_and_stand_for_themselves() {
        let check = |size, interval, random, expected| assert_eq!(draw(size, interval, random), expected);
        check(4096, 4096, u32::MAX, ONE);
        check(u64::MAX, MAX_INTERVAL, u32::MAX, ONE);
        check(0, EVERY_BLOCK, u32::MAX, ONE);
        check(4095, 4096, u32::MAX, 0);
        check(1024, 4096, 0, 4 * ONE);
    }

    #[test]
    fn a_block_stands_for_the_interval() {
        assert_eq!(space(1024, draw(1024, 4096, 0)), 4096);
        assert_eq!(space(u64::MAX, ONE), u64::MAX);
        let most = draw(SMALLEST, MAX_INTERVAL, 0);
        assert_eq!(space(SMALLEST, most), MAX_INTERVAL);
        assert_eq!(space(0, most), 0);
    }

    #[test]
    fn the_variance_estimated_is_that_of_the_draw() {
        let check = |size: u64, interval: u64| {
            let drawn = || randoms().map(|random| draw(size, interval, random)).filter(|weight| *weight > 0);
            let estimated: u64 = drawn().map(|weight| space_variance(size, weight)).sum();
            let estimated = estimated as f64 * SPACE_VARIANCE_UNIT as f64 / f64::from(1 << 16);
            let chance = size as f64 / interval as f64;
            let known = (size * size) as f64 * (1.0 - chance) / chance;
            assert!((estimated / known - 1.0).abs() < 0.02, "{size} of {interval}: {estimated} {known}");
            let estimated: u64 = drawn().map(weight_variance).sum();
            let estimated = estimated as f64 / (WEIGHT_VARIANCE_UNITS << 16) as f64;
            assert!((estimated / ((1.0 - chance) / chance) - 1.0).abs() < 0.02, "{size} of {interval}: {estimated}");
        };
        check(100, 4096);
        check(3000, 4096);
        check(64, 1 << 15);
        check(5000, 1 << 19);
        assert_eq!((space_variance(1 << 30, ONE), weight_variance(ONE)), (0, 0));
        // The largest do not overflow.
        let most = draw(SMALLEST, MAX_INTERVAL, 0);
        assert!(space_variance(SMALLEST, most) > 0 && weight_variance(most) > 0);
    }
}
