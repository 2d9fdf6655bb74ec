//! The order in which the dynamic loader looks for symbols: its list of loaded files, read from the target.

use object::Endianness;
use object::elf::PT_DYNAMIC;
use object::read::elf::{ElfFile64, ProgramHeader as _};

use super::image::Image;
use super::memory::Memory;

/// Entries of a dynamic section that are looked at; a real one has about thirty.
const MAX_DYNAMIC: u64 = 256;

/// Files in the list that are looked at: a guard against a list that is broken or has a cycle.
const MAX_LOADED: usize = 4096;

/// Tag of the dynamic entry where the loader leaves the address of its `r_debug` (elf.h).
const DT_DEBUG: u64 = 21;

/// Offsets in `struct r_debug` and `struct link_map`, 64-bit (link.h: a public interface for debuggers).
const R_DEBUG_MAP: u64 = 8;
const LINK_MAP_DYNAMIC: u64 = 16;
const LINK_MAP_NEXT: u64 = 24;

/// Indices into `images` in the order in which the loader resolves symbols: the executable first, then what was
/// preloaded, then what was needed, then what was opened later.
///
/// Where the loader's list cannot be read (a static program, or one just executed), the executable, then the others
/// by address with the C library and the loader last.
pub fn resolution_order(memory: &impl Memory, images: &[Image], executable: Option<usize>) -> Vec<usize> {
    let order = first_link(memory, images, executable).map(|first| follow(memory, images, first));
    match order {
        Some(order) if !order.is_empty() => order,
        _ => guessed_order(images, executable),
    }
}

/// The address of the first `struct link_map`.
fn first_link(memory: &impl Memory, images: &[Image], executable: Option<usize>) -> Option<u64> {
    let by_executable = executable.and_then(|index| images.get(index)).and_then(|image| debug_address(memory, image));
    // A program started as an argument of the loader is not the process's executable; glibc's loader exports the list.
    let by_loader = || images.iter().find_map(|image| image.address_of("_r_debug"));
    let debug = by_executable.or_else(by_loader)?;
    memory.u64(debug.wrapping_add(R_DEBUG_MAP)).ok().filter(|&first| first != 0)
}

/// What the loader wrote to the executable's `DT_DEBUG` entry.
fn debug_address(memory: &impl Memory, image: &Image) -> Option<u64> {
    let elf = ElfFile64::<Endianness>::parse(&*image.data).ok()?;
    let endian = Endianness::Little;
    let header = elf.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_DYNAMIC)?;
    let start = image.bias.wrapping_add(header.p_vaddr(endian));
    let entries = (header.p_memsz(endian) / 16).min(MAX_DYNAMIC);
    (0..entries)
        .map(|index| start.wrapping_add(index * 16))
        .find(|&entry| memory.u64(entry).is_ok_and(|tag| tag == DT_DEBUG))
        .and_then(|entry| memory.u64(entry.wrapping_add(8)).ok())
        .filter(|&address| address != 0)
}

/// Follows the list; a file that is none of the images (the vdso, an unreadable one) is left out.
fn follow(memory: &impl Memory, images: &[Image], first: u64) -> Vec<usize> {
    let mut order = Vec::new();
    let mut link = first;
    for _ in 0..MAX_LOADED {
        let Ok(dynamic) = memory.u64(link.wrapping_add(LINK_MAP_DYNAMIC)) else {
            break;
        };
        let index = images.iter().position(|image| image.vaddr_of(dynamic).is_some());
        order.extend(index.filter(|index| !order.contains(index)));
        match memory.u64(link.wrapping_add(LINK_MAP_NEXT)) {
            Ok(next) if next != 0 => link = next,
            _ => break,
        }
    }
    order
}

fn guessed_order(images: &[Image], executable: Option<usize>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by_key(|&index| {
        let name = images.get(index).map(Image::file_name).unwrap_or_default();
        match name {
            _ if Some(index) == executable => 0,
            _ if name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-musl") => 2,
            _ if name.starts_with("ld-") || name.starts_with("ld.so") => 3,
            _ => 1,
        }
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::memory::ProcessMemory;
    use crate::process::{Pid, maps};

    #[test]
    fn reads_the_order_of_this_process() {
        let pid = Pid(std::process::id());
        let images = Image::all(pid, &maps::read(pid).unwrap());
        let own = std::env::current_exe().unwrap();
        let executable = images.iter().position(|image| image.path == own);
        assert!(executable.is_some());
        let memory = ProcessMemory::open(pid).unwrap();
        let order = resolution_order(&memory, &images, executable);
        let names: Vec<&str> = order.iter().map(|&index| images[index].file_name()).collect();
        assert_eq!(order.first().copied(), executable, "{names:?}");
        let place = |prefix: &str| names.iter().position(|name| name.starts_with(prefix));
        assert!(place("libc.so").unwrap() < place("ld-").unwrap(), "{names:?}");
        assert_ne!(first_link(&memory, &images, executable), None);
        assert_eq!(resolution_order(&memory, &images, None), order, "by the loader's own symbol");
    }

    #[test]
    fn guesses_the_c_library_last() {
        struct Nothing;
        impl Memory for Nothing {
            fn read(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
                Err(std::io::ErrorKind::InvalidInput.into())
            }
        }
        let pid = Pid(std::process::id());
        let images = Image::all(pid, &maps::read(pid).unwrap());
        let order = resolution_order(&Nothing, &images, Some(0));
        let names: Vec<&str> = order.iter().map(|&index| images[index].file_name()).collect();
        assert_eq!(order.len(), images.len());
        assert!(names[names.len() - 2].starts_with("libc.so"), "{names:?}");
        assert!(names[names.len() - 1].starts_with("ld-"), "{names:?}");
    }
}
