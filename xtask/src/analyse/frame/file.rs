//! Names of source files.

/// A source file as it may be shown to others: without this machine's folders, where that leaves it findable.
pub(crate) fn shown<'a>(file: &'a str, root: &str) -> &'a str {
    if let Some(at) = file.find("/registry/src/") {
        let rest = &file[at + "/registry/src/".len()..];
        return rest.split_once('/').map_or(rest, |(_, file)| file);
    }
    if let Some(rest) = file.strip_prefix("/rustc/") {
        return rest.split_once('/').map_or(rest, |(_, file)| file);
    }
    match file.strip_prefix(root).filter(|_| !root.is_empty()) {
        Some(rest) => rest.trim_start_matches('/'),
        None => file,
    }
}
