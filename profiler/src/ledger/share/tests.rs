use super::*;
use crate::profile::ResidentKind;

const KIND: ResidentKind = ResidentKind::CHeap;

/// Numbers that look like chance and are the same in each run.
struct Numbers(u64);

impl Numbers {
    /// Below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Shares out pages whose owners are known, of which one in `weight(page)` was recorded; (share, standard error, truth) of
/// each stack, pages.
fn estimated(owners: &[u64], weight: impl Fn(usize) -> f64, seed: u64) -> HashMap<u64, (f64, f64, f64)> {
    let mut numbers = Numbers(seed);
    let (mut unseen, mut samples) = (Vec::new(), Vec::new());
    let mut found: HashMap<u64, (f64, f64, f64)> = HashMap::new();
    for (page, &stack) in owners.iter().enumerate() {
        let sum = found.entry(stack).or_default();
        sum.2 += 1.0;
        let (address, weight) = (page as u64 * PAGE, weight(page));
        if numbers.next() * weight < 1.0 {
            sum.0 += 1.0;
            samples.push(Sample { address, kind: KIND, stack, others: weight - 1.0 });
        } else {
            let pages = PageRun { start: address, end: address + PAGE, kind: KIND, shared: false };
            unseen.push(Unseen { pages, several: false });
        }
    }
    samples.retain(|sample| sample.others > 0.0);
    let shared = share_out(&unseen, &samples);
    let given: f64 = shared.owned.iter().map(|(run, _)| pages(run)).sum();
    assert_eq!(given, unseen.len() as f64, "each page is given once");
    for (run, owner) in &shared.owned {
        if let Owner::Stack(stack) = owner {
            found.get_mut(stack).unwrap().0 += pages(run);
        }
    }
    for (stack, share) in shared.shares {
        found.get_mut(&stack).unwrap().1 = share.variance.sqrt();
    }
    found
}

/// In how many of 40 runs the truth is within two standard errors, and the mean of what was estimated, for stack 1.
fn judged(owners: &[u64], weight: impl Fn(usize) -> f64 + Copy) -> (u32, f64, f64) {
    let (mut within, mut sum, mut truth) = (0, 0.0, 0.0);
    for seed in 0..40 {
        let (pages, error, known) = estimated(owners, weight, seed)[&1];
        within += u32::from((pages - known).abs() <= 2.0 * error + 1.0);
        (sum, truth) = (sum + pages / 40.0, known);
    }
    (within, sum, truth)
}

#[test]
fn two_who_touch_in_turns_get_what_they_touched() {
    // One page in four is the first one's, wherever it lies.
    let mut numbers = Numbers(99);
    let owners: Vec<u64> = (0..20_000).map(|_| if numbers.next() < 0.25 { 1 } else { 2 }).collect();
    let (within, mean, truth) = judged(&owners, |_| 32.0);
    assert!(within >= 34, "{within} of 40");
    assert!((mean - truth).abs() < truth * 0.04, "{mean} of {truth}");
}

#[test]
fn what_lies_together_is_known_almost_exactly() {
    let owners: Vec<u64> = (0..20_000).map(|page| if page < 5000 { 1 } else { 2 }).collect();
    for seed in 0..10 {
        let (pages, error, truth) = estimated(&owners, |_| 32.0, seed)[&1];
        assert!((pages - truth).abs() < truth * 0.05, "{pages} of {truth}");
        assert!((pages - truth).abs() < 3.0 * error + 1.0 && error < truth * 0.05, "{pages} of {truth}, {error}");
    }
}

#[test]
fn faults_recorded_while_each_one_was_stand_for_themselves() {
    // The first one came while all were recorded, the second while one in 64 was, in the same memory.
    let mut numbers = Numbers(5);
    let owners: Vec<u64> = (0..20_000).map(|_| if numbers.next() < 0.5 { 1 } else { 2 }).collect();
    let (pages, _, truth) = estimated(&owners, |page| if owners[page] == 1 { 1.0 } else { 64.0 }, 3)[&1];
    assert_eq!(pages, truth);
    let (within, mean, truth) = judged(&owners, |page| if owners[page] == 1 { 8.0 } else { 64.0 });
    assert!(within >= 34, "{within} of 40");
    assert!((mean - truth).abs() < truth * 0.05, "{mean} of {truth}");
}

#[test]
fn pages_that_no_fault_can_stand_for_are_nobodys() {
    let run = |first: u64, number: u64| PageRun {
        start: first * PAGE,
        end: (first + number) * PAGE,
        kind: KIND,
        shared: false,
    };
    let samples: Vec<Sample> =
        (0..4).map(|number| Sample { address: number * PAGE, kind: KIND, stack: 1, others: 1.0 }).collect();
    let nobodys = |several| {
        let shared = share_out(&[Unseen { pages: run(4, 1000), several }], &samples);
        let of_nobody = shared.owned.iter().filter(|(_, owner)| *owner == Owner::Unseen);
        of_nobody.map(|(run, _)| pages(run)).sum::<f64>()
    };
    assert_eq!(nobodys(false), 972.0, "four faults, one other each, and six standard deviations of 4");
    assert_eq!(nobodys(true), 0.0, "a fault brings as many as it likes");
}

#[test]
fn a_kind_without_a_recorded_fault_gets_owners_of_the_others() {
    let pages = PageRun { start: 0, end: PAGE, kind: ResidentKind::Stack, shared: false };
    let sample = Sample { address: 9 * PAGE, kind: KIND, stack: 1, others: 3.0 };
    assert_eq!(share_out(&[Unseen { pages, several: false }], &[sample]).owned, [(pages, Owner::Stack(1))]);
}
