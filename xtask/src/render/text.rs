//! Tables for a terminal.

pub(crate) mod advice;
pub(crate) mod comparison;
pub(crate) mod held;
pub(crate) mod limits;
pub(crate) mod nine_stages;
pub(crate) mod recorded;
pub(crate) mod repeat;
pub(crate) mod retained;
pub(crate) mod summary;
pub(crate) mod sweep;
