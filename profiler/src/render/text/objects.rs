//! Python objects, where they were looked at: which types, containers and caches grew, and who keeps what came.

use crate::profile::Profile;
use crate::profile::objects::{CacheRow, ContainerKind, ContainerRow, Holder, ObjectLook, RetainerRow};
use crate::render::page::Page;
use crate::render::sanitize::visible;
use crate::render::units::{bytes, count, counted, time_us};

/// Rows of each list.
const MOST_ROWS: usize = 6;

pub(super) fn write(page: &mut Page, profile: &Profile) {
    let looks = &profile.evidence.looks;
    if looks.is_empty() {
        return;
    }
    page.heading("Python objects (read from outside; the sizes of containers include what only they hold)");
    for note in &profile.evidence.notes {
        page.sentence(&visible(note));
    }
    for (index, process) in (0u32..).zip(&profile.processes) {
        let of_process: Vec<_> = looks.iter().filter(|look| look.process == index).collect();
        if let Some(last) = of_process.last() {
            page.fact(&format!("process {}", process.pid), &cost(&of_process));
            if last.not_available.is_none() {
                write_growth(page, of_process[0], last);
            }
        }
    }
}

/// What was looked at, and what that took.
fn cost(looks: &[&ObjectLook]) -> String {
    let [.., last] = looks else { return String::new() };
    if let Some(reason) = &last.not_available {
        return format!("not available: {}", visible(reason));
    }
    let objects = count(last.objects);
    let read = bytes(looks.iter().map(|look| look.bytes_read).max().unwrap_or(0));
    let longest = time_us(looks.iter().map(|look| look.took_us).max().unwrap_or(0));
    let mut text = format!("{objects} objects at the last look; a look took {longest} and read {read} at most");
    let discarded: u64 = looks.iter().map(|look| look.discarded).sum();
    if discarded > 0 {
        text += &format!("; {discarded} changed while they were read and were left out");
    }
    if looks.iter().any(|look| look.partial) {
        text += "; not all was seen within the bounds of a look";
    }
    text
}

fn write_growth(page: &mut Page, first: &ObjectLook, last: &ObjectLook) {
    write_types(page, first, last);
    write_containers(page, first, last);
    for row in last.caches.iter().take(MOST_ROWS) {
        page.sentence(&cache(row));
    }
    let (came, rows) = if last.focused.is_empty() { ("", &last.retainers) } else { (" what came", &last.focused) };
    // Where there are many places, none of them keeps much.
    let told: Vec<_> = rows.iter().filter(|row| row.holder != Holder::Unknown).take(MOST_ROWS).collect();
    if !told.is_empty() {
        page.row(&format!("         objects          bytes  who keeps{came}, by a sample"));
    }
    for row in told {
        page.row(&format!("  {:>14} {:>14}  {}", count(row.objects), bytes(row.space), keeper(row)));
    }
}

fn write_types(page: &mut Page, first: &ObjectLook, last: &ObjectLook) {
    let types = grown(&last.types, |row| row.space.saturating_sub(space_of(first, &row.name)));
    if types.is_empty() {
        page.sentence("no type of objects has grown");
        return;
    }
    page.row("         objects          bytes  type");
    for row in types {
        let before = first.types.iter().find(|before| before.name == row.name);
        let objects = signed(row.objects, before.map_or(0, |before| before.objects), count);
        let space = signed(row.space, before.map_or(0, |before| before.space), bytes);
        page.row(&format!("  {objects:>14} {space:>14}  {}", visible(&row.name)));
    }
}

fn write_containers(page: &mut Page, first: &ObjectLook, last: &ObjectLook) {
    let before = |row: &ContainerRow| first.same(row);
    let gain = |row: &ContainerRow| row.deep_space.saturating_sub(before(row).map_or(0, |old| old.deep_space));
    let containers = grown(&last.containers, gain);
    if !containers.is_empty() {
        page.row("          length          bytes  container");
    }
    for row in containers {
        let old = before(row);
        let length = signed(row.length, old.map_or(0, |old| old.length), count);
        let space = signed(row.deep_space, old.map_or(0, |old| old.deep_space), bytes);
        page.row(&format!("  {length:>14} {space:>14}  {}", container(row)));
    }
}

fn space_of(look: &ObjectLook, name: &str) -> u64 {
    look.types.iter().find(|row| row.name == name).map_or(0, |row| row.space)
}

/// The rows that gained most.
fn grown<T>(rows: &[T], gain: impl Fn(&T) -> u64) -> Vec<&T> {
    let mut rows: Vec<_> = rows.iter().map(|row| (gain(row), row)).filter(|(gain, _)| *gain > 0).collect();
    rows.sort_by_key(|(gain, _)| std::cmp::Reverse(*gain));
    rows.into_iter().take(MOST_ROWS).map(|(_, row)| row).collect()
}

/// "+120", "-3".
fn signed(now: u64, before: u64, unit: impl Fn(u64) -> String) -> String {
    let sign = if now < before { '-' } else { '+' };
    format!("{sign}{}", unit(now.abs_diff(before)))
}

fn container(row: &ContainerRow) -> String {
    let elements = match row.kind {
        ContainerKind::Buffer => bytes(row.length),
        _ if row.element_type.is_empty() => counted(row.length, "element"),
        _ => format!("{}, most of type {}", counted(row.length, "element"), visible(&row.element_type)),
    };
    let bound = row.bound.map_or("no bound".to_owned(), |most| format!("at most {}", count(most)));
    let owner = if row.owner.is_empty() { "owner not found".into() } else { visible(&row.owner) };
    format!("{owner} ({}, {elements}, {bound})", visible(&row.type_name))
}

fn cache(row: &CacheRow) -> String {
    let most = row.maxsize.map_or("no bound".to_owned(), |most| format!("at most {}", count(most)));
    let (size, space) = (count(row.currsize), bytes(row.deep_space));
    let function = visible(&row.function);
    format!(
        "cache of {function}: entries {size} ({most}), {space}; {} hits, {} misses",
        count(row.hits),
        count(row.misses)
    )
}

fn keeper(row: &RetainerRow) -> String {
    let path = match row.holder {
        Holder::NoReferrer => "no object that refers to them: a reference lost in native code".into(),
        _ if row.path.is_empty() => "not found".into(),
        _ => visible(&row.path),
    };
    format!("{}: {path}", visible(&row.type_name))
}
