//! A program to run: data, so that a tool (a namespace, valgrind) can be put in front of it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use crate::measure::token;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    /// The cores it may use; none of them stands for all that this process may use.
    cores: Vec<usize>,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), args: Vec::new(), environment: Vec::new(), folder: None, cores: Vec::new() }
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

    /// Sets a variable of its environment, which is this process's otherwise.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The folder it runs in, which is this process's otherwise.
    pub(crate) fn in_folder(mut self, folder: impl Into<PathBuf>) -> Program {
        self.folder = Some(folder.into());
        self
    }

    /// Holds it to these cores; none of them holds it to nothing.
    pub(crate) fn on_cores(mut self, cores: &[usize]) -> Program {
        self.cores = cores.to_vec();
        self
    }

    /// The cores it is held to.
    pub(crate) fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// The same program run by `tool`, whose own arguments come first. What both say of the environment holds.
    pub(crate) fn under(self, tool: Program) -> Program {
        let Program { path, args, environment, folder, cores } = self;
        let mut both = tool.arg(path).args(args);
        both.environment.extend(environment);
        both.folder = folder.or(both.folder);
        both.cores = cores;
        both
    }

    /// What the standard library starts.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        // A secret of this process alone.
        command.env_remove(token::VARIABLE);
        command.args(&self.args).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
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
        let program = Program::new("peer").env("A", "1").in_folder("/work").under(Program::new("ip").env("B", "2"));
        let command = program.command();
        let set: Vec<_> = command.get_envs().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect();
        assert_eq!((set, command.get_current_dir()), (vec!["A".as_ref(), "B".as_ref()], Some("/work".as_ref())));
        assert!(find("sh").is_some());
        assert!(find("no-such-tool-anywhere").is_none());
    }
}
