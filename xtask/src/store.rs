//! Runs on disk: their names, finding and reading them, and writing files whole or not at all.

mod beneath;
pub(crate) mod builds;
pub(crate) mod find;
pub(crate) mod fits;
pub(crate) mod layout;
mod lock;
pub(crate) mod name;
pub(crate) mod place;
pub(crate) mod read;
pub(crate) mod reference;
pub(crate) mod write;
