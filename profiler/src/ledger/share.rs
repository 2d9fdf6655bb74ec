//! Pages whose faults were left out are shared out among the faults recorded near them.
//!
//! Each recorded fault stands for as many as its weight says, by chance, whoever it was. So pages without a record are
//! handed out in proportion to the weights. That is done in small cells of neighbouring addresses, of the same kind of
//! memory and since the same look: within a cell mostly one call path touched all pages, and then nothing is uncertain.

use std::collections::HashMap;

use super::resident::{Owner, PageRun};

const PAGE: u64 = 4096;

/// Recorded faults of a cell, as far as weights that differ are worth as many equal ones: enough for a proportion (a quotient
/// of sums is off by about one part in so many), and few, so that cells are small.
const CELL: f64 = 32.0;

/// How far the number of pages may be above what the weights say, in standard deviations, until some of them are taken to
/// have come without a fault.
const SURPLUS: f64 = 6.0;

/// A recorded fault whose page is still there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The page.
    pub address: u64,
    /// What memory it is.
    pub kind: crate::profile::ResidentKind,
    /// The stack that touched it.
    pub stack: u64,
    /// For how many pages it stands, itself not counted.
    pub others: f64,
}

/// Pages without a recorded fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The pages.
    pub pages: PageRun,
    /// One fault brings several of them.
    pub several: bool,
}

/// How sure the share of one stack is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Pages that it was given.
    pub pages: f64,
    /// Variance of their number.
    pub variance: f64,
}

/// What became of pages without a recorded fault.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// All of them by address, with an owner: [`Owner::Unseen`] for those that no recorded fault can stand for.
    pub owned: Vec<(PageRun, Owner)>,
    /// By stack.
    pub shares: HashMap<u64, Share>,
}

/// Shares out pages; both are sorted by address.
pub fn share_out(unseen: &[Unseen], samples: &[Sample]) -> Shared {
    let mut shared = Shared::default();
    let mut without = Vec::new();
    let mut kinds: Vec<_> = unseen.iter().map(|unseen| unseen.pages.kind).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        let pages: Vec<Unseen> = unseen.iter().copied().filter(|unseen| unseen.pages.kind == kind).collect();
        let own: Vec<Sample> = samples.iter().copied().filter(|sample| sample.kind == kind).collect();
        if own.is_empty() {
            without.extend(pages);
        } else {
            shared.by_cells(&pages, &own);
        }
    }
    // Some pages of a kind of which no fault was recorded: the faults of all kinds stand for them too.
    without.sort_by_key(|unseen| unseen.pages.start);
    shared.by_cells(&without, samples);
    shared.owned.sort_by_key(|(pages, _)| pages.start);
    shared
}

impl Shared {
    fn by_cells(&mut self, unseen: &[Unseen], samples: &[Sample]) {
        let mut left = Pages::new(unseen);
        if samples.is_empty() {
            self.owned.extend(unseen.iter().map(|unseen| (unseen.pages, Owner::Unseen)));
        }
        let mut rest = samples;
        while !rest.is_empty() {
            let (own, others) = rest.split_at(cell(rest));
            let until = match (own.last(), others.first()) {
                (Some(last), Some(next)) => (last.address / 2 + next.address / 2) / PAGE * PAGE,
                _ => u64::MAX,
            };
            self.hand_out(left.take_until(until), own);
            rest = others;
        }
    }

    /// Each recorded fault gets its part, those of lower addresses lower ones.
    fn hand_out(&mut self, cell: Vec<Unseen>, samples: &[Sample]) {
        let others: f64 = samples.iter().map(|sample| sample.others).sum();
        let mut wanted: f64 = cell.iter().map(|unseen| pages(&unseen.pages)).sum();
        // Weights are powers of two and pages are counted by the kernel: this is exact, and 0 if nothing was left out.
        if others == 0.0 {
            self.owned.extend(cell.into_iter().map(|unseen| (unseen.pages, Owner::Unseen)));
            return;
        }
        if cell.iter().all(|unseen| !unseen.several) {
            let weights: f64 = samples.iter().map(|sample| (sample.others + 1.0).powi(2)).sum();
            wanted = wanted.min((others + SURPLUS * weights.sqrt()).round());
        }
        let mut left = Pages::new(&cell);
        let (mut reached, mut given) = (0.0, 0.0);
        for sample in samples {
            reached += sample.others;
            let until = (wanted * reached / others).round();
            for run in left.take(until - given) {
                self.owned.push((run, Owner::Stack(sample.stack)));
            }
            given = until;
        }
        self.owned.extend(left.take(f64::INFINITY).into_iter().map(|run| (run, Owner::Unseen)));
        self.judge(samples, wanted, others);
    }

    /// How sure the parts are: quotients of sums, over faults that were recorded by chance.
    fn judge(&mut self, samples: &[Sample], pages: f64, others: f64) {
        let squares = |samples: &[Sample]| samples.iter().map(|sample| sample.others.powi(2)).sum::<f64>();
        let all = squares(samples);
        let trials = others.powi(2) / all;
        let mut by_stack: HashMap<u64, Vec<Sample>> = HashMap::new();
        for sample in samples {
            by_stack.entry(sample.stack).or_default().push(*sample);
        }
        for (stack, own) in by_stack {
            let part = own.iter().map(|sample| sample.others).sum::<f64>() / others;
            let own = squares(&own);
            let found = ((1.0 - part).powi(2) * own + part.powi(2) * (all - own)) / others.powi(2);
            // The rule of succession: where all agreed, the next one still may not.
            let likely = (part * trials + 0.5) / (trials + 1.0);
            let least = likely * (1.0 - likely) / (trials + 1.0);
            let share = self.shares.entry(stack).or_default();
            share.pages += pages * part;
            share.variance += pages.powi(2) * found.max(least);
        }
    }
}

/// How many of the first recorded faults make a cell; all, if what would be left is too few for another.
fn cell(samples: &[Sample]) -> usize {
    let until = |samples: &[Sample]| {
        let (mut sum, mut squares) = (0.0, 0.0);
        samples.iter().position(|sample| {
            sum += sample.others;
            squares += sample.others.powi(2);
            sum * sum >= CELL * squares
        })
    };
    match until(samples) {
        Some(last) if until(&samples[last + 1..]).is_some() => last + 1,
        _ => samples.len(),
    }
}

fn pages(run: &PageRun) -> f64 {
    ((run.end - run.start) / PAGE) as f64
}

/// Pages that are taken from the front.
struct Pages {
    /// Backwards.
    runs: Vec<Unseen>,
}

impl Pages {
    fn new(runs: &[Unseen]) -> Self {
        Self { runs: runs.iter().rev().copied().collect() }
    }

    /// What lies below an address.
    fn take_until(&mut self, address: u64) -> Vec<Unseen> {
        let mut taken = Vec::new();
        while let Some(mut first) = self.runs.pop_if(|run| run.pages.start < address) {
            if first.pages.end > address {
                let rest = PageRun { start: address, ..first.pages };
                self.runs.push(Unseen { pages: rest, ..first });
                first.pages.end = address;
            }
            taken.push(first);
        }
        taken
    }

    /// The first ones, so many.
    fn take(&mut self, number: f64) -> Vec<PageRun> {
        let (mut taken, mut wanted) = (Vec::new(), number);
        while wanted >= 1.0
            && let Some(mut first) = self.runs.pop()
        {
            if pages(&first.pages) > wanted {
                let at = first.pages.start + wanted as u64 * PAGE;
                let rest = PageRun { start: at, ..first.pages };
                self.runs.push(Unseen { pages: rest, ..first });
                first.pages.end = at;
            }
            wanted -= pages(&first.pages);
            taken.push(first.pages);
        }
        taken
    }
}

#[cfg(test)]
mod tests;
