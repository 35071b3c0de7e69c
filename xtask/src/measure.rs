//! Starts processes, reads clocks and writes what came out. Nothing is drawn here.

pub(crate) mod build;
pub(crate) mod case;
pub(crate) mod climb;
pub(crate) mod cpu;
pub(crate) mod environment;
pub(crate) mod file_server;
pub(crate) mod import;
pub(crate) mod instructions;
pub(crate) mod link;
pub(crate) mod pair;
pub(crate) mod peers;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod preload;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod remote;
pub(crate) mod rounds;
pub(crate) mod stacks;
pub(crate) mod step_sets;
pub(crate) mod sweep;
pub(crate) mod symbols;
