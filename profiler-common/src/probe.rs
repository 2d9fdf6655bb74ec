//! What a probe is attached to, told to the program by the link's cookie.

/// The probed function's role. The value travels in the attach cookie.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// `malloc(size)`, `valloc(size)`, `pvalloc(size)`: argument 0 is the size.
    Malloc = 1,
    /// `calloc(count, size)`.
    Calloc = 2,
    /// `realloc(pointer, size)`.
    Realloc = 3,
    /// `reallocarray(pointer, count, size)`.
    Reallocarray = 4,
    /// `posix_memalign(out, alignment, size)`: the block's address is stored at `out`.
    PosixMemalign = 5,
    /// `aligned_alloc(alignment, size)`, `memalign(alignment, size)`.
    AlignedAlloc = 6,
    /// `free(pointer)`.
    Free = 7,
    /// pymalloc's `allocate_from_new_pool`: returns the first block of a newly opened pool.
    PoolOpen = 8,
    /// `code_dealloc(code)`: a code object dies, its address may be used again.
    CodeDealloc = 9,
    /// A function that leads to the process's exit (`Py_FinalizeEx`, `Py_Exit`, `_exit`).
    Exit = 10,
    /// The program's entry point: every library it was linked with is mapped, `main` has not run.
    Entry = 11,
}

impl Function {
    /// Whether the block's address or size is known only when the function returns.
    pub const fn needs_return(self) -> bool {
        !matches!(self, Self::Free | Self::CodeDealloc | Self::Exit | Self::Entry)
    }

    /// Whether it hands out memory or takes it back.
    pub const fn allocates(self) -> bool {
        !matches!(self, Self::CodeDealloc | Self::Exit | Self::Entry)
    }

    /// How many of its arguments, from the first on, the probe reads at the site.
    pub const fn arguments(self) -> u8 {
        match self {
            Self::PoolOpen | Self::Exit | Self::Entry => 0,
            Self::Malloc | Self::Free | Self::CodeDealloc => 1,
            Self::Calloc | Self::Realloc | Self::AlignedAlloc => 2,
            Self::Reallocarray | Self::PosixMemalign => 3,
        }
    }

    /// The inverse of `as u8`.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Malloc,
            2 => Self::Calloc,
            3 => Self::Realloc,
            4 => Self::Reallocarray,
            5 => Self::PosixMemalign,
            6 => Self::AlignedAlloc,
            7 => Self::Free,
            8 => Self::PoolOpen,
            9 => Self::CodeDealloc,
            10 => Self::Exit,
            11 => Self::Entry,
            _ => return None,
        })
    }
}

/// A general purpose register of x86-64 that may hold an argument at the probe's site.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the registers' own names")]
pub enum Register {
    Rdi = 0,
    Rsi = 1,
    Rdx = 2,
    Rcx = 3,
    R8 = 4,
    R9 = 5,
    Rax = 6,
    Rbx = 7,
    Rbp = 8,
    R10 = 9,
    R11 = 10,
    R12 = 11,
    R13 = 12,
    R14 = 13,
    R15 = 14,
}

/// The attach cookie: function (bits 0..8), the registers of up to three arguments (8..16, 16..24, 24..32),
/// the bytes pushed since the function's entry (32..48), so that the return address is at `rsp + pushed`, and whether the
/// function is one of pymalloc's (48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Packs a cookie.
    pub const fn new(function: Function, arguments: [Register; 3], pushed: u16) -> Self {
        Self(
            function as u64
                | (arguments[0] as u64) << 8
                | (arguments[1] as u64) << 16
                | (arguments[2] as u64) << 24
                | (pushed as u64) << 32,
        )
    }

    /// The function's number: compare with `Function::X as u8`.
    pub const fn function(self) -> u8 {
        self.0 as u8
    }

    /// The number of the register that holds argument `index` (0..3) at the site.
    pub const fn register(self, index: u32) -> u8 {
        (self.0 >> (8 + 8 * index)) as u8
    }

    /// The same, of a function of pymalloc's: small blocks come from its arenas, others from the C library.
    pub const fn with_objects(self) -> Self {
        Self(self.0 | 1 << 48)
    }

    /// Whether the function is one of pymalloc's.
    pub const fn is_of_objects(self) -> bool {
        self.0 >> 48 & 1 != 0
    }

    /// Bytes between rsp at the site and rsp at the function's entry.
    pub const fn pushed(self) -> u64 {
        (self.0 >> 32) & 0xffff
    }
}
