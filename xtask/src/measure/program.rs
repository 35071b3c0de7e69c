//! A program to run: data, so that a tool (a namespace, valgrind) can be put in front of it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), args: Vec::new() }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Program {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same program run by `tool`, whose own arguments come first.
    pub(crate) fn under(self, tool: Program) -> Program {
        tool.arg(self.path).args(self.args)
    }

    /// What the standard library starts.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args);
        command
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        f.write_str(&name.to_string_lossy())?;
        self.args.iter().map(OsString::as_os_str).map(OsStr::to_string_lossy).try_for_each(|arg| write!(f, " {arg}"))
    }
}

/// Where the shell would find `tool`; `None` when it is not installed.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    // Debian keeps servers and network tools in sbin, which is on no ordinary user's path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(tool)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_goes_in_front_with_its_own_arguments() {
        let program = Program::new("/target/peer").arg("server").args(["--chunk", "1"]);
        let under = program.under(Program::new("ip").args(["netns", "exec", "a"]));
        assert_eq!(under.to_string(), "ip netns exec a /target/peer server --chunk 1");
        assert!(find("sh").is_some());
        assert!(find("no-such-tool-anywhere").is_none());
    }
}
