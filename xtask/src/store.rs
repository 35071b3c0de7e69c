//! Runs on disk: their names, finding and reading them, and writing files whole or not at all.

pub(crate) mod find;
pub(crate) mod layout;
pub(crate) mod place;
pub(crate) mod write;
