//! Who fills the pools of small objects: live objects are charged by samples of who wrote them, and not to who opened
//! the pool.
//!
//! Which path opens a pool is known of every one, and is often not the path whose objects stay in it: one that makes and
//! drops objects of the same size all the time is more likely to be the one that needs another pool. The samples are
//! slots, each with the path that filled it last and the path that opened its pool. The pools of one opener and size
//! class are a stratum: what is live in them is shared out as the stratum's samples say. A stratum with too few of them
//! is shared out as those of its whole class say, in which the opener stands for itself as often as openers do there.

use std::collections::BTreeMap;

/// A stratum with so many samples is judged by them alone.
const ENOUGH: usize = 3;

/// A class with fewer samples is charged to the openers.
const ENOUGH_OF_A_CLASS: usize = 4;

/// A slot that holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Size class of its pool.
    pub class: u32,
    /// The stack that opened the pool; 0 if it is not known.
    pub opener: u64,
    /// The stack that filled the slot.
    pub filler: u64,
}

/// Live objects in pools of one size class that one stack opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Size class: 0 for 16 bytes.
    pub class: u32,
    /// The stack that opened the pools; 0 if it is not known.
    pub opener: u64,
    /// Pools with live objects.
    pub pools: u64,
    /// Live objects.
    pub objects: u64,
}

impl Live {
    /// Bytes of the objects, rounded up to the size class.
    pub const fn space(&self) -> u64 {
        self.objects * size(self.class)
    }
}

/// Bytes of a block of a size class.
pub const fn size(class: u32) -> u64 {
    (class as u64 + 1) * 16
}

/// What one stack is charged with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Charge {
    /// Live objects.
    pub objects: u64,
    /// Bytes of these.
    pub space: u64,
    /// Pools with live objects that it opened.
    pub pools: u64,
    /// Bytes that live in these, whoever filled them.
    pub opened_space: u64,
    /// Variance of `objects`; 0 where no sample says anything.
    pub objects_variance: f64,
    /// Variance of `space`.
    pub space_variance: f64,
}

/// Small objects by stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Charges {
    /// By stack; 0 stands for objects of which nobody is known.
    pub by_stack: BTreeMap<u64, Charge>,
    /// Bytes that were charged as samples say.
    pub sampled_space: u64,
    /// Bytes that were charged to who opened their pool, for want of samples.
    pub opener_space: u64,
    /// Bytes of which nobody is known: neither samples nor an opener.
    pub unknown_space: u64,
}

impl Charges {
    /// The largest standard error of what a stack is charged with, bytes.
    pub fn largest_error(&self) -> u64 {
        let variance = self.by_stack.values().map(|charge| charge.space_variance).fold(0.0, f64::max);
        variance.sqrt().ceil() as u64
    }
}

/// Charges what is live.
pub fn charge(live: &[Live], samples: &[Sample]) -> Charges {
    let mut strata: BTreeMap<(u32, u64), Live> = BTreeMap::new();
    for row in live {
        let stratum = strata.entry((row.class, row.opener)).or_insert(Live { pools: 0, objects: 0, ..*row });
        stratum.pools += row.pools;
        stratum.objects += row.objects;
    }
    let mut by_class: BTreeMap<u32, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        by_class.entry(sample.class).or_default().push(*sample);
    }
    let mut charges = Charges::default();
    for stratum in strata.values() {
        let opener = charges.by_stack.entry(stratum.opener).or_default();
        opener.pools += stratum.pools;
        opener.opened_space += stratum.space();
        let shares = shares(stratum, by_class.get(&stratum.class).map_or(&[], Vec::as_slice));
        match (shares.is_empty(), stratum.opener) {
            (false, _) => charges.sampled_space += stratum.space(),
            (true, 0) => charges.unknown_space += stratum.space(),
            (true, _) => charges.opener_space += stratum.space(),
        }
        let samples: u64 = shares.values().sum();
        for (stack, objects) in split(stratum.objects, &shares, stratum.opener) {
            let charge = charges.by_stack.entry(stack).or_default();
            charge.objects += objects;
            charge.space += objects * size(stratum.class);
            let variance = shares.get(&stack).map_or(0.0, |&of_it| variance(stratum.objects, of_it, samples));
            charge.objects_variance += variance;
            charge.space_variance += variance * (size(stratum.class) as f64).powi(2);
        }
    }
    charges
}

/// The variance of a path's objects among `objects`, when `of_it` of `samples` are its: that of the share's posterior after
/// a flat prior, so that a few samples that all agree are not taken for certainty.
fn variance(objects: u64, of_it: u64, samples: u64) -> f64 {
    let (of_it, samples) = (of_it as f64, samples as f64);
    let share = (of_it + 1.0) / (samples + 2.0);
    (objects as f64).powi(2) * share * (1.0 - share) / (samples + 3.0)
}

/// The weights by which a stratum is shared out, given the samples of its class; none if it is its opener's for want of them.
fn shares(stratum: &Live, of_class: &[Sample]) -> BTreeMap<u64, u64> {
    let own = of_class.iter().filter(|sample| sample.opener == stratum.opener);
    let own = counted(own.map(|sample| sample.filler));
    if own.values().sum::<u64>() >= ENOUGH as u64 {
        return own;
    }
    if of_class.len() < ENOUGH_OF_A_CLASS {
        return BTreeMap::new();
    }
    let as_themselves = |sample: &Sample| if sample.filler == sample.opener { stratum.opener } else { sample.filler };
    counted(of_class.iter().map(as_themselves))
}

fn counted(stacks: impl Iterator<Item = u64>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for stack in stacks {
        *counts.entry(stack).or_default() += 1;
    }
    counts
}

/// Shares out objects by weights, whole ones, so that nothing is lost; all to `otherwise` if there are no weights.
fn split(objects: u64, weights: &BTreeMap<u64, u64>, otherwise: u64) -> Vec<(u64, u64)> {
    let total: u64 = weights.values().sum();
    if total == 0 {
        return vec![(otherwise, objects)];
    }
    let up_to = |weight: u64| {
        let whole = u128::from(objects) * u128::from(weight) / u128::from(total);
        u64::try_from(whole).unwrap_or(u64::MAX)
    };
    let mut before = 0;
    let share = |(&stack, weight): (&u64, &u64)| {
        let (from, to) = (up_to(before), up_to(before + weight));
        before += weight;
        (stack, to - from)
    };
    weights.iter().map(share).filter(|(_, objects)| *objects > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHURN: u64 = 1;
    const KEEP: u64 = 2;

    fn live(class: u32, opener: u64, objects: u64) -> Live {
        Live { class, opener, pools: 1, objects }
    }

    fn samples(class: u32, opener: u64, fillers: &[(u64, usize)]) -> Vec<Sample> {
        let all = |&(filler, times): &(u64, usize)| std::iter::repeat_n(Sample { class, opener, filler }, times);
        fillers.iter().flat_map(all).collect()
    }

    fn objects(charges: &Charges) -> Vec<(u64, u64)> {
        charges.by_stack.iter().map(|(stack, charge)| (*stack, charge.objects)).filter(|(_, n)| *n > 0).collect()
    }

    #[test]
    fn without_samples_the_opener_is_charged() {
        let charges = charge(&[live(3, CHURN, 90), live(3, KEEP, 10)], &[]);
        assert_eq!(objects(&charges), [(CHURN, 90), (KEEP, 10)]);
        assert_eq!((charges.opener_space, charges.sampled_space), (6400, 0));
        let nobody = charge(&[live(3, 0, 9)], &[]);
        assert_eq!((nobody.opener_space, nobody.unknown_space), (0, 9 * 64));
        // Samples of another class say nothing of this one.
        assert_eq!(charge(&[live(3, CHURN, 9)], &samples(4, CHURN, &[(KEEP, 50)])).opener_space, 9 * 64);
        // Three of a class are not enough to speak of other openers.
        assert_eq!(objects(&charge(&[live(3, 7, 9)], &samples(3, CHURN, &[(KEEP, 3)]))), [(7, 9)]);
    }

    #[test]
    fn pools_are_shared_out_as_their_samples_say() {
        let charges = charge(&[live(3, CHURN, 100)], &samples(3, CHURN, &[(KEEP, 9), (CHURN, 1)]));
        assert_eq!(objects(&charges), [(CHURN, 10), (KEEP, 90)]);
        assert_eq!((charges.opener_space, charges.sampled_space), (0, 6400));
        let Charge { objects, space, pools, opened_space, .. } = charges.by_stack[&CHURN];
        assert_eq!((objects, space, pools, opened_space), (10, 640, 1, 6400));
    }

    #[test]
    fn the_error_shrinks_with_the_samples_and_is_never_none() {
        let error = |keep, churn| {
            let charges = charge(&[live(3, CHURN, 100)], &samples(3, CHURN, &[(KEEP, keep), (CHURN, churn)]));
            let charge = charges.by_stack[&KEEP];
            assert!((charge.space_variance.sqrt() - 64.0 * charge.objects_variance.sqrt()).abs() < 1e-6);
            charge.objects_variance.sqrt()
        };
        // As the standard error of a share of one half: 100 * sqrt(1/4 / n).
        assert!((error(50, 50) - 4.93).abs() < 0.01 && (error(5000, 5000) - 0.5).abs() < 0.001);
        assert!((10.0..20.0).contains(&error(3, 0)) && error(30, 0) > 1.0);
        let unknown = charge(&[live(3, CHURN, 100)], &[]).by_stack[&CHURN];
        assert!(unknown.objects_variance.abs() < f64::EPSILON);
    }

    #[test]
    fn the_error_covers_the_truth_as_often_as_it_should() {
        // Three of ten slots are the churning path's; the samples are drawn by a fixed generator.
        let mut state = 88_172_645_463_325_252_u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 10 < 3
        };
        let within_two = (0..1000).filter(|_| {
            let churn = (0..40).filter(|_| draw()).count();
            let charges = charge(&[live(3, 7, 1000)], &samples(3, 7, &[(KEEP, 40 - churn), (CHURN, churn)]));
            let Charge { objects, objects_variance, .. } = charges.by_stack[&CHURN];
            (objects as f64 - 300.0).abs() <= 2.0 * objects_variance.sqrt()
        });
        let covered = within_two.count();
        assert!((930..=980).contains(&covered), "{covered} of 1000");
    }

    #[test]
    fn an_opener_without_samples_stands_for_itself_as_often_as_others_do() {
        let (other, mut seen) = (7, samples(3, CHURN, &[(KEEP, 5)]));
        seen.extend(samples(3, KEEP, &[(KEEP, 5)]));
        let charges = charge(&[live(3, CHURN, 100), live(3, KEEP, 100), live(3, other, 100)], &seen);
        assert_eq!(objects(&charges), [(KEEP, 250), (other, 50)]);
    }

    #[test]
    fn nothing_is_lost_in_rounding() {
        let seen = samples(0, 0, &[(1, 1), (2, 1), (3, 1), (4, 4)]);
        for number in [0, 1, 2, 3, 1000, u64::MAX >> 8] {
            let charges = charge(&[live(0, 0, number)], &seen);
            assert_eq!(charges.by_stack.values().map(|charge| charge.objects).sum::<u64>(), number);
        }
    }
}
