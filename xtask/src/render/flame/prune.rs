//! Leaves out the frames of a graph that nobody can see, so that a picture stays small whatever it is of.
//!
//! A frame is left out with everything below it, and what it allocated stays with the frame it was called from: totals
//! are exact. All of it takes time in proportion to the frames there are.

use super::stack::{Group, Stack};

/// How many frames a picture has at most, or up to twice as many where those at the limit are equally wide. At a
/// quarter of a kilobyte each, an SVG opens everywhere.
pub(super) const FRAMES_MAX: usize = 20_000;

/// How deep a picture is at most: deeper stacks are recursion, and a browser draws no taller picture.
pub(super) const DEPTH_MAX: usize = 1_000;

/// Cuts the stacks, which lie as they are drawn, at the first frame that is left out, and joins those that then are
/// equal. Returns the width below which frames were left out; 0 where none were for their width.
pub(super) fn prune<G: Group>(stacks: &mut Vec<Stack<G>>) -> u64 {
    let mut deepest = 0;
    for stack in stacks.iter_mut() {
        stack.frames.truncate(DEPTH_MAX);
        deepest = deepest.max(stack.frames.len());
    }
    let shared: Vec<usize> = (0..stacks.len())
        .map(|index| shared(index.checked_sub(1).map(|before| &stacks[before]), &stacks[index]))
        .collect();
    let mut widths = Vec::new();
    walk(stacks, &shared, |frame| widths.push(frame.width));
    let narrowest = narrowest(widths);
    if narrowest > 0 {
        // How many frames of each stack are kept, its group's included, which always is.
        let mut kept: Vec<usize> = stacks.iter().map(|stack| stack.frames.len() + 1).collect();
        walk(stacks, &shared, |frame| {
            if frame.width < narrowest && frame.depth > 1 {
                kept[frame.first..frame.end].iter_mut().for_each(|kept| *kept = (*kept).min(frame.depth - 1));
            }
        });
        for (stack, kept) in stacks.iter_mut().zip(kept) {
            stack.frames.truncate(kept - 1);
        }
    }
    if narrowest > 0 || deepest == DEPTH_MAX {
        stacks.dedup_by(|next, stack| {
            let same = next.group == stack.group && next.frames == stack.frames;
            if same {
                stack.width += next.width;
                stack.after += next.after;
                stack.before = stack.before.zip(next.before).map(|(stack, next)| stack + next);
            }
            same
        });
    }
    narrowest
}

/// How many frames a stack has in common with the one to its left, the group's frame included.
pub(super) fn shared<G: Group>(left: Option<&Stack<G>>, stack: &Stack<G>) -> usize {
    let Some(left) = left.filter(|left| left.group == stack.group) else { return 0 };
    let (left, own) = (left.frames.as_slice(), stack.frames.as_slice());
    let most = left.len().min(own.len());
    // PERF: a loop, because the command is built without optimisation and this runs for every frame of every stack.
    let mut alike = 0;
    while alike < most && left[alike] == own[alike] {
        alike += 1;
    }
    1 + alike
}

/// A frame, with the stacks that go through it.
struct Seen {
    /// 1 for a group.
    depth: usize,
    width: u64,
    first: usize,
    end: usize,
}

/// Shows every frame, callees before their callers.
fn walk<G>(stacks: &[Stack<G>], shared: &[usize], mut see: impl FnMut(&Seen)) {
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut at = 0;
    let mut close = |open: &mut Vec<(u64, usize)>, keep: usize, at: u64, end: usize| {
        while open.len() > keep {
            let depth = open.len();
            if let Some((from, first)) = open.pop() {
                see(&Seen { depth, width: at - from, first, end });
            }
        }
    };
    for (index, stack) in stacks.iter().enumerate() {
        close(&mut open, shared[index], at, index);
        open.resize(stack.frames.len() + 1, (at, index));
        at += stack.width;
    }
    close(&mut open, 0, at, stacks.len());
}

/// The width from which on frames are kept: 0 where all are.
fn narrowest(mut widths: Vec<u64>) -> u64 {
    if widths.len() <= FRAMES_MAX {
        return 0;
    }
    let (_, limit, _) = widths.select_nth_unstable_by(FRAMES_MAX, |a, b| b.cmp(a));
    let limit = *limit;
    let as_wide = widths.iter().filter(|width| **width >= limit).count();
    if as_wide <= 2 * FRAMES_MAX { limit } else { limit + 1 }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::Stage;

    use super::*;

    fn stacks(of: impl Iterator<Item = (Vec<u32>, u64)>) -> Vec<Stack<Stage>> {
        of.map(|(frames, width)| Stack::plain(Stage::Handler, frames, width)).collect()
    }

    fn frames(stacks: &[Stack<Stage>]) -> usize {
        let shared: Vec<usize> =
            (0..stacks.len()).map(|i| shared(i.checked_sub(1).map(|left| &stacks[left]), &stacks[i])).collect();
        let mut count = 0;
        walk(stacks, &shared, |_| count += 1);
        count
    }

    #[test]
    fn the_narrowest_go_with_all_below_them_and_nothing_is_lost() {
        // Every third call site is wide; each has two frames of its own below a shared one.
        let wide = |index: u32| if index.is_multiple_of(3) { 1000 } else { 1 };
        let all = 30_000_u32;
        let mut pruned = stacks((0..all).map(|index| (vec![0, 2 * index + 1, 2 * index + 2], wide(index))));
        let total: u64 = pruned.iter().map(|stack| stack.width).sum();
        assert_eq!(prune(&mut pruned), 1000);
        assert_eq!(pruned.iter().map(|stack| stack.width).sum::<u64>(), total);
        assert_eq!(pruned.iter().map(|stack| stack.after).sum::<u64>(), total);
        // The wide ones as they were, and between them one stack that ends at the shared frame.
        assert_eq!(frames(&pruned), 2 + 2 * all as usize / 3);
        assert!(pruned.iter().all(|stack| stack.frames.len() == if stack.width == 1000 { 3 } else { 1 }));
    }

    #[test]
    fn few_frames_are_left_as_they_are() {
        let mut few = stacks((0..100).map(|index| (vec![0, index], 1)));
        assert_eq!(prune(&mut few), 0);
        assert_eq!(few.len(), 100);
    }

    #[test]
    fn equally_narrow_frames_are_all_left_out() {
        let mut many = stacks((0..100_000).map(|index| (vec![0, index + 1], 1)));
        assert_eq!(prune(&mut many), 2);
        assert_eq!((many.len(), many[0].width, many[0].frames.as_slice()), (1, 100_000, &[0][..]));
    }

    #[test]
    fn endless_recursion_has_a_bottom() {
        let mut deep = stacks([(vec![0; 1_000_000], 5), (vec![0; 999_999], 6)].into_iter());
        assert_eq!(prune(&mut deep), 0);
        assert_eq!((deep.len(), deep[0].frames.len(), deep[0].width), (1, DEPTH_MAX, 11));
    }
}
