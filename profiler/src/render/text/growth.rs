//! What grew, ledger by ledger. The ledgers overlap and are never added together.

use crate::profile::view::HeapTotals;
use crate::profile::{MappingOrigin, Profile};
use crate::render::page::{Page, words};
use crate::render::units::{bytes, change, count, counted, rough_share};

const NAME_COLUMNS: usize = 24;
const VALUE_COLUMNS: usize = 11;

pub(super) fn write(page: &mut Page, profile: &Profile) {
    page.heading("What grew, by ledger");
    let several = profile.processes.len() > 1;
    for process in &profile.processes {
        let name = if several { format!("RSS of {}", process.pid) } else { "RSS".to_owned() };
        let note = format!("from {} to {}", bytes(process.rss_start), bytes(process.rss_end));
        line(page, &name, &change(process.rss_start, process.rss_end), &note);
    }
    write_heap(page, &profile.heap_totals());
    write_mappings(page, profile);
    if !profile.pools.is_empty() {
        page.sentence(
            "Small objects (up to 512 bytes) are counted as they stand at the end; how many were made and given back \
             in between is not.",
        );
    }
}

fn write_heap(page: &mut Page, heap: &HeapTotals) {
    if *heap == HeapTotals::default() {
        line(page, "heap", "nothing", "was allocated during the trace");
        return;
    }
    let small = match heap.small_objects {
        0 => String::new(),
        objects => format!(" and {} ({})", counted(objects, "small object"), bytes(heap.small_space)),
    };
    let surviving = match heap.surviving_space() {
        0 => "nothing that was allocated during the trace survived it".to_owned(),
        _ => format!("in {}{small}", counted(heap.inuse_objects, "block")),
    };
    line(page, "heap: surviving", &bytes(heap.surviving_space()), &surviving);
    let blocks = format!("in {}", counted(heap.alloc_objects, "block"));
    line(page, "heap: allocated", &bytes(heap.alloc_space), &blocks);
    let freed = format!(
        "{} of the bytes allocated, {} within 100 ms",
        rough_share(heap.freed_space(), heap.alloc_space),
        rough_share(heap.temporary_space, heap.alloc_space)
    );
    line(page, "heap: given back", &bytes(heap.freed_space()), &freed);
}

fn write_mappings(page: &mut Page, profile: &Profile) {
    let all = profile.mapping_totals(None);
    if profile.mappings.is_empty() {
        line(page, "mapping", "nothing", "was mapped during the trace");
        return;
    }
    let note = format!("still mapped; {} asked for", bytes(all.alloc_space));
    line(page, "mapping", &bytes(all.inuse_space), &note);
    for (origin, name) in ORIGINS {
        let totals = profile.mapping_totals(Some(origin));
        if totals.alloc_objects > 0 || totals.alloc_space > 0 {
            let note = format!(
                "in {}; {} in {} asked for",
                counted(totals.inuse_objects, "mapping"),
                bytes(totals.alloc_space),
                count(totals.alloc_objects)
            );
            line(page, &format!("  {name}"), &bytes(totals.inuse_space), &note);
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
