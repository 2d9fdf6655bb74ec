//! Names of native frames, from the symbol tables of the mapped files.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use crate::unwind::{NativeFile, Unwinder};

/// Why a native frame has no function name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoName {
    /// The address is in no mapped file that is known: generated code, the vdso, or a library opened a moment ago.
    NotInAFile,
    /// The file has no symbol there: it is stripped, or the function is not exported.
    NoSymbol,
    /// The file cannot be read.
    Unreadable(String),
}

/// A native frame's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeName {
    /// The function, demangled, without the suffixes that compilers add.
    pub function: Result<String, NoName>,
    /// The file's name without its folder; empty if there is none.
    pub object: String,
    /// The frame's vaddr in the file (an address in the process where there is no file): where the call returns to.
    pub vaddr: u64,
}

impl fmt::Display for NativeName {
    /// `function`, or `module.so+0x1234`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.function {
            Ok(function) => f.write_str(function),
            Err(NoName::NotInAFile) => write!(f, "{:#x}", self.vaddr),
            Err(_) => write!(f, "{}+{:#x}", self.object, self.vaddr),
        }
    }
}

/// Finds names, each once.
#[derive(Debug)]
pub struct NativeNames {
    symbolizer: Symbolizer,
    known: HashMap<(u32, u64), Arc<NativeName>>,
}

impl Default for NativeNames {
    fn default() -> Self {
        // Symbol tables only: reading the debug information of a large library takes seconds.
        let symbolizer =
            Symbolizer::builder().enable_auto_reload(false).enable_code_info(false).enable_inlined_fns(false).build();
        Self { symbolizer, known: HashMap::new() }
    }
}

impl NativeNames {
    /// The name of the frame with a return address of a process.
    pub fn name(&mut self, unwinder: &Unwinder, slot: u32, address: u64) -> Arc<NativeName> {
        // The call is before its return address, which may lie behind the function's or the mapping's end.
        let Some((file, call)) = unwinder.locate(slot, address.wrapping_sub(1)) else {
            return Arc::new(NativeName { function: Err(NoName::NotInAFile), object: String::new(), vaddr: address });
        };
        if let Some(known) = self.known.get(&(file.id, call)) {
            return known.clone();
        }
        let name = Arc::new(NativeName {
            function: self.function(file, call),
            object: file.file_name().to_owned(),
            vaddr: call.wrapping_add(1),
        });
        self.known.insert((file.id, call), name.clone());
        name
    }

    fn function(&self, file: &NativeFile, vaddr: u64) -> Result<String, NoName> {
        let unreadable = |reason: &dyn fmt::Display| NoName::Unreadable(reason.to_string());
        let path = file.openable().ok_or_else(|| unreadable(&"it could not be opened"))?;
        let mut elf = Elf::new(path);
        elf.debug_syms = false;
        match self.symbolizer.symbolize_single(&Source::Elf(elf), Input::VirtOffset(vaddr)) {
            Ok(Symbolized::Sym(symbol)) => Ok(without_suffix(&symbol.name).to_owned()),
            Ok(Symbolized::Unknown(_)) => Err(NoName::NoSymbol),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

/// Without what GCC and Clang add to the parts and copies of a function: they are the same function to a reader.
fn without_suffix(name: &str) -> &str {
    const SUFFIXES: [&str; 6] = [".cold", ".part.", ".isra.", ".constprop.", ".lto_priv.", ".llvm."];
    let cut = SUFFIXES.iter().filter_map(|suffix| name.find(suffix)).min();
    match cut {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_what_compilers_add() {
        assert_eq!(without_suffix("_PyEval_EvalFrameDefault.cold"), "_PyEval_EvalFrameDefault");
        assert_eq!(without_suffix("new_arena.part.0.isra.0"), "new_arena");
        assert_eq!(without_suffix("core::ptr::drop_in_place"), "core::ptr::drop_in_place");
    }

    #[test]
    fn an_address_outside_every_file_is_shown_as_a_number() {
        let name = NativeNames::default().name(&Unwinder::default(), 0, 0x1234);
        assert_eq!(name.function, Err(NoName::NotInAFile));
        assert_eq!(name.to_string(), "0x1234");
    }
}
