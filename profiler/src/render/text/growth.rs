//! What grew, ledger by ledger. The ledgers overlap and are never added together.

use crate::profile::tree::Tree;
use crate::profile::view::HeapTotals;
use crate::profile::{MappingOrigin, Profile};
use crate::render::page::{Page, words};
use crate::render::units::{bytes, change, count, counted, error, rough_share};

const NAME_COLUMNS: usize = 24;
const VALUE_COLUMNS: usize = 11;

pub(super) fn write(page: &mut Page, profile: &Profile, tree: &Tree) {
    page.heading("What grew, by ledger");
    write_rss(page, profile, tree);
    write_heap(page, profile, tree);
    write_mappings(page, profile, tree);
    if !profile.pools.is_empty() {
        page.sentence(
            "Small objects (up to 512 bytes) are counted as they stand at the end; how many were made and given back \
             in between is not.",
        );
    }
}

fn write_rss(page: &mut Page, profile: &Profile, tree: &Tree) {
    let ((before, start), (after, end)) = (tree.rss_at_start(profile), tree.rss_at_end(profile));
    let [from, to] = [start, end].map(bytes);
    match profile.processes.len() {
        0 => (),
        1 => line(page, "RSS", &change(start, end), &format!("from {from} to {to}")),
        _ => {
            let note =
                format!("from {from} in {} to {to} in {}", counted(before, "process"), counted(after, "process"));
            line(page, "RSS of the tree", &change(start, end), &format!("{note}; shared pages count in each"));
        }
    }
}

fn write_heap(page: &mut Page, profile: &Profile, tree: &Tree) {
    let (all, heap) = (profile.heap_totals(), profile.heap_totals_of(|process| tree.counts(process)));
    if profile.trace.without_heap {
        let asked = profile.processes.iter().all(|process| process.without_probes.is_none());
        let why = if asked { "allocations were not probed (--ledger)" } else { "no probe in the process: see below" };
        line(page, "heap", "not kept", why);
        return;
    }
    if all == HeapTotals::default() {
        line(page, "heap", "nothing", "was allocated during the trace");
        return;
    }
    let small = match heap.small_objects {
        0 => String::new(),
        objects => format!(" and {} ({})", counted(objects, "small object"), bytes(heap.small_space)),
    };
    let variances = profile.heap_variances_of(|process| tree.counts(process));
    let made = profile.heap_variances_of(|_| true);
    let sure = |value, variance| error(value, variance).map_or(String::new(), |error| format!("; {error}"));
    let surviving = match heap.surviving_space() {
        0 => "nothing that was allocated during the trace survived it".to_owned(),
        space => {
            format!("in {}{small}{}", counted(heap.inuse_objects, "block"), sure(space, variances.inuse_space))
        }
    };
    line(page, "heap: surviving", &bytes(heap.surviving_space()), &surviving);
    if tree.gone() > 0 {
        line(page, "heap: of ended processes", &bytes(tree.gone()), "live when their process ended: gone with it");
    }
    let blocks = format!("in {}{}", counted(all.alloc_objects, "block"), sure(all.alloc_space, made.alloc_space));
    line(page, "heap: allocated", &bytes(all.alloc_space), &blocks);
    let freed = format!(
        "{} of the bytes allocated, {} within 100 ms",
        rough_share(all.freed_space(), all.alloc_space),
        rough_share(all.temporary_space, all.alloc_space)
    );
    line(page, "heap: given back", &bytes(all.freed_space()), &freed);
}

fn write_mappings(page: &mut Page, profile: &Profile, tree: &Tree) {
    let all = profile.mapping_totals(None);
    if profile.mappings.is_empty() {
        line(page, "mapping", "nothing", "was mapped during the trace");
        return;
    }
    let still = profile.mapping_totals_of(None, |process| tree.counts(process));
    let note = format!("still mapped; {} asked for", bytes(all.alloc_space));
    line(page, "mapping", &bytes(still.inuse_space), &note);
    for (origin, name) in ORIGINS {
        let totals = profile.mapping_totals(Some(origin));
        if totals.alloc_objects > 0 || totals.alloc_space > 0 {
            let still = profile.mapping_totals_of(Some(origin), |process| tree.counts(process));
            let note = format!(
                "in {}; {} in {} asked for",
                counted(still.inuse_objects, "mapping"),
                bytes(totals.alloc_space),
                count(totals.alloc_objects)
            );
            line(page, &format!("  {name}"), &bytes(still.inuse_space), &note);
        }
    }
}

const ORIGINS: [(MappingOrigin, &str); 6] = [
    (MappingOrigin::AllocatorBrk, "C allocator, by brk"),
    (MappingOrigin::AllocatorMmap, "C allocator, by mmap"),
    (MappingOrigin::PymallocArena, "arenas of pymalloc"),
    (MappingOrigin::Anonymous, "program, no file"),
    (MappingOrigin::File, "program, of files"),
    (MappingOrigin::ThreadStack, "stacks of threads"),
];

fn line(page: &mut Page, name: &str, value: &str, note: &str) {
    let first = format!("  {name:<NAME_COLUMNS$}{value:>VALUE_COLUMNS$}  ");
    page.pieces(&first, 4 + NAME_COLUMNS + VALUE_COLUMNS, &words(note));
}
