//! Which frames at the leaf say how memory was asked for, and not by whom.

/// Crates and modules of them.
const PLUMBING: [&str; 8] =
    ["alloc", "core", "std", "dhat", "backtrace", "hashbrown", "alloc_ladder::alloc", "alloc_ladder::recorder"];

/// The frames, the innermost first, without those at the leaf that are plumbing: an allocator, whoever wrote it, is with all
/// that it calls.
pub(super) fn without_plumbing(mut frames: Vec<String>) -> Vec<String> {
    let asked = frames.iter().rposition(|frame| is_allocator(frame)).unwrap_or(0);
    let plumbing = frames[asked..].iter().take_while(|frame| is_plumbing(frame) || is_allocator(frame)).count();
    frames.drain(..asked + plumbing);
    frames
}

/// A method of an implementation of the allocator interface, or one that the interface has itself.
fn is_allocator(frame: &str) -> bool {
    let of = frame.strip_prefix('<').and_then(|name| name.split_once(" as ")).map_or(frame, |(_, of)| of);
    ["core::alloc::global::GlobalAlloc", "core::alloc::GlobalAlloc"]
        .iter()
        .filter_map(|interface| of.strip_prefix(interface))
        .any(|rest| rest.starts_with(">::") || rest.starts_with("::"))
}

fn is_plumbing(frame: &str) -> bool {
    // `<T as alloc::slice::…>::to_vec` is the standard library's, `<my::Type as core::convert::From>::from` is not.
    let name = match frame.strip_prefix('<').map(|name| name.split_once(" as ").unwrap_or((name, ""))) {
        Some((of, from)) if !of.contains("::") => from,
        Some((of, _)) => of,
        None => frame,
    };
    name.starts_with("__rust")
        || PLUMBING.iter().any(|module| name.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

#[cfg(test)]
mod tests {
    use super::{is_plumbing, without_plumbing};

    #[test]
    fn frames_of_the_standard_library_are_plumbing_and_impls_for_own_types_are_not() {
        for frame in [
            "alloc::slice::to_vec (a)",
            "<T as alloc::slice::ConvertVec>::to_vec (a)",
            "__rust_alloc (a)",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone (a)",
            "<alloc_ladder::alloc::switch::Alloc<A> as core::alloc::global::GlobalAlloc>::alloc (a)",
            "alloc_ladder::alloc::switch::Alloc<A>::allocated (a)",
            "<dhat::Alloc as core::alloc::GlobalAlloc>::alloc (a)",
        ] {
            assert!(is_plumbing(frame), "{frame}");
        }
        for frame in [
            "mine::copy (a)",
            "<mine::T as core::convert::From<u8>>::from (a)",
            "allocate::now (a)",
            "alloc_ladder::tonic::call (a)",
        ] {
            assert!(!is_plumbing(frame), "{frame}");
        }
    }

    #[test]
    fn an_allocator_of_ones_own_is_plumbing_with_all_it_calls() {
        let left = |frames: &[&str]| without_plumbing(frames.iter().map(|frame| (*frame).to_owned()).collect());
        let own = "<mine::Own<A> as core::alloc::global::GlobalAlloc>::alloc (a)";
        let ours = "<alloc_ladder::alloc::switch::Alloc<A> as core::alloc::global::GlobalAlloc>::alloc (a)";
        let called = [ours, "mine::helper (a)", own, "__rust_alloc (a)", "alloc::alloc::alloc (a)", "mine::copy (a)"];
        assert_eq!(left(&called), ["mine::copy (a)"]);
        // One that writes two of the four methods has the others from the interface.
        let inherited = [ours, own, "core::alloc::global::GlobalAlloc::realloc (a)", "alloc::alloc::realloc (a)"];
        assert_eq!(
            left(&[&inherited[..], &["mine::push (a)", "core::ops::function::FnOnce::call_once (a)"]].concat()),
            ["mine::push (a)", "core::ops::function::FnOnce::call_once (a)",]
        );
        // A type that only speaks of it is not one.
        let speaks = "mine::table::<dyn core::alloc::global::GlobalAlloc>::row (a)";
        assert_eq!(left(&[ours, speaks]), [speaks]);
    }
}
