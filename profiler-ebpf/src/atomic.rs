//! Atomic addition. The BPF target of rustc has no compare-and-swap and so no `fetch_add`; the instruction set has
//! one since cpu v3 (kernel 5.12).

use core::arch::asm;

/// Adds to an aligned u64 in a map value, atomically; gives the value before.
///
/// # Safety
/// `field` points to an aligned u64 in a map value.
#[inline(always)]
pub unsafe fn add(field: *mut u64, value: u64) -> u64 {
    let before: u64;
    // SAFETY: by the caller; the verifier checks the access as it does any other.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({field} + 0), {value})",
            field = in(reg) field,
            value = inout(reg) value => before,
        );
    }
    before
}
