//! What several processes have each a copy of: the container that is in all of them, by the last look at each.

use std::collections::BTreeMap;

use super::objects::{has_owner, named};
use crate::profile::Profile;
use crate::profile::objects::{ContainerKind, ContainerRow};

/// A container of which each of several processes has a copy.
#[derive(Clone, Debug)]
pub struct Copied {
    /// `app.TABLE (dict)`.
    pub name: String,
    /// Elements of the largest copy.
    pub length: u64,
    /// Bytes of the smallest copy, with its elements.
    pub space: u64,
    /// In how many processes it was seen: in all that were looked at.
    pub times: usize,
}

/// The largest one; `None` if fewer than two of the processes were looked at, or have none in common.
pub fn largest(profile: &Profile, processes: impl Iterator<Item = u32>) -> Option<Copied> {
    let looks: Vec<_> = processes.filter_map(|process| profile.evidence.looks_at(process).next_back()).collect();
    if looks.len() < 2 {
        return None;
    }
    let mut found: BTreeMap<(&str, ContainerKind), Vec<&ContainerRow>> = BTreeMap::new();
    for look in &looks {
        let mut seen: BTreeMap<(&str, ContainerKind), &ContainerRow> = BTreeMap::new();
        for row in look.containers.iter().filter(|row| has_owner(row)) {
            let largest = seen.entry((&row.owner, row.kind)).or_insert(row);
            if row.deep_space > largest.deep_space {
                *largest = row;
            }
        }
        seen.into_iter().for_each(|(key, row)| found.entry(key).or_default().push(row));
    }
    let common = found.into_values().filter(|rows| rows.len() == looks.len());
    let copies = common.filter_map(|rows| {
        let space = rows.iter().map(|row| row.deep_space).min()?;
        let length = rows.iter().map(|row| row.length).max()?;
        Some(Copied { name: named(rows.first()?), length, space, times: rows.len() })
    });
    copies.max_by(|a, b| a.space.cmp(&b.space).then_with(|| b.name.cmp(&a.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::objects::{Holder, ObjectLook};

    fn look(process: u32, rows: &[(&str, u64)]) -> ObjectLook {
        let row = |(owner, deep_space): &(&str, u64)| ContainerRow {
            owner: (*owner).to_owned(),
            holder: Holder::ModuleGlobal,
            type_name: "dict".to_owned(),
            deep_space: *deep_space,
            ..ContainerRow::default()
        };
        ObjectLook { process, containers: rows.iter().map(row).collect(), ..ObjectLook::default() }
    }

    #[test]
    fn it_is_in_every_process_that_was_looked_at() {
        let mut profile = Profile::default();
        profile.evidence.looks = vec![look(0, &[("app.ONE", 900), ("app.TABLE", 500), ("app.TABLE", 5)])];
        assert!(largest(&profile, 0..3).is_none());
        profile.evidence.looks.push(look(2, &[("app.TABLE", 400), ("os.environ", 300)]));
        let copied = largest(&profile, 0..3).unwrap();
        assert_eq!((copied.name.as_str(), copied.space, copied.times), ("app.TABLE (dict)", 400, 2));
    }
}
