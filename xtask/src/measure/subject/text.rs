//! Words of the file: its name, placeholders, names of packages.

use std::path::{Path, PathBuf};

use crate::measure::subject::file::{ProgramTable, Subject, Window};

/// The file's name.
pub(crate) const FILE: &str = "alloc-ladder.toml";

/// The server's port, wherever it stands in an argument or a variable.
pub(super) const PORT: &str = "{port}";
/// The calls that a round needs.
pub(super) const CALLS: &str = "{calls}";

/// Puts the port and the number of calls where they are asked for.
pub(super) fn filled(text: &str, port: Option<u16>, window: &Window) -> String {
    let text = text.replace(CALLS, &window.calls().to_string());
    port.map_or(text.clone(), |port| text.replace(PORT, &port.to_string()))
}

/// Whether cargo takes the text for a package's name.
pub(super) fn is_package(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

impl Subject {
    /// The folder that paths and commands are relative to: the file's.
    pub(crate) fn base(&self) -> PathBuf {
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    }

    /// What it starts, a line each, for a person who is asked whether it may.
    pub(crate) fn commands(&self) -> Vec<String> {
        let program = |program: &ProgramTable| {
            let mut words = match (&program.command, program.target()) {
                (Some(command), _) => command.0.clone(),
                (None, Some((kind, name))) => ["cargo", "build", kind, name].map(str::to_owned).to_vec(),
                (None, None) => Vec::new(),
            };
            words.extend(program.args.iter().cloned());
            let env = program.env.iter().map(|(name, value)| format!("{name}={value}"));
            env.chain(words).collect::<Vec<_>>().join(" ")
        };
        std::iter::once(program(&self.server.program)).chain(self.load.iter().map(program)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::subject::file::Length;

    #[test]
    fn placeholders_are_filled() {
        let window = Window { warmup: 256.0, length: Length::Messages(2000), rounds: 1, timeout: 1 };
        assert_eq!(filled("-n={calls} [::1]:{port}/{x}", Some(7), &window), "-n=2256 [::1]:7/{x}");
        assert_eq!(filled("{port}", None, &window), "{port}");
    }

    #[test]
    fn a_package_is_a_name_and_no_flag() {
        assert!(is_package("tonic-health") && is_package("h2"));
        assert!(!is_package("--config") && !is_package("a b") && !is_package("") && !is_package("a.b"));
    }
}
