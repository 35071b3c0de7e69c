//! Which frames at the leaf say how memory was asked for, and not by whom.

/// Crates and modules of them.
const PLUMBING: [&str; 8] =
    ["alloc", "core", "std", "dhat", "backtrace", "hashbrown", "alloc_ladder::alloc", "alloc_ladder::recorder"];

pub(super) fn is_plumbing(frame: &str) -> bool {
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
    use super::is_plumbing;

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
}
