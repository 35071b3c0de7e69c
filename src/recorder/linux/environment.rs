//! Reading the environment without asking an allocator.

use std::ffi::{CStr, c_char};

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
        let name = self.name().as_bytes();
        // SAFETY: the C library's list of strings ends with a null; it changes when the program sets a variable, which
        // no program does while its first allocation starts the recorder.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                let text = CStr::from_ptr(*entry);
                let bytes = text.to_bytes_with_nul();
                if bytes.len() > name.len() && bytes.starts_with(name) && bytes[name.len()] == b'=' {
                    return CStr::from_bytes_with_nul(&bytes[name.len() + 1..]).ok();
                }
                entry = entry.add(1);
            }
        }
        None
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Where the environment lies: above every frame of the first thread, as long as nobody has changed it.
pub(super) fn place() -> usize {
    // SAFETY: reads a pointer of the C library's.
    unsafe { environ as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_std_reads_it() {
        for variable in Variable::ALL {
            let value = std::env::var(variable.name()).ok();
            assert_eq!(variable.value().and_then(|value| value.to_str().ok()), value.as_deref());
        }
    }
}
