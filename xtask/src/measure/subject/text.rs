//! Words of the file: its name, placeholders, names of packages.

/// The file's name.
pub(crate) const FILE: &str = "alloc-ladder.toml";

/// The server's port, wherever it stands in an argument or a variable.
pub(super) const PORT: &str = "{port}";
/// The calls that a round needs.
pub(super) const CALLS: &str = "{calls}";

/// Puts the port and the number of calls where they are asked for.
pub(super) fn filled(text: &str, port: Option<u16>, calls: u64) -> String {
    let text = text.replace(CALLS, &calls.to_string());
    port.map_or(text.clone(), |port| text.replace(PORT, &port.to_string()))
}

/// Whether cargo takes the text for a package's name.
pub(super) fn is_package(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(filled("-n={calls} [::1]:{port}/{x}", Some(7), 2256), "-n=2256 [::1]:7/{x}");
        assert_eq!(filled("{port}", None, 0), "{port}");
    }

    #[test]
    fn a_package_is_a_name_and_no_flag() {
        assert!(is_package("tonic-health") && is_package("h2"));
        assert!(!is_package("--config") && !is_package("a b") && !is_package("") && !is_package("a.b"));
    }
}
