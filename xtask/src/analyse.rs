//! Pure functions of a record and its raw files: neither clock nor process.

pub(crate) mod advice;
pub(crate) mod budget;
pub(crate) mod classify;
pub(crate) mod comparison;
pub(crate) mod cpu;
pub(crate) mod dhat;
pub(crate) mod environments;
pub(crate) mod executable;
pub(crate) mod fold;
pub(crate) mod foreign;
pub(crate) mod frame;
pub(crate) mod held;
pub(crate) mod judge;
pub(crate) mod marks;
pub(crate) mod metric;
pub(crate) mod nine_stages;
pub(crate) mod peers;
pub(crate) mod profiles;
pub(crate) mod recording;
pub(crate) mod sites;
pub(crate) mod stats;
pub(crate) mod sweep;
pub(crate) mod symbols;
