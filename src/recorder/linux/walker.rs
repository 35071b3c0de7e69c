//! Walking the thread's stack by the rules that the compiler wrote for unwinding.
//!
//! Where the caller's frame lies depends on the instruction alone. So a rule is one word, made from `.eh_frame` when an
//! instruction is met for the first time and kept for all threads in a table of 64 K words. Index and tag together are a
//! bijection of the address: what is found under an address is its own rule, and two threads that write one word write
//! valid rules. A stack of 30 frames takes 30 look-ups and some 60 reads.
//!
//! The walk reads nothing but words of its own stack, between the stack pointer and the thread's top. It ends where no
//! rule is known: code without unwinding tables, a frame described by an expression (the procedure linkage table, a
//! signal's frame), the beginning of the thread.

use std::sync::atomic::{AtomicU64, Ordering};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, LittleEndian, Pointer, Register, RegisterRule, UnwindContext,
    UnwindContextStorage, UnwindSection, UnwindTableRow,
};

use super::arch::{self, Registers, bits};
use super::{current, modules, thread};
use crate::recorder::layout::DEPTH;

/// The addresses of a stack, leaf first.
pub(super) type Frames = [u64; DEPTH];

/// A finished walk.
pub(super) struct Walk {
    pub(super) depth: usize,
    /// Of the addresses and of nothing else.
    pub(super) hash: u64,
    /// There were more frames than fit.
    pub(super) cut: bool,
}

/// Stacks are not larger. Where the stack pointer is further from the thread's top, it is on another stack.
const STACK_MAX: usize = 1 << 30;

/// Whether a walk may begin here: on the thread's own stack, not on a signal's or a coroutine's.
#[inline(always)]
pub(super) fn is_own_stack(from: Registers, top: usize) -> bool {
    from.sp < top && top - from.sp <= STACK_MAX
}

#[inline(always)]
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Walks from `from`, which [`is_own_stack`], to the thread's `top`. `read` is told every word that the walk depends on.
#[inline(always)]
pub(super) fn walk(from: Registers, top: usize, frames: &mut Frames, mut read: impl FnMut(usize, u64)) -> Walk {
    let low = from.sp;
    let Registers { ip, mut sp, mut fp, link } = from;
    // Every other address is where a call returns to, and looked up by the instruction before.
    let mut ip = ip + (1 << bits::INSTRUCTION);
    let (mut depth, mut hash) = (0, 0);
    loop {
        let rule = rule(ip);
        let from = match rule.kind() {
            Rule::FROM_SP => sp,
            Rule::FROM_FP => fp,
            _ => break,
        };
        let cfa = from.wrapping_add(rule.cfa());
        if cfa <= sp || cfa > top || !cfa.is_multiple_of(8) {
            break;
        }
        if let Some(down) = rule.fp() {
            let at = cfa - down;
            if at < low {
                break;
            }
            // SAFETY: between the stack pointer and the top of this thread's stack, and aligned.
            let saved = unsafe { *(at as *const u64) };
            fp = saved as usize;
            read(at, saved);
        }
        ip = match rule.return_address() {
            Some(down) => {
                let at = cfa - down;
                if at < low {
                    break;
                }
                // SAFETY: as above.
                let saved = unsafe { *(at as *const u64) };
                read(at, saved);
                arch::plain(saved as usize)
            }
            None if depth == 0 => arch::plain(link),
            None => break,
        };
        sp = cfa;
        if ip < 4096 {
            break;
        }
        if depth == DEPTH {
            return Walk { depth, hash, cut: true };
        }
        frames[depth] = ip as u64;
        hash = mix(hash, ip as u64);
        depth += 1;
    }
    Walk { depth, hash, cut: false }
}

/// The addresses this thread's calls return to, innermost first; how many there are, and whether there were more. The
/// first call may allocate.
#[inline(never)]
pub fn capture(frames: &mut [usize]) -> (usize, bool) {
    modules::start();
    let from = arch::registers();
    let top = thread::thread().top();
    if !is_own_stack(from, top) {
        return (0, false);
    }
    let mut walked = [0; DEPTH];
    let walk = walk(from, top, &mut walked, |_, _| ());
    for (frame, walked) in frames.iter_mut().zip(&walked[..walk.depth]) {
        *frame = *walked as usize;
    }
    (walk.depth.min(frames.len()), walk.cut || walk.depth > frames.len())
}

/// How to get from a frame to its caller's, in a word: `tag | return address | frame pointer | CFA | kind`.
#[derive(Clone, Copy)]
struct Rule(u64);

impl Rule {
    const FROM_SP: u64 = 1;
    const FROM_FP: u64 = 2;
    const END: u64 = 3;

    #[inline(always)]
    fn kind(self) -> u64 {
        self.0 & 3
    }

    /// From the register to the canonical frame address.
    #[inline(always)]
    fn cfa(self) -> usize {
        ((self.0 >> 2) & ((1 << bits::CFA) - 1)) as usize * bits::CFA_UNIT as usize
    }

    /// How far below it the frame pointer is saved; `None` where it is what it was.
    #[inline(always)]
    fn fp(self) -> Option<usize> {
        let words = (self.0 >> (2 + bits::CFA)) & ((1 << bits::FP) - 1);
        (words != 0).then_some(words as usize * 8)
    }

    /// How far below it the return address is saved; `None` where it is in the link register.
    #[inline(always)]
    fn return_address(self) -> Option<usize> {
        if bits::RETURN == 0 {
            return Some(8);
        }
        let words = (self.0 >> (2 + bits::CFA + bits::FP)) & ((1 << bits::RETURN) - 1);
        (words != 0).then_some(words as usize * 8)
    }

    /// The parts packed, without a tag; `None` where one does not fit.
    fn pack(kind: u64, cfa: i64, fp: i64, return_address: i64) -> Option<Rule> {
        let part = |value: i64, unit: i64, bits: u32| {
            (value >= 0 && value % unit == 0 && value / unit < 1 << bits).then_some((value / unit) as u64)
        };
        let cfa = part(cfa, bits::CFA_UNIT, bits::CFA)?;
        let fp = part(fp, 8, bits::FP)?;
        let back = if bits::RETURN == 0 { 0 } else { part(return_address, 8, bits::RETURN)? };
        Some(Rule(kind | cfa << 2 | fp << (2 + bits::CFA) | back << (2 + bits::CFA + bits::FP)))
    }
}

const TABLE_BITS: u32 = 16;
const KEY_BITS: u32 = bits::ADDRESS - bits::INSTRUCTION;
const TAG_BITS: u32 = KEY_BITS - TABLE_BITS;
const _: () = assert!(TAG_BITS + bits::RETURN + bits::FP + bits::CFA + 2 == 64);

static RULES: [AtomicU64; 1 << TABLE_BITS] = [const { AtomicU64::new(0) }; 1 << TABLE_BITS];

/// An address as a place in the table and a tag; no two addresses have both in common.
#[inline(always)]
fn place(ip: usize) -> (usize, u64) {
    // Multiplying by an odd number is a bijection of the numbers below a power of two.
    let key = (ip as u64 >> bits::INSTRUCTION).wrapping_mul(0x9E37_79B9_7F4A_7C15) & ((1 << KEY_BITS) - 1);
    ((key >> TAG_BITS) as usize, key & ((1 << TAG_BITS) - 1))
}

#[inline(always)]
fn rule(ip: usize) -> Rule {
    let (index, tag) = place(ip);
    let found = RULES[index].load(Ordering::Relaxed);
    if found >> (64 - TAG_BITS) == tag && found & 3 != 0 {
        return Rule(found);
    }
    make(ip, index, tag)
}

#[cold]
#[inline(never)]
fn make(ip: usize, index: usize, tag: u64) -> Rule {
    let rule = if ip < 1 << bits::ADDRESS { look_up(ip - 1) } else { None };
    let rule = Rule(rule.map_or(Rule::END, |rule| rule.0) | tag << (64 - TAG_BITS));
    RULES[index].store(rule.0, Ordering::Relaxed);
    rule
}

/// Room for unwinding that is on the stack.
struct OnStack;

impl UnwindContextStorage<usize> for OnStack {
    type Rules = [(Register, RegisterRule<usize>); 40];
    type Stack = [UnwindTableRow<usize, OnStack>; 4];
}

fn look_up(pc: usize) -> Option<Rule> {
    let module = modules::find(pc)?;
    if let Some(recording) = current::recording() {
        modules::note(recording, &module);
    }
    let index_at = module.unwind_index.as_ptr() as u64;
    let bases = BaseAddresses::default().set_eh_frame_hdr(index_at);
    let index = EhFrameHdr::new(module.unwind_index, LittleEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(eh_frame_at) = index.eh_frame_ptr() else { return None };
    let eh_frame = EhFrame::new(module.segment(eh_frame_at as usize)?, LittleEndian);
    let bases = bases.set_eh_frame(eh_frame_at);
    let entry = index.table()?.fde_for_address(&eh_frame, &bases, pc as u64, EhFrame::cie_from_offset).ok()?;
    let mut context = UnwindContext::<usize, OnStack>::new_in();
    let row = entry.unwind_info_for_address(&eh_frame, &bases, &mut context, pc as u64).ok()?;
    let (sp, fp, back) = arch::DWARF;
    let (kind, cfa) = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } if *register == sp => (Rule::FROM_SP, *offset),
        CfaRule::RegisterAndOffset { register, offset } if *register == fp => (Rule::FROM_FP, *offset),
        _ => return None,
    };
    let saved = |register: Register| match row.register(register) {
        Some(RegisterRule::Offset(at)) => Some(-at),
        // The function leaves the register alone.
        None | Some(RegisterRule::SameValue) => Some(0),
        // `Undefined` is how the outermost frame says so.
        _ => None,
    };
    Rule::pack(kind, cfa, saved(fp)?, saved(back)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn deep(levels: usize, frames: &mut [usize]) -> (usize, bool) {
        let taken = if levels == 0 { capture(frames) } else { deep(levels - 1, frames) };
        std::hint::black_box(taken)
    }

    #[test]
    fn the_walk_finds_what_backtrace_finds() {
        modules::start();
        let mut own = [0; DEPTH];
        let (depth, cut) = deep(20, &mut own);
        assert!(depth > 25 && !cut, "{depth}");
        let mut others = Vec::new();
        backtrace::trace(|frame| {
            others.push(frame.ip() as usize);
            true
        });
        // It ends with a frame that is none.
        others.retain(|address| *address != 0);
        // They differ in their innermost frames and in where this function calls them, and agree from its caller on.
        let shared = own[..depth].iter().rev().zip(others.iter().rev()).take_while(|(own, other)| own == other).count();
        assert_eq!(shared + 3, others.len(), "{shared} of {} and {depth}", others.len());
    }

    #[test]
    fn deeper_stacks_are_cut_and_threads_have_their_own_top() {
        modules::start();
        let mut frames = [0; 16];
        assert_eq!(deep(50, &mut frames), (16, true));
        std::thread::Builder::new()
            .stack_size(4 << 20)
            .spawn(|| {
                let mut frames = [0; DEPTH];
                assert_eq!(deep(3 * DEPTH, &mut frames), (DEPTH, true));
                let (depth, cut) = deep(1, &mut frames);
                assert!(depth > 4 && !cut);
            })
            .expect("spawns")
            .join()
            .expect("no assertion fails");
    }

    #[test]
    fn an_address_is_its_place_and_tag() {
        let mut state = 1u64;
        let mut seen = std::collections::HashMap::new();
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let ip = (state >> (64 - bits::ADDRESS)) as usize >> bits::INSTRUCTION << bits::INSTRUCTION;
            assert_eq!(*seen.entry(place(ip)).or_insert(ip), ip);
        }
    }

    #[test]
    fn a_rule_unpacks_to_what_was_packed() {
        let unit = bits::CFA_UNIT;
        for (cfa, fp, back) in [(unit, 0, 8), (4000 * unit, 16, 8), (((1 << bits::CFA) - 1) * unit, 4096, 8)] {
            let rule = Rule::pack(Rule::FROM_FP, cfa, fp, back).expect("fits");
            assert_eq!((rule.kind(), rule.cfa() as i64), (Rule::FROM_FP, cfa));
            assert_eq!((rule.fp().unwrap_or(0) as i64, rule.return_address()), (fp, Some(8)));
        }
        for (cfa, fp) in [(-unit, 0), (unit << bits::CFA, 0), (unit + 1, 0), (unit, -8), (unit, 8 << bits::FP)] {
            assert!(Rule::pack(Rule::FROM_SP, cfa, fp, 8).is_none(), "{cfa} {fp}");
        }
    }
}
