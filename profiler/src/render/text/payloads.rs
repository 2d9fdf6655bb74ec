//! Payload-handling code: who makes the biggest blocks, what for, and whether they are given back.

use crate::profile::Profile;
use crate::render::chain::Chain;
use crate::render::page::{Page, Piece, words};
use crate::render::path::Names;
use crate::render::payload::{LARGE_BLOCK, LARGE_BURST, Payload, payloads};
use crate::render::units::{bytes, count, rough_share};

/// Most places shown, however many paths were asked for: the list is for a first look.
const MOST_PLACES: usize = 8;
/// Columns before the lines below an entry's first.
const INDENT: usize = 6;

pub(super) fn write(page: &mut Page, profile: &Profile, names: &Names<'_>, top: usize) {
    if profile.trace.without_heap {
        return;
    }
    page.heading("Payload-handling code (the biggest single blocks and bursts)");
    let places = payloads(profile);
    if places.is_empty() {
        let (block, burst) = (bytes(LARGE_BLOCK), bytes(LARGE_BURST));
        page.sentence(&format!("no block of {block} or more, and no call path with {burst} or more live at once"));
        return;
    }
    page.row("     largest block   live at once   bytes/call        calls  what it does");
    for (index, place) in places.iter().take(top.min(MOST_PLACES)).enumerate() {
        write_place(page, profile, names, index + 1, place);
    }
}

fn write_place(page: &mut Page, profile: &Profile, names: &Names<'_>, rank: usize, place: &Payload) {
    let numbers = [bytes(place.largest), bytes(place.burst), bytes(place.per_call()), count(place.alloc_objects)];
    let [largest, burst, per_call, calls] = numbers;
    let label = place.label.unwrap_or("not recognized");
    page.row(&format!("{rank:>3}. {largest:>13} {burst:>14} {per_call:>12} {calls:>12}  {label}"));
    let chain = Chain::new(profile, place.heaviest, place.frame);
    let code = names.code_or_none(chain.named);
    let mut pieces = vec![Piece { text: code, dim: false }];
    pieces.extend(chain.call_pieces(names));
    page.pieces(&" ".repeat(INDENT), INDENT + 2, &pieces);
    page.pieces(&" ".repeat(INDENT), INDENT + 2, &words(&fate(place)));
}

/// "all given back", "97 % given back, 40 % within 100 ms", "kept".
fn fate(place: &Payload) -> String {
    let gone = match place.gone_space {
        0 => String::new(),
        gone => format!("{} gone with its process", bytes(gone)),
    };
    let kept = match place.inuse_space {
        0 => gone,
        kept if gone.is_empty() => format!("{} surviving", bytes(kept)),
        kept => format!("{} surviving, {gone}", bytes(kept)),
    };
    let freed = place.freed_space();
    if freed == 0 {
        return format!("kept: {kept}");
    }
    let soon = match place.temporary_space {
        0 => String::new(),
        temporary if temporary >= freed => ", within 100 ms".to_owned(),
        temporary => format!(", {} within 100 ms", rough_share(temporary, place.alloc_space)),
    };
    if kept.is_empty() {
        return format!("all given back{soon}");
    }
    let share = rough_share(freed, place.alloc_space);
    format!("{share} given back{soon}; {kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(alloc_space: u64, [inuse_space, gone_space]: [u64; 2], temporary_space: u64, expected: &str) {
        let place = Payload {
            frame: None,
            label: None,
            largest: 0,
            burst: 0,
            alloc_objects: 1,
            alloc_space,
            inuse_space,
            gone_space,
            temporary_space,
            heaviest: 0,
        };
        assert_eq!(fate(&place), expected);
    }

    #[test]
    fn whether_bytes_come_back_is_one_phrase() {
        check(100, [0, 0], 0, "all given back");
        check(100, [0, 0], 100, "all given back, within 100 ms");
        check(100, [0, 0], 40, "all given back, 40 % within 100 ms");
        check(100, [3, 0], 40, "97 % given back, 40 % within 100 ms; 3 B surviving");
        check(100, [100, 0], 0, "kept: 100 B surviving");
        check(100, [30, 70], 0, "kept: 30 B surviving, 70 B gone with its process");
        check(100, [0, 70], 0, "30 % given back; 70 B gone with its process");
    }
}
