//! Which instrument a process measures with, and the measured part as each of them sees it.
//!
//! A program declares `#[global_allocator] static GLOBAL: instrument::Global = instrument::GLOBAL;` and calls
//! [`start`] first thing in `main`. The environment variable `ALLOC_LADDER_INSTRUMENT` then says at the first allocation which
//! instrument it is: one build carries all of them. A variable that is not set, that names nothing, or that names an
//! instrument this build leaves out, means [`time`](Instrument::Time); every record names its instrument, and the
//! command refuses a record of another one than it asked for.
//!
//! | value | allocator | in the build with the feature |
//! |---|---|---|
//! | `time` | the plain one | `driver` |
//! | `count` | [`CountingAlloc`](crate::CountingAlloc) | `driver` |
//! | `stacks` | dhat, on the system's allocator | `stacks`, and neither `mimalloc` nor `jemalloc` |
//! | `retained` | tracking-allocator | `retained` |
//! | `cpu` | the plain one, and a sampling profiler | `cpu` |
//! | `sampled` | `SampledAlloc` | `sampled` |

mod absent;
mod count;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg_attr(feature = "mimalloc", path = "instrument/inner_mimalloc.rs")]
#[cfg_attr(all(feature = "jemalloc", not(feature = "mimalloc")), path = "instrument/inner_jemalloc.rs")]
#[cfg_attr(not(any(feature = "mimalloc", feature = "jemalloc")), path = "instrument/inner_system.rs")]
mod inner;
#[cfg(feature = "retained")]
mod retained;
#[cfg(feature = "sampled")]
mod sampled;
#[cfg(feature = "stacks")]
mod stacks;
mod switch;

#[cfg(not(feature = "cpu"))]
use absent as cpu;
#[cfg(not(feature = "retained"))]
use absent as retained;
#[cfg(not(feature = "sampled"))]
use absent as sampled;
#[cfg(not(feature = "stacks"))]
use absent as stacks;

use crate::record::{Instrument, Measurement};

pub use switch::{GLOBAL, Global, chosen};

/// What a window needs to know beforehand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Messages of the measured part, to space heap samples.
    pub messages: u64,
    /// Where the `stacks` instrument writes dhat's JSON, and `cpu` its folded stacks.
    pub stacks_file: Option<std::path::PathBuf>,
}

/// Whether this build carries the instrument.
pub const fn is_available(instrument: Instrument) -> bool {
    match instrument {
        Instrument::Time | Instrument::Count => true,
        Instrument::Stacks => stacks::AVAILABLE && inner::IS_SYSTEM,
        Instrument::Retained => retained::AVAILABLE,
        Instrument::Cpu => cpu::AVAILABLE,
        Instrument::Sampled => sampled::AVAILABLE,
        // callgrind, around the process.
        Instrument::Instructions => false,
    }
}

/// The allocator below the instrument: `system`, `mimalloc` or `jemalloc`, as this program was built.
pub const INNER: &str = inner::NAME;

/// Called first thing in `main`.
pub fn start() {
    if chosen() == Instrument::Retained {
        retained::start();
    }
}

/// The measured part.
#[derive(Debug)]
pub struct Window(Open);

/// The measured part as the chosen instrument sees it.
#[derive(Debug)]
enum Open {
    /// There is nothing to do beside the clock and `getrusage`, which are read whatever is chosen.
    Plain,
    Count(Box<count::Window>),
    Stacks(stacks::Window),
    Retained(retained::Window),
    Cpu(cpu::Window),
}

impl Window {
    /// Opens the measured part.
    pub fn begin(options: &Options) -> Window {
        Window(match chosen() {
            Instrument::Count => Open::Count(count::Window::begin(options)),
            Instrument::Stacks => Open::Stacks(stacks::Window::begin(options)),
            Instrument::Retained => Open::Retained(retained::Window::begin(options)),
            Instrument::Cpu => Open::Cpu(cpu::Window::begin(options)),
            Instrument::Time | Instrument::Sampled | Instrument::Instructions => Open::Plain,
        })
    }

    /// Called after each message of the measured part.
    pub fn sample(&mut self, messages: u64) {
        if let Open::Count(window) = &mut self.0 {
            window.sample(messages);
        }
    }

    /// Closes the measured part and adds what was seen of it.
    pub fn end(self, measurement: &mut Measurement) {
        match self.0 {
            Open::Plain => {}
            Open::Count(window) => window.end(measurement),
            Open::Stacks(window) => window.end(measurement),
            Open::Retained(window) => window.end(measurement),
            Open::Cpu(window) => window.end(measurement),
        }
    }
}
