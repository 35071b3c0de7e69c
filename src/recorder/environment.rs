//! Reading the environment without asking an allocator.

#![expect(unsafe_code, reason = "asks the C library, because `std` allocates to answer")]

use std::ffi::CStr;

/// The variables a program is told by what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `off`, `count`, `sampled` or `stacks`: what [`Alloc`](crate::Alloc) does.
    Mode,
    /// The folder that recordings are made in; `/dev/shm` if unset.
    Recordings,
    /// The programs that the preload library records, by file name, separated by `:`; all if unset.
    Programs,
}

impl Variable {
    /// All of them.
    pub const ALL: [Variable; 3] = [Variable::Mode, Variable::Recordings, Variable::Programs];

    /// The variable's name.
    pub const fn name(self) -> &'static str {
        match self {
            Variable::Mode => "ALLOC_LADDER",
            Variable::Recordings => "ALLOC_LADDER_RECORDINGS",
            Variable::Programs => "ALLOC_LADDER_PROGRAMS",
        }
    }

    /// The variable's value, where it is set.
    ///
    /// Neither allocates nor locks: for the time before `main`, when nobody changes the environment.
    pub fn value(self) -> Option<&'static CStr> {
        let name = match self {
            Variable::Mode => c"ALLOC_LADDER",
            Variable::Recordings => c"ALLOC_LADDER_RECORDINGS",
            Variable::Programs => c"ALLOC_LADDER_PROGRAMS",
        };
        // SAFETY: the name ends with a zero. The value stays where it is until the program changes the variable, which
        // none does while its first allocation starts the recorder.
        unsafe {
            let value = libc::getenv(name.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value))
        }
    }
}

/// A line on stderr, without formatting or allocating.
pub(crate) fn say(line: &str) {
    #[cfg(unix)]
    for text in ["alloc-ladder: ", line, "\n"] {
        // SAFETY: hands the kernel a text and its length.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    #[cfg(not(unix))]
    let _ = line;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_std_reads_it() {
        for variable in Variable::ALL {
            // The two lists of names agree, or one of the values is missing.
            // SAFETY: no other test of this process reads or writes these variables.
            unsafe { std::env::set_var(variable.name(), "a value") };
            let value = std::env::var(variable.name()).ok();
            assert_eq!(variable.value().and_then(|value| value.to_str().ok()), value.as_deref());
        }
    }
}
