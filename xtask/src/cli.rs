//! What a person at a terminal sees: colours, tables, errors and their exit codes.

pub(crate) mod browser;
pub(crate) mod failure;
pub(crate) mod format;
pub(crate) mod numbers;
pub(crate) mod quantity;
pub(crate) mod suggest;
pub(crate) mod table;
pub(crate) mod terminal;
