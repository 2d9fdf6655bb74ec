use super::*;
use profiler_common::event::Header;

const KIND: ResidentKind = ResidentKind::Anonymous;
/// The time of a look.
const NOW: u64 = 1000;

fn run(first: u64, pages: u64) -> PageRun {
    PageRun { start: first * PAGE, end: (first + pages) * PAGE, kind: KIND, shared: false }
}

fn touched(first: u64, pages: u16, stack: u64, time_ns: u64, flags: u16) -> (BlockKey, Touch) {
    (BlockKey::new(3, first * PAGE), Touch { stack, time_ns, pages, weight: 1, flags, offset: 24 })
}

fn change(operation: u32, time_ns: u64, address: u64, length: u64) -> Mapping {
    let header = Header { time_ns, ..Header::default() };
    Mapping { header, operation, address: address * PAGE, length: length * PAGE, ..Mapping::default() }
}

/// Owners of the pages that are there, as (first page, pages, owner).
fn check(ledger: &mut ResidentLedger, pages: &[PageRun], expected: &[(u64, u64, Owner)]) {
    let owned = ledger.settle(pages, NOW, |_| false);
    let found: Vec<_> =
        owned.iter().map(|run| (run.pages.start / PAGE, (run.pages.end - run.pages.start) / PAGE, run.owner)).collect();
    assert_eq!(found, expected);
}

#[test]
fn pages_belong_to_who_touched_them_last_and_those_gone_to_nobody() {
    let mut ledger = ResidentLedger::new(&[run(0, 4)], Owner::Before, None);
    ledger.book(&mut [touched(10, 4, 7, 5, touch::WRITE), touched(12, 1, 8, 6, touch::WRITE)], Some(0));
    check(
        &mut ledger,
        &[run(1, 2), run(10, 3)],
        &[(1, 2, Owner::Before), (10, 2, Owner::Stack(7)), (12, 1, Owner::Stack(8))],
    );
    // Page 13 has left for good: if it comes back without a fault, nobody knows whose it is.
    check(&mut ledger, &[run(1, 1)], &[(1, 1, Owner::Before)]);
    check(&mut ledger, &[run(13, 1)], &[(13, 1, Owner::Unseen)]);
}

#[test]
fn changes_and_touches_are_booked_by_their_time() {
    let mut ledger = ResidentLedger::default();
    ledger.map(&change(mapping::MUNMAP, 10, 0, 8));
    ledger.map(&Mapping { old_address: 0, old_length: 2 * PAGE, ..change(mapping::MREMAP, 30, 100, 2) });
    let mut touches = [touched(0, 4, 2, 20, touch::WRITE), touched(0, 4, 1, 5, touch::WRITE)];
    ledger.book(&mut touches, Some(0));
    check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(2)), (100, 2, Owner::Stack(2))]);
    // A munmap that is told of late takes nothing that came after it.
    ledger.map(&change(mapping::MUNMAP, 15, 0, 8));
    ledger.book(&mut [], Some(0));
    check(&mut ledger, &[run(2, 2)], &[(2, 2, Owner::Stack(2))]);
}

#[test]
fn what_is_told_to_have_moved_after_the_look_that_misses_it_keeps_its_owner() {
    let mut ledger = ResidentLedger::default();
    ledger.book(&mut [touched(0, 4, 7, 5, touch::WRITE)], Some(0));
    check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(7)), (100, 2, Owner::Unseen)]);
    ledger.map(&Mapping { old_address: 0, old_length: 2 * PAGE, ..change(mapping::MREMAP, 30, 100, 2) });
    ledger.book(&mut [], Some(0));
    check(&mut ledger, &[run(2, 2), run(100, 2)], &[(2, 2, Owner::Stack(7)), (100, 2, Owner::Stack(7))]);
}

#[test]
fn a_heap_that_shrinks_and_grows_again_belongs_to_who_touches_it_then() {
    let mut ledger = ResidentLedger::new(&[], Owner::Before, Some(8 * PAGE));
    ledger.map(&change(mapping::BRK, 3, 9, 0));
    ledger.map(&change(mapping::BRK, 10, 4, 0));
    ledger.book(&mut [touched(2, 6, 1, 5, touch::WRITE)], Some(0));
    check(&mut ledger, &[run(2, 6)], &[(2, 2, Owner::Stack(1)), (4, 4, Owner::Unseen)]);
}

#[test]
fn writing_to_a_shared_page_is_no_growth() {
    let cow = touch::WRITE | touch::PROTECTED;
    let mut ledger = ResidentLedger::new(&[run(0, 2)], Owner::Inherited, None);
    ledger.book(&mut [touched(1, 1, 9, 5, cow)], Some(0));
    assert_eq!(ledger.take_unshared(), [Unshared { stack: 9, address: PAGE + 24, pages: 1.0 }]);
    check(&mut ledger, &[run(0, 2)], &[(0, 2, Owner::Inherited)]);
    // A page that was only read was the page of zeroes: it comes when it is written to.
    ledger.book(&mut [touched(5, 1, 1, 6, 0), touched(5, 1, 2, 7, cow)], Some(0));
    check(&mut ledger, &[run(5, 1)], &[(5, 1, Owner::Stack(2))]);
    assert_eq!(ledger.take_unshared(), []);
}

#[test]
fn the_first_write_to_a_files_page_has_nothing_to_do_with_a_fork() {
    let file = PageRun { kind: ResidentKind::File, ..run(0, 1) };
    let mut ledger = ResidentLedger::new(&[file], Owner::Before, None);
    ledger.book(&mut [touched(0, 1, 9, 5, touch::WRITE | touch::PROTECTED)], Some(0));
    assert_eq!(ledger.take_unshared(), []);
    check(&mut ledger, &[run(0, 1)], &[(0, 1, Owner::Stack(9))]);
}

#[test]
fn pages_that_come_together_have_one_owner() {
    let mut ledger = ResidentLedger::default();
    ledger.book(&mut [touched(512 + 3, 1, 1, 5, touch::WRITE)], Some(0));
    let owned = ledger.clone().settle(&[run(512, 512), run(1024, 1)], NOW, |_| true);
    let owners: Vec<_> = owned.iter().map(|run| (run.pages.start / PAGE, run.owner)).collect();
    assert_eq!(owners, [(512, Owner::Stack(1)), (1024, Owner::Unseen)]);
    let file = PageRun { kind: ResidentKind::File, ..run(512, 32) };
    let owned = ledger.settle(&[file], NOW, |_| false);
    assert_eq!(owned.last().map(|run| (run.pages.start / PAGE, run.owner)), Some((528, Owner::Unseen)));
}

#[test]
fn bytes_are_joined_with_the_blocks_they_lie_in() {
    let owned = [OwnedRun { pages: run(1, 2), owner: Owner::Stack(1) }];
    let block = |start, end, stack| Allocation { start, end, stack };
    let sums =
        join(&owned, &[block(0, PAGE + 100, 5), block(PAGE + 200, 2 * PAGE + 50, 6), block(9 * PAGE, 10 * PAGE, 7)]);
    let expected = [
        ((Owner::Stack(1), Some(5), KIND), 100),
        ((Owner::Stack(1), Some(6), KIND), PAGE - 150),
        ((Owner::Stack(1), None, KIND), PAGE + 50),
    ];
    assert_eq!(sums, expected.into_iter().collect());
}

fn recorded(page: u64, weight: u16, stack: u64, time_ns: u64) -> (BlockKey, Touch) {
    let (key, touch) = touched(page, 1, stack, time_ns, touch::WRITE);
    (key, Touch { weight, ..touch })
}

#[test]
fn pages_whose_fault_was_left_out_are_shared_out_once() {
    let mut ledger = ResidentLedger::default();
    ledger.book(&mut [recorded(3, 8, 1, 5), recorded(12, 8, 2, 6)], Some(0));
    let (first, second) = (Owner::Stack(1), Owner::Stack(2));
    check(
        &mut ledger,
        &[run(0, 16)],
        &[(0, 3, first), (3, 1, first), (4, 4, first), (8, 4, second), (12, 1, second), (13, 3, second)],
    );
    let of_first = ledger.estimates()[&1];
    assert_eq!(of_first.space, 7 * PAGE);
    assert!(of_first.error > PAGE && of_first.error < 6 * PAGE, "{}", of_first.error);
    // What comes later changes nothing of it.
    ledger.book(&mut [recorded(20, 2, 3, NOW + 1)], Some(0));
    let third = Owner::Stack(3);
    let owned = ledger.settle(&[run(0, 16), run(20, 2)], NOW + 2, |_| false);
    let pages_of = |owner| {
        let own = owned.iter().filter(|run| run.owner == owner);
        own.map(|run| (run.pages.end - run.pages.start) / PAGE).sum::<u64>()
    };
    assert_eq!([first, second, third].map(pages_of), [8, 8, 2]);
}

#[test]
fn a_page_given_back_is_estimated_anew() {
    let mut ledger = ResidentLedger::default();
    ledger.book(&mut [recorded(1, 2, 1, 5)], Some(0));
    check(&mut ledger, &[run(0, 2)], &[(0, 1, Owner::Stack(1)), (1, 1, Owner::Stack(1))]);
    ledger.map(&change(mapping::DISCARD, NOW + 1, 0, 2));
    ledger.book(&mut [recorded(0, 2, 2, NOW + 2)], Some(0));
    check(&mut ledger, &[run(0, 2)], &[(0, 1, Owner::Stack(2)), (1, 1, Owner::Stack(2))]);
}

#[test]
fn who_only_read_a_page_of_zeroes_did_not_bring_what_was_written_there() {
    let mut ledger = ResidentLedger::default();
    // Each page was read first, and written to by somebody else, whose fault was recorded for two of them.
    let read = |page| {
        let (key, touch) = touched(page, 1, 1, 5, 0);
        (key, Touch { weight: 2, ..touch })
    };
    ledger.book(&mut [read(0), read(2), read(3), recorded(1, 2, 2, 6), recorded(3, 2, 2, 7)], Some(0));
    let owned = ledger.settle(&[run(0, 4)], NOW, |_| false);
    assert!(owned.iter().all(|run| run.owner == Owner::Stack(2)), "{owned:?}");
}

#[test]
fn a_place_touched_again_after_its_pages_moved_away_has_two_touches() {
    let before = Touch::key(3, 7 * PAGE, 4);
    let after = Touch::key(3, 7 * PAGE, 5);
    assert!(before != after && Touch::page(before) == 7 * PAGE && after.slot() == 3);
    let mut ledger = ResidentLedger::default();
    ledger.map(&Mapping { old_address: 7 * PAGE, old_length: PAGE, ..change(mapping::MREMAP, 30, 100, 1) });
    let touch = |key, stack, time_ns| (key, recorded(0, 1, stack, time_ns).1);
    ledger.book(&mut [touch(after, 2, 40), touch(before, 1, 20)], Some(0));
    check(&mut ledger, &[run(7, 1), run(100, 1)], &[(7, 1, Owner::Stack(2)), (100, 1, Owner::Stack(1))]);
}

#[test]
fn writes_to_shared_pages_that_were_left_out_are_counted_to_those_recorded() {
    let cow = touch::WRITE | touch::PROTECTED;
    let mut ledger = ResidentLedger::new(&[run(0, 100)], Owner::Inherited, None);
    let write = |page, weight, stack| {
        let (key, touch) = touched(page, 1, stack, page, cow);
        (key, Touch { weight, ..touch })
    };
    // By their weights they stand for 40 and 20 writes; there were 90.
    ledger.book(&mut [write(1, 40, 7), write(2, 20, 8)], Some(88));
    let pages: Vec<(u64, f64)> = ledger.take_unshared().iter().map(|row| (row.stack, row.pages)).collect();
    assert_eq!(pages, [(7, 60.0), (8, 30.0)]);
    // Where it is not known how many there were, the weights must do.
    ledger.book(&mut [write(3, 40, 7)], None);
    assert_eq!(ledger.take_unshared()[0].pages, 40.0);
}
