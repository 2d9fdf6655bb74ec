//! Sites in hand-assembled functions and in the libraries of this process.

use super::*;
use crate::process::{Pid, maps};

const NEW: SiteRules = SiteRules::for_kernel(6, 18);
const OLD: SiteRules = SiteRules::for_kernel(6, 12);
const ENTRY: u64 = 0x1000;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const TEST_RDI: [u8; 3] = [0x48, 0x85, 0xff];
const JE_8: [u8; 2] = [0x74, 0x08];
const PUSH_RBX: [u8; 1] = [0x53];
const RET: [u8; 1] = [0xc3];
const MOV_RBX_RDI: [u8; 3] = [0x48, 0x89, 0xfb];
const XOR_EDI: [u8; 2] = [0x31, 0xff];
const SPILL_RDI: [u8; 5] = [0x48, 0x89, 0x7c, 0x24, 0xf8];

fn choose(function: Function, parts: &[&[u8]], rules: SiteRules) -> Result<Site, NoSite> {
    let bytes = parts.concat();
    Sites::in_code(Code::of_bytes(ENTRY, 0x400, &bytes), rules).choose(function, ENTRY)
}

#[track_caller]
fn check(function: Function, parts: &[&[u8]], distance: u64, class: SiteClass) -> Site {
    let site = choose(function, parts, NEW).unwrap();
    assert_eq!((site.distance(), site.class()), (distance, class));
    assert_eq!(site.file_offset(), 0x400 + distance);
    site
}

#[test]
fn takes_the_first_emulated_instruction_of_the_straight_line() {
    let site = check(Function::Free, &[&TEST_RDI, &JE_8, &PUSH_RBX, &RET], 3, SiteClass::Emulated);
    assert_eq!((site.arguments()[0], site.pushed()), (Register::Rdi, 0));
    check(Function::Malloc, &[&PUSH_RBX, &JE_8, &RET], 0, SiteClass::Emulated);
}

#[test]
fn leaves_the_landing_pad_alone() {
    check(Function::Malloc, &[&ENDBR64, &TEST_RDI, &JE_8, &RET], 7, SiteClass::Emulated);
    check(Function::Malloc, &[&ENDBR64, &TEST_RDI, &RET], 4, SiteClass::SingleStepped);
}

#[test]
fn takes_a_nop_where_the_kernel_has_learnt_to() {
    let nop5: &[u8] = &[0x0f, 0x1f, 0x44, 0, 0];
    let nop4: &[u8] = &[0x0f, 0x1f, 0x40, 0];
    check(Function::Malloc, &[&ENDBR64, nop5, &PUSH_RBX, &RET], 4, SiteClass::Optimised);
    check(Function::Malloc, &[&TEST_RDI, nop4, &PUSH_RBX, &RET], 7, SiteClass::Emulated);
    check(Function::Malloc, &[&TEST_RDI, nop4, &RET], 3, SiteClass::Emulated);
    let site = choose(Function::Malloc, &[&TEST_RDI, nop4, &RET], OLD).unwrap();
    assert_eq!((site.distance(), site.class()), (0, SiteClass::SingleStepped));
    let site = choose(Function::Malloc, &[&ENDBR64, nop5, &PUSH_RBX, &RET], OLD).unwrap();
    assert_eq!((site.distance(), site.class()), (9, SiteClass::Emulated));
}

#[test]
fn follows_an_argument_into_its_copy() {
    let site = check(Function::Malloc, &[&MOV_RBX_RDI, &XOR_EDI, &JE_8, &RET], 5, SiteClass::Emulated);
    assert_eq!(site.arguments()[0], Register::Rbx);
    let mov_ebx_edi: &[u8] = &[0x89, 0xfb];
    check(Function::Malloc, &[mov_ebx_edi, &XOR_EDI, &JE_8, &RET], 0, SiteClass::SingleStepped);
}

#[test]
fn stops_believing_in_a_spilled_argument() {
    check(Function::Malloc, &[&SPILL_RDI, &XOR_EDI, &JE_8, &RET], 0, SiteClass::SingleStepped);
    check(Function::PoolOpen, &[&SPILL_RDI, &XOR_EDI, &JE_8, &RET], 7, SiteClass::Emulated);
}

#[test]
fn avoids_a_line_that_is_branched_into() {
    // The jump at the end leads back to the je: a probe there would be hit twice.
    let back: &[u8] = &[0xeb, 0xf9];
    check(Function::Malloc, &[&TEST_RDI, &JE_8, &TEST_RDI, back], 0, SiteClass::SingleStepped);
    let before: &[u8] = &[0xeb, 0xf6];
    check(Function::Malloc, &[&TEST_RDI, &JE_8, &TEST_RDI, before], 3, SiteClass::Emulated);
}

#[test]
fn never_returns_from_behind_a_push() {
    let sub_rsp: &[u8] = &[0x48, 0x83, 0xec, 0x18];
    let add_rsp: &[u8] = &[0x48, 0x83, 0xc4, 0x18];
    check(Function::Malloc, &[sub_rsp, &TEST_RDI, &JE_8, &RET], 0, SiteClass::SingleStepped);
    check(Function::Malloc, &[sub_rsp, add_rsp, &JE_8, &RET], 0, SiteClass::SingleStepped);
    let site = check(Function::Free, &[sub_rsp, &TEST_RDI, &JE_8, &RET], 7, SiteClass::Emulated);
    assert_eq!((site.pushed(), ReturnSite::new(site)), (0x18, None));
    let site = check(Function::Free, &[sub_rsp, add_rsp, &JE_8, &RET], 8, SiteClass::Emulated);
    assert_eq!(site.pushed(), 0);
}

#[test]
fn does_not_look_past_a_stack_pointer_it_cannot_follow() {
    let and_rsp: &[u8] = &[0x48, 0x83, 0xe4, 0xf0];
    check(Function::Free, &[and_rsp, &JE_8, &RET], 0, SiteClass::SingleStepped);
}

#[test]
fn says_where_there_is_no_site() {
    let code = [0xcc; 8];
    let sites = Sites::in_code(Code::of_bytes(ENTRY, 0, &code), NEW);
    assert_eq!(sites.choose(Function::Free, ENTRY), Err(NoSite::NoInstruction(ENTRY)));
    assert_eq!(sites.choose(Function::Free, 0x10), Err(NoSite::NotCode(0x10)));
    assert_eq!(sites.choose(Function::Free, ENTRY + 8), Err(NoSite::NotCode(ENTRY + 8)));
}

proptest::proptest! {
    #[test]
    fn whatever_the_bytes_are_a_return_site_is_before_the_first_push(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        entry in proptest::prelude::any::<u64>(),
        role in 1u8..=11,
    ) {
        let function = Function::from_u8(role).unwrap();
        let sites = Sites::in_code(Code::of_bytes(entry, u64::MAX - 20, &bytes), OLD);
        if let Ok(placement) = sites.place(function, entry) {
            assert!(!placement.wants_return() || placement.site().pushed() == 0);
            assert!(placement.site().distance() < bytes.len() as u64);
        }
    }
}

fn libc() -> Image {
    let pid = Pid(std::process::id());
    let images = Image::all(pid, &maps::read(pid).unwrap());
    images.into_iter().find(|image| image.file_name().starts_with("libc.so")).unwrap()
}

/// Every export of the C library, in every role: no panic, and what may return does so from rsp at entry.
#[test]
fn every_export_of_the_c_library_gets_a_safe_site_or_a_reason() {
    let libc = libc();
    let sites = Sites::new(&libc, NEW);
    let mut placed = 0;
    for (_, symbol) in libc.exports() {
        for function in (1..=11).filter_map(Function::from_u8) {
            let Ok(placement) = sites.place(function, symbol.vaddr) else {
                continue;
            };
            placed += 1;
            assert_eq!(placement.wants_return(), function.needs_return());
            assert!(!placement.wants_return() || placement.site().pushed() == 0);
            assert!(starts_instruction(&libc, symbol.vaddr, placement.site().vaddr()));
        }
    }
    assert!(placed > 10_000, "{placed}");
}

/// Whether decoding from a function's entry meets an instruction that starts at `vaddr`.
fn starts_instruction(image: &Image, entry: u64, vaddr: u64) -> bool {
    let bytes = image.bytes_at(entry).unwrap();
    let bytes = bytes.get(..MAX_LINE).unwrap_or(bytes);
    Decoder::with_ip(64, bytes, entry, DecoderOptions::NONE).iter().any(|instruction| instruction.ip() == vaddr)
}
