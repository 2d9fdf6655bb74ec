//! The resident memory of the golden profiles: every kind of page, every cause, everything an allocator may hold.

use super::{MIB, Shop};
use crate::profile::builder::Readings;
use crate::profile::{
    Allocators, Process, Profile, Residency, ResidencyLine, ResidentKind, ResidentRow, StackId, UnsharedCause,
    UnsharedRow,
};

/// Bytes, of these free, of these shared, by kind; `None` where what is free is not known.
type Lines<'a> = &'a [(ResidentKind, u64, Option<u64>, u64)];

/// The call paths of the shop that touch pages.
pub(super) struct Touching {
    pub remember: StackId,
    pub upload: StackId,
    pub export: StackId,
    pub no_own: StackId,
}

pub(super) fn residency(at_ms: u64, rss: u64, lines: Lines<'_>) -> Residency {
    let line = |&(kind, space, free, shared): &(ResidentKind, u64, Option<u64>, u64)| ResidencyLine {
        kind,
        space: space * MIB,
        free: free.map(|free| free * MIB),
        shared: shared * MIB,
    };
    Residency { at_ms, rss, swapped: 0, given_back: 0, lines: lines.iter().map(line).collect() }
}

/// What was resident in the shop's one process before and after.
pub(super) fn of_the_shop(process: &Process) -> Process {
    use ResidentKind::{Anonymous, CHeap, File, HugeTlb, Image, Objects, Shared, Stack};
    let start = [
        (CHeap, 18, Some(2), 0),
        (Objects, 12, Some(1), 4),
        (Anonymous, 4, None, 0),
        (Stack, 1, None, 0),
        (File, 20, None, 20),
        (Image, 4, None, 1),
        (Shared, 1, None, 1),
    ];
    let end = [
        (CHeap, 62, Some(31), 0),
        (Objects, 22, Some(7), 3),
        (Anonymous, 9, None, 0),
        (Stack, 2, None, 0),
        (File, 16, None, 16),
        (Image, 4, None, 1),
        (Shared, 2, None, 2),
        (HugeTlb, 4, None, 0),
    ];
    Process {
        residency_start: Some(residency(3, process.rss_start, &start)),
        residency_end: Some(Residency { swapped: 5 * MIB, ..residency(30_040, process.rss_end, &end) }),
        allocators: Some(Allocators {
            glibc: "2.36".to_owned(),
            arenas: 9,
            arena_max: None,
            top_space: 8 * MIB,
            bin_space: 20 * MIB,
            cached_space: 3 * MIB,
            trim_gives_back: 12 * MIB,
            threshold_gives_back: 4 * MIB,
            two_arenas_give_back: 5 * MIB,
            pool_free_space: 6 * MIB,
            free_pool_space: MIB,
            notes: Vec::new(),
        }),
        ..process.clone()
    }
}

/// Pages that came: on both sides known, on one, on none.
pub(super) fn rows(shop: &mut Shop, touching: &Touching, readings: &mut Readings) {
    use ResidentKind::{Anonymous, CHeap, File, HugeTlb, Image, Objects, Shared, Stack};
    let &Touching { remember, upload, export, no_own } = touching;
    let native = shop.builder.marker("[native thread, no Python stack]");
    let native = shop.builder.stack(&[native]);
    let row = |stack, allocated_by, kind, space: u64| ResidentRow {
        process: 0,
        stack,
        allocated_by,
        kind,
        inuse_space: space * MIB,
    };
    readings.resident = vec![
        row(remember, Some(remember), CHeap, 20),
        row(remember, Some(remember), Objects, 8),
        row(remember, None, CHeap, 4),
        row(remember, None, Objects, 3),
        row(export, Some(upload), CHeap, 9),
        row(export, Some(0), CHeap, 2),
        row(export, None, Stack, 1),
        row(upload, Some(native), Anonymous, 3),
        row(upload, None, Anonymous, 2),
        row(upload, None, Image, 1),
        row(0, None, File, 1),
        row(0, Some(upload), CHeap, 1),
        row(no_own, None, Shared, 1),
        row(no_own, None, HugeTlb, 4),
    ];
    let unshared = |stack, cause, space: u64| UnsharedRow { process: 0, stack, cause, space: space * MIB };
    readings.unshared = vec![
        unshared(no_own, UnsharedCause::ReferenceCount, 6),
        unshared(no_own, UnsharedCause::GcHeader, 2),
        unshared(upload, UnsharedCause::Data, 3),
        unshared(0, UnsharedCause::Unknown, 1),
        unshared(export, UnsharedCause::Data, 1),
    ];
}

/// Workers under musl and in a container that hides one: what is free is not known, and why is said, once each.
pub(super) fn of_the_workers(profile: &mut Profile) {
    use ResidentKind::{CHeap, File, Objects};
    let notes = [
        "the C library is musl, whose malloc pyalloc cannot read: what it holds free is not known",
        "malloc is served by /usr/lib/libjemalloc.so.2, which pyalloc cannot read: what it holds free is not known",
        "no CPython interpreter in the process",
        "the arenas of glibc's malloc were not found: what it holds free is not known",
        "a fifth, for which there is no room",
    ];
    for (index, process) in profile.processes.iter_mut().enumerate() {
        let [before, after] = [process.rss_start, process.rss_end].map(|rss| rss / MIB);
        let lines = |rss: u64| [(CHeap, rss - 28, None, 4), (Objects, 10, Some(2), 3), (File, 18, None, 18)];
        process.residency_start = Some(residency(3, process.rss_start, &lines(before)));
        process.residency_end = Some(residency(30_040, process.rss_end, &lines(after)));
        let note = notes[index % notes.len()].to_owned();
        process.allocators = Some(Allocators { pool_free_space: 2 * MIB, notes: vec![note], ..Allocators::default() });
    }
    // The one that was replaced: its page tables could not be opened.
    let last = profile.processes.len() - 1;
    profile.processes[last].residency_start = None;
    profile.processes[last].residency_end = None;
    profile.processes[last].allocators = None;
    profile.resident.iter_mut().for_each(|row| row.process = 2);
    profile.unshared.iter_mut().for_each(|row| row.process = 2);
}

/// Bytes beyond any sum, and texts that try to break out, in every place that the resident ledger has.
pub(super) fn hostile(profile: &mut Profile) {
    let kinds = [
        ResidentKind::CHeap,
        ResidentKind::Objects,
        ResidentKind::Anonymous,
        ResidentKind::Stack,
        ResidentKind::File,
        ResidentKind::Image,
        ResidentKind::Shared,
        ResidentKind::HugeTlb,
    ];
    let stacks = profile.stacks.len() as StackId;
    for (n, kind) in (0..).zip(kinds) {
        let (stack, allocated_by) = (n % stacks, (n % 3 > 0).then_some((n * 7) % stacks));
        profile.resident.push(ResidentRow { process: 0, stack, allocated_by, kind, inuse_space: u64::MAX - 9 });
        profile.unshared.push(UnsharedRow { process: 0, stack, cause: UnsharedCause::Data, space: u64::MAX - 9 });
    }
    let line = |kind| ResidencyLine { kind, space: u64::MAX, free: Some(u64::MAX), shared: u64::MAX };
    let lines = kinds.map(line).to_vec();
    let found = Residency { at_ms: u64::MAX, rss: u64::MAX, swapped: u64::MAX, given_back: u64::MAX, lines };
    let process = &mut profile.processes[0];
    process.residency_start = Some(Residency { rss: 0, ..found.clone() });
    process.residency_end = Some(found);
    process.allocators = Some(Allocators {
        glibc: "\x1b[2J".to_owned(),
        arenas: u64::MAX,
        bin_space: u64::MAX,
        cached_space: u64::MAX,
        pool_free_space: u64::MAX,
        notes: vec!["\x1b]0;x\x07\n</title>\u{202e}".to_owned()],
        ..Allocators::default()
    });
}
