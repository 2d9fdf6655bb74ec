//! Which functions of a process are probed, in which files, and where in them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use profiler_common::probe::{Cookie, Function};

use super::site::{NoSite, Placement, SiteRules, Sites};
use crate::process::image::{Held, Image};
use crate::process::link_map;
use crate::process::maps::Region;
use crate::process::memory::Memory;
use crate::python::allocators::{Hooks, Interpreter};

mod objects;

pub use objects::{Objects, SmallObjects};

/// The C allocator's functions. Names of one address are attached once, under the first name.
const C_ALLOCATOR: [(&str, Function); 11] = [
    ("malloc", Function::Malloc),
    ("calloc", Function::Calloc),
    ("realloc", Function::Realloc),
    ("reallocarray", Function::Reallocarray),
    ("posix_memalign", Function::PosixMemalign),
    ("aligned_alloc", Function::AlignedAlloc),
    ("memalign", Function::AlignedAlloc),
    ("valloc", Function::Malloc),
    ("pvalloc", Function::Malloc),
    ("free", Function::Free),
    // glibc keeps it for programs linked before 2017.
    ("cfree", Function::Free),
];

/// The functions without which there is nothing to observe.
const REQUIRED: [&str; 2] = ["malloc", "free"];

/// The functions whose absence is not worth a note.
const OBSOLETE: [&str; 3] = ["valloc", "pvalloc", "cfree"];

/// `operator new(size_t)`: allocators that replace malloc bring their own, which does not call their malloc.
const OPERATOR_NEW: &str = "_Znwm";

/// One probe: a function of a file, and the instruction the probe stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    /// The role.
    pub function: Function,
    /// The function's name.
    pub name: String,
    /// The file as the target sees it: for people.
    pub image_path: PathBuf,
    /// The file, to be opened here.
    pub openable: Held,
    /// Address minus vaddr where the target maps it.
    pub bias: u64,
    /// Where in the file, and whether the return is probed.
    pub placement: Placement,
    /// What the kernel side is told.
    pub cookie: Cookie,
    /// The instruction at the site, in Intel's syntax.
    pub instruction: String,
}

impl ProbePoint {
    /// Offset of the site in the file, bytes: what the kernel is given.
    pub const fn file_offset(&self) -> u64 {
        self.placement.site().file_offset()
    }

    /// Address of the site in the target.
    pub const fn address(&self) -> u64 {
        self.bias.wrapping_add(self.placement.site().vaddr())
    }

    /// Whether a probe is in the target's memory: the kernel writes `int3` there, or a `call` in place of a long `nop`
    /// (Linux 6.18); no site is one of these itself.
    pub fn is_in_place(&self, memory: &dyn Memory) -> bool {
        const INT3: u8 = 0xcc;
        const CALL: u8 = 0xe8;
        let mut byte = [0];
        // A process that has gone is none of ours any more.
        memory.read(self.address(), &mut byte).is_err() || [INT3, CALL].contains(&byte[0])
    }

    /// The same probe on the function's first byte: only to measure what that costs.
    pub fn at_entry(&self) -> Self {
        let placement = self.placement.at_entry();
        Self { placement, cookie: placement.cookie(self.function), ..self.clone() }
    }

    /// Whether the function's return is probed.
    pub const fn wants_return(&self) -> bool {
        self.placement.wants_return()
    }
}

/// The probes of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// By file, and in a file by offset: one uprobe_multi link covers one file.
    pub points: Vec<ProbePoint>,
    /// What is not probed and why, a sentence each.
    pub notes: Vec<String>,
    /// How small objects are seen.
    pub objects: Objects,
}

impl ProbePlan {
    /// The points of each file.
    pub fn by_file(&self) -> impl Iterator<Item = &[ProbePoint]> {
        self.points.chunk_by(|one, other| one.openable == other.openable)
    }
}

/// No allocator can be observed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAllocator {
    /// A static program without symbols, or one whose libraries are not loaded yet.
    #[error(
        "no file mapped into the process exports malloc and free: a statically linked program without symbols, or one \
         that is still being loaded; try again when it has started"
    )]
    NotExported,
    /// The function is there, but no probe can stand in it.
    #[error("cannot probe {name} of {}: {reason}", path.display())]
    NoSite {
        /// The function.
        name: &'static str,
        /// The file as the target sees it.
        path: PathBuf,
        /// Why.
        reason: NoSite,
    },
    /// An indirect function: which code stands for it is known to the loader only.
    #[error("cannot probe {name} of {}: it is an indirect function (ifunc)", path.display())]
    Indirect {
        /// The function.
        name: &'static str,
        /// The file as the target sees it.
        path: PathBuf,
    },
}

/// What a plan is made of.
#[derive(Debug)]
pub struct Target<'a, M> {
    /// The process's memory.
    pub memory: &'a M,
    /// Its mappings, in address order.
    pub regions: &'a [Region],
    /// Its files mapped executable, as [`Image::all`] gives them.
    pub images: &'a [Image],
    /// Which of them is the executable.
    pub executable: Option<usize>,
}

/// The interpreter of a process, as far as probes go.
#[derive(Clone, Copy, Debug)]
pub struct Python<'a> {
    /// The interpreter.
    pub interpreter: Interpreter<'a>,
    /// Address of `code_dealloc` in the target: `PyCode_Type.tp_dealloc`.
    pub code_dealloc: Option<u64>,
    /// Every small object is to be seen.
    pub exact_objects: bool,
}

impl ProbePlan {
    /// Everything that is probed in a process whose libraries are loaded.
    pub fn for_process<M: Memory>(
        target: &Target<'_, M>,
        python: Option<&Python<'_>>,
        rules: SiteRules,
    ) -> Result<Self, NoAllocator> {
        let order = link_map::resolution_order(target.memory, target.images, target.executable);
        let mut planner = Planner::new(target.images, rules);
        planner.c_allocator(&order)?;
        if let Some(python) = python {
            planner.objects(python, target);
            planner.code_dealloc(python.code_dealloc);
        }
        planner.exits(&order);
        Ok(planner.finish())
    }

    /// The probe that tells when the loader is done with a program just executed.
    pub fn for_entry(images: &[Image], executable: usize, rules: SiteRules) -> Self {
        let mut planner = Planner::new(images, rules);
        if let Some(image) = images.get(executable) {
            planner.optional(executable, Function::Entry, "entry point", image.entry);
        }
        planner.finish()
    }
}

/// Collects probes; the code of each file is swept at most once.
struct Planner<'a> {
    images: &'a [Image],
    sites: Vec<Sites<'a>>,
    /// By index of the image.
    held: HashMap<usize, Held>,
    points: Vec<ProbePoint>,
    notes: Vec<String>,
    objects: Objects,
}

impl<'a> Planner<'a> {
    fn new(images: &'a [Image], rules: SiteRules) -> Self {
        Self {
            images,
            sites: images.iter().map(|image| Sites::new(image, rules)).collect(),
            held: HashMap::new(),
            points: Vec::new(),
            notes: Vec::new(),
            objects: Objects::default(),
        }
    }

    /// The functions of the first file that exports malloc and free: what every call from another file is bound to.
    fn c_allocator(&mut self, order: &[usize]) -> Result<(), NoAllocator> {
        let all = self.images;
        let images = || order.iter().filter_map(|&index| Some((index, all.get(index)?)));
        let exports_all = |image: &Image| REQUIRED.iter().all(|name| image.export(name).is_some());
        let (index, provider) = images().find(|(_, image)| exports_all(image)).ok_or(NoAllocator::NotExported)?;
        for (name, function) in C_ALLOCATOR {
            if provider.export(name).is_some() {
                self.c_function(index, provider, name, function)?;
            } else if let Some((_, other)) = images().find(|(_, image)| image.export(name).is_some())
                && !OBSOLETE.contains(&name)
            {
                self.notes.push(format!(
                    "{} does not export {name}: calls of {}'s are counted only where they lead back to {}",
                    provider.file_name(),
                    other.file_name(),
                    provider.file_name(),
                ));
            }
        }
        // A return probe there would break the exception it throws when memory is short.
        if provider.export(OPERATOR_NEW).is_some() {
            self.notes.push(format!("{}'s C++ operator new is not observed", provider.file_name()));
        }
        Ok(())
    }

    fn c_function(
        &mut self,
        index: usize,
        provider: &Image,
        name: &'static str,
        function: Function,
    ) -> Result<(), NoAllocator> {
        let Some(symbol) = provider.export(name) else {
            return Ok(());
        };
        let path = || provider.path.clone();
        let error = match symbol.indirect {
            true => NoAllocator::Indirect { name, path: path() },
            false => match self.add(index, function, name, symbol.vaddr, 0) {
                Ok(()) => return Ok(()),
                Err(reason) => NoAllocator::NoSite { name, path: path(), reason },
            },
        };
        if REQUIRED.contains(&name) {
            return Err(error);
        }
        self.notes.push(error.to_string());
        Ok(())
    }

    fn code_dealloc(&mut self, address: Option<u64>) {
        if let Some(address) = address {
            self.at_address(Function::CodeDealloc, "code_dealloc", address, 0);
        }
    }

    /// The ways to the process's exit: the interpreter's, which still has its objects, and the C library's, which
    /// `os._exit` takes. Each the first of its name. `sys.exit` ends in `Py_Exit`, which calls `Py_FinalizeEx` up to
    /// 3.12 and a function of its own from 3.13 on; so does `Py_Finalize`, which programs that embed Python call (uwsgi).
    fn exits(&mut self, order: &[usize]) {
        let images = self.images;
        for name in ["Py_FinalizeEx", "Py_Finalize", "Py_Exit", "_exit"] {
            let found = order.iter().find_map(|&index| Some((index, images.get(index)?.export(name)?.vaddr)));
            if let Some((index, vaddr)) = found {
                self.optional(index, Function::Exit, name, vaddr);
            }
        }
    }

    fn at_address(&mut self, function: Function, name: &str, address: u64, leading: u8) {
        let found = self
            .images
            .iter()
            .enumerate()
            .find_map(|(index, image)| image.is_code(address).then(|| Some((index, image.vaddr_of(address)?)))?);
        match found {
            Some((index, vaddr)) => self.optional_after(index, function, name, vaddr, leading),
            None => self.notes.push(format!("cannot probe {name}: no file is mapped at {address:#x}")),
        }
    }

    /// Adds a probe, or a note where none can stand.
    fn optional(&mut self, index: usize, function: Function, name: &str, vaddr: u64) {
        self.optional_after(index, function, name, vaddr, 0);
    }

    fn optional_after(&mut self, index: usize, function: Function, name: &str, vaddr: u64, leading: u8) {
        if let Err(reason) = self.add(index, function, name, vaddr, leading) {
            let file = self.images.get(index).map(Image::file_name).unwrap_or_default();
            self.notes.push(format!("cannot probe {name} of {file}: {reason}"));
        }
    }

    /// Adds a probe, unless the same code is probed already under another name.
    fn add(&mut self, index: usize, function: Function, name: &str, vaddr: u64, leading: u8) -> Result<(), NoSite> {
        let (Some(image), Some(sites)) = (self.images.get(index), self.sites.get(index)) else {
            return Err(NoSite::NotCode(vaddr));
        };
        let placement = sites.place_after(function, vaddr, leading)?;
        let site = placement.site();
        let openable = match self.held.entry(index) {
            Entry::Occupied(held) => held.get().clone(),
            Entry::Vacant(none) => {
                none.insert(Held::open(&image.openable).map_err(|error| NoSite::Unreadable(error.kind()))?).clone()
            }
        };
        let taken = |point: &&ProbePoint| point.openable == openable && point.file_offset() == site.file_offset();
        match self.points.iter().find(taken) {
            Some(point) if point.function == function => {}
            // One site has one cookie: two roles there cannot be told apart.
            Some(point) => self.notes.push(format!(
                "{name} of {} is the same code as {} and is counted as that",
                image.file_name(),
                point.name
            )),
            None => self.points.push(ProbePoint {
                function,
                name: name.to_owned(),
                image_path: image.path.clone(),
                openable,
                bias: image.bias,
                placement,
                cookie: placement.cookie(function),
                instruction: sites.instruction_text(site.vaddr()).unwrap_or_default(),
            }),
        }
        Ok(())
    }

    fn finish(mut self) -> ProbePlan {
        let probed = self.images.iter().enumerate().filter(|(index, _)| self.held.contains_key(index));
        self.notes.extend(probed.filter(|(_, image)| image.deleted).map(|(_, image)| {
            format!(
                "{} was deleted or replaced after the process loaded it; what it loaded is observed",
                image.path.display()
            )
        }));
        self.points.sort_by(|one, other| {
            (one.openable.path(), one.file_offset()).cmp(&(other.openable.path(), other.file_offset()))
        });
        ProbePlan { points: self.points, notes: self.notes, objects: self.objects }
    }
}

fn hooks_note(hooks: Hooks, images: &[Image]) -> Option<String> {
    match hooks {
        Hooks::None => None,
        Hooks::Interpreter => Some(
            "allocator hooks of python are on (PYTHONMALLOC=debug, -X dev or tracemalloc): blocks are larger than without"
                .to_owned(),
        ),
        Hooks::Foreign(address) => {
            let file = images.iter().find(|image| image.is_code(address));
            let name = file.map_or("unknown code", Image::file_name);
            Some(format!("python's allocator is replaced or hooked by {name}"))
        }
    }
}

#[cfg(test)]
mod tests;
