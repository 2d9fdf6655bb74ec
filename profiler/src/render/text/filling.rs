//! How well it is known who filled the pools of small objects.

use crate::profile::{Filling, Profile};
use crate::render::page::Page;
use crate::render::sanitize;
use crate::render::units::{bytes, counted, share};

/// Most columns of a reason that the system gave.
const REASON: usize = 120;

pub(super) fn write(page: &mut Page, profile: &Profile) {
    let fillings: Vec<&Filling> = profile.processes.iter().filter_map(|process| process.filling.as_ref()).collect();
    if let Some(text) = in_words(&fillings, profile.quality.unwatched.as_deref()) {
        page.fact("small objects", &text);
    }
}

fn in_words(fillings: &[&Filling], unwatched: Option<&str>) -> Option<String> {
    let sum = |field: fn(&Filling) -> u64| fillings.iter().copied().map(field).fold(0, u64::saturating_add);
    let sampled = sum(|one| one.sampled_space);
    let all =
        [sum(|one| one.opener_space), sum(|one| one.unknown_space)].into_iter().fold(sampled, u64::saturating_add);
    if all == 0 {
        return None;
    }
    let by_samples = || {
        format!(
            "{} of {} are charged to who was seen to make them, by {}: ± {} for a path (standard error)",
            share(sampled, all),
            bytes(all),
            counted(sum(|one| one.samples), "sample"),
            share(sum(|one| one.standard_error_space), sampled)
        )
    };
    let by_opener = |space| {
        let space = bytes(space);
        format!(
            "{space}, without samples, are charged to the paths that opened their pools: of these, paths that make and \
             drop objects of the same size may have too much"
        )
    };
    let in_total = |space| {
        let space = bytes(space);
        format!(
            "{space} are known in total only: this Python has no call that opens a pool, and no samples say who made them"
        )
    };
    let some = |space: u64| (space > 0).then_some(space);
    let mut parts: Vec<String> = some(sampled).map(|_| by_samples()).into_iter().collect();
    parts.extend(some(sum(|one| one.opener_space)).map(by_opener));
    parts.extend(some(sum(|one| one.unknown_space)).map(in_total));
    parts.extend(unwatched.map(|why| format!("slots cannot be watched here: {}", sanitize::name(why, REASON))));
    for (field, what) in MISSES {
        parts.extend(some(sum(field)).map(|slots| format!("{} {what}", counted(slots, "watched slot"))));
    }
    let refused = fillings.iter().find_map(|one| one.refused.as_deref());
    parts.extend(refused.map(|why| format!("at times no slot could be watched ({})", sanitize::name(why, REASON))));
    Some(parts.join("; "))
}

/// A number of watched slots.
type Slots = fn(&Filling) -> u64;

/// Watched slots that told nothing.
const MISSES: [(Slots, &str); 2] =
    [(|one| one.unseen, "filled and nobody was seen"), (|one| one.churned, "taken and given back too often to tell")];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filling: &Filling, unwatched: Option<&str>, expected: &[&str]) {
        let text = in_words(&[filling], unwatched).unwrap();
        for words in expected {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn says_how_many_samples_and_how_sure() {
        assert_eq!(in_words(&[], None), None);
        assert_eq!(in_words(&[&Filling::default()], None), None);
        let sampled = Filling {
            sampled_space: 9 << 20,
            opener_space: 1 << 20,
            standard_error_space: 1 << 19,
            samples: 37,
            unseen: 1,
            churned: 2,
            ..Filling::default()
        };
        let expected = [
            "90.0 % of 10.0 MiB are charged to who was seen to make them, by 37 samples: ± 5.6 %",
            "1.0 MiB, without samples, are charged to the paths that opened",
            "1 watched slot filled and nobody was seen; 2 watched slots taken",
        ];
        check(&sampled, None, &expected);
    }

    #[test]
    fn says_why_there_are_no_samples() {
        let by_opener = Filling { opener_space: 2048, refused: Some("busy".to_owned()), ..Filling::default() };
        check(&by_opener, None, &["2.0 KiB, without samples, are charged to the paths", "(busy)"]);
        check(&Filling { unknown_space: 2048, ..Filling::default() }, None, &["2.0 KiB are known in total only"]);
        check(&by_opener, Some("no \u{1b}[31mpermission"), &["slots cannot be watched here: no "]);
        assert!(!in_words(&[&by_opener], Some("a\u{1b}b")).unwrap().contains('\u{1b}'));
    }
}
