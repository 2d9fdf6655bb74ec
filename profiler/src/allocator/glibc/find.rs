//! Finding glibc's malloc in a process whose C library has no symbols for it.

use std::path::PathBuf;

use iced_x86::{Code, Decoder, DecoderOptions};

use super::state::Layout;
use super::{Version, settings, state};
use crate::allocator::NotRead;
use crate::process::Pid;
use crate::process::image::Image;
use crate::process::link_map;
use crate::process::maps::Region;
use crate::process::memory::Memory;

/// Where glibc's malloc keeps its books in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) version: Version,
    pub(super) layout: Layout,
    pub(super) settings: Option<settings::Place>,
}

/// Releases whose structures are known.
const KNOWN: std::ops::RangeInclusive<Version> = (2, 28)..=(2, 43);

/// The target may change a bin while it is looked for.
const ATTEMPTS: usize = 4;

/// Bytes of the C library's data that are searched; it has about 70 KiB.
const MAX_DATA: u64 = 8 << 20;

/// Finds the arenas of the C library that serves `malloc`.
pub fn find(pid: Pid, memory: &impl Memory, regions: &[Region], images: &[Image]) -> Result<Place, NotRead> {
    let library = library(pid, memory, images)?;
    let named = release(library).ok_or_else(|| NotRead::Version("of an unknown release".to_owned()))?;
    let version = parse(&named).filter(|version| KNOWN.contains(version)).ok_or(NotRead::Version(named))?;
    let place = || {
        data(library, regions).find_map(|(start, length)| {
            let words = words(memory, start, length)?;
            let layout = state::search(memory, start, &words)?;
            Some((layout, settings::Place::search(memory, version, start, &words, regions)))
        })
    };
    let (layout, settings) = (0..ATTEMPTS).find_map(|_| place()).ok_or(NotRead::NoArenas)?;
    Ok(Place { version, layout, settings })
}

/// The C library, if it is the one whose `malloc` the program calls.
fn library<'a>(pid: Pid, memory: &impl Memory, images: &'a [Image]) -> Result<&'a Image, NotRead> {
    if images.iter().any(|image| image.file_name().starts_with("ld-musl")) {
        return Err(NotRead::Musl);
    }
    let order = link_map::resolution_order(memory, images, Image::executable(pid, images));
    // The loader has a malloc of its own, for itself, before glibc 2.34.
    let serves = |image: &&Image| image.export("malloc").is_some() && !is_loader(image);
    let serving = order.iter().filter_map(|&index| images.get(index)).find(serves).ok_or(NotRead::NoGlibc)?;
    if serving.export("gnu_get_libc_version").is_none() {
        return Err(NotRead::Replaced(PathBuf::from(serving.file_name())));
    }
    Ok(serving)
}

fn is_loader(image: &Image) -> bool {
    image.export("_r_debug").is_some()
}

/// What `gnu_get_libc_version` returns: the address of a constant.
fn release(library: &Image) -> Option<String> {
    let vaddr = library.export("gnu_get_libc_version")?.vaddr;
    let code = library.bytes_at(vaddr)?;
    let code = code.get(..32).unwrap_or(code);
    let text = Decoder::with_ip(64, code, vaddr, DecoderOptions::NONE)
        .iter()
        .find(|instruction| instruction.code() == Code::Lea_r64_m && instruction.is_ip_rel_memory_operand())
        .and_then(|instruction| library.bytes_at(instruction.ip_rel_memory_address()))?;
    let text = text.split(|&byte| byte == 0).next().filter(|text| text.len() < 16)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

/// "2.36", and "2.36.9000" of a development state as 2.36.
fn parse(release: &str) -> Option<Version> {
    let mut numbers = release.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The library's variables: start and length of each of its writable segments, in the target.
fn data<'a>(library: &'a Image, regions: &'a [Region]) -> impl Iterator<Item = (u64, u64)> {
    let segments = library.segments.iter().filter(|segment| !segment.execute);
    segments.filter_map(|segment| {
        let start = library.bias.wrapping_add(segment.vaddr).next_multiple_of(8);
        let end = library.bias.wrapping_add(segment.vaddr).checked_add(segment.memory_size)?;
        // Its beginning is read-only after relocation.
        let writable = regions.iter().filter(|region| region.permissions.write);
        let pieces: Vec<_> = writable.filter(|region| region.start < end && start < region.end).collect();
        let (first, last) = (pieces.first()?, pieces.last()?);
        let (start, end) = (start.max(first.start), end.min(last.end));
        (end > start && end - start <= MAX_DATA).then(|| (start, end - start))
    })
}

fn words(memory: &impl Memory, start: u64, length: u64) -> Option<Vec<u64>> {
    let length = usize::try_from(length).ok()?;
    let bytes = memory.bytes(start, length, length).ok()?;
    let (chunks, _) = bytes.as_chunks::<8>();
    Some(chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_by_their_numbers() {
        assert_eq!(parse("2.36"), Some((2, 36)));
        assert_eq!(parse("2.36.9000"), Some((2, 36)));
        assert_eq!((parse("2"), parse("x.y")), (None, None));
        assert!(KNOWN.contains(&(2, 43)) && !KNOWN.contains(&(2, 27)) && !KNOWN.contains(&(3, 0)));
    }
}
