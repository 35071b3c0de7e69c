//! What differs between machines: a thread's own words, its registers, and how a rule for walking is packed.

use std::arch::{asm, global_asm};

use gimli::Register;

/// Where a walk begins.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    /// The instruction.
    pub(super) ip: usize,
    pub(super) sp: usize,
    /// The frame pointer, whatever the program keeps in it.
    pub(super) fp: usize,
    /// The link register, where there is one.
    pub(super) link: usize,
}

macro_rules! symbol {
    () => {
        concat!(
            "alloc_ladder_thread_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH")
        )
    };
}

// Stable rustc cannot be told to use the initial-exec model for a thread-local of a library. Its own model calls
// `__tls_get_addr`, which may allocate: from a hook of `malloc` that would never end.
global_asm!(
    concat!(".section .tbss.", symbol!(), ",\"awT\",%nobits"),
    ".balign 64",
    concat!(".hidden ", symbol!()),
    concat!(".globl ", symbol!()),
    concat!(".type ", symbol!(), ",%object"),
    concat!(".size ", symbol!(), ",64"),
    concat!(symbol!(), ":"),
    ".zero 64",
    ".text",
);

/// Bytes of a thread's own words.
pub(super) const THREAD_BYTES: usize = 64;

/// Where this thread's own words lie: so many bytes, zeroed when the thread begins.
#[inline(always)]
pub(super) fn thread_words() -> *const u8 {
    let at: *const u8;
    // SAFETY: reads the thread's register and a constant of the linker's.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            concat!("mov {0}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
            "add {0}, qword ptr fs:[0]",
            out(reg) at,
            options(pure, readonly, nostack)
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "mrs {1}, tpidr_el0",
            concat!("adrp {0}, :gottprel:", symbol!()),
            concat!("ldr {0}, [{0}, #:gottprel_lo12:", symbol!(), "]"),
            "add {0}, {0}, {1}",
            out(reg) at,
            out(reg) _,
            options(pure, readonly, nostack)
        );
    }
    at
}

/// Where the calling function stands.
#[inline(always)]
pub(super) fn registers() -> Registers {
    let (ip, sp, fp): (usize, usize, usize);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads registers.
    unsafe {
        asm!("lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp", out(reg) ip, out(reg) sp, out(reg) fp, options(nostack, nomem));
        Registers { ip, sp, fp, link: 0 }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads registers.
    unsafe {
        let link: usize;
        asm!(
            "adr {0}, .", "mov {1}, sp", "mov {2}, x29", "mov {3}, x30",
            out(reg) ip, out(reg) sp, out(reg) fp, out(reg) link,
            options(nostack, nomem)
        );
        Registers { ip, sp, fp, link }
    }
}

/// The thread's control block, which the C libraries put at the top of the stacks they make.
pub(super) fn control_block() -> usize {
    let at: usize;
    // SAFETY: reads the thread's register.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, qword ptr fs:[0]", out(reg) at, options(pure, readonly, nostack));
        #[cfg(target_arch = "aarch64")]
        asm!("mrs {}, tpidr_el0", out(reg) at, options(pure, nomem, nostack));
    }
    at
}

/// As ELF numbers it.
#[cfg(target_arch = "x86_64")]
pub(super) const MACHINE: u32 = 62;
/// As ELF numbers it.
#[cfg(target_arch = "aarch64")]
pub(super) const MACHINE: u32 = 183;

/// How many bits of a rule, and of what unit, each of its parts takes. All 64 bits are used: 2 are the rule's kind.
pub(super) mod bits {
    /// Bytes between instructions, as a power of two.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const INSTRUCTION: u32 = 0;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const INSTRUCTION: u32 = 2;
    /// Bits of an address of a program.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const ADDRESS: u32 = 47;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const ADDRESS: u32 = 48;
    /// From the register to the canonical frame address, in units of [`CFA_UNIT`].
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const CFA: u32 = 16;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const CFA: u32 = 12;
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const CFA_UNIT: i64 = 8;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const CFA_UNIT: i64 = 16;
    /// From the canonical frame address down to the saved frame pointer, in words.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const FP: u32 = 15;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const FP: u32 = 10;
    /// The same of the return address. On x86-64 that is always one word.
    #[cfg(target_arch = "x86_64")]
    pub(in super::super) const RETURN: u32 = 0;
    #[cfg(target_arch = "aarch64")]
    pub(in super::super) const RETURN: u32 = 10;
}

/// The stack pointer, the frame pointer and the return address, as DWARF numbers them.
#[cfg(target_arch = "x86_64")]
pub(super) const DWARF: (Register, Register, Register) = (gimli::X86_64::RSP, gimli::X86_64::RBP, gimli::X86_64::RA);
#[cfg(target_arch = "aarch64")]
pub(super) const DWARF: (Register, Register, Register) = (gimli::AArch64::SP, gimli::AArch64::X29, gimli::AArch64::X30);

/// A return address without the signature that pointer authentication puts into its upper bits.
#[inline(always)]
pub(super) fn plain(address: usize) -> usize {
    if cfg!(target_arch = "aarch64") { address & ((1 << bits::ADDRESS) - 1) } else { address }
}
