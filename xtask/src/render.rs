//! Analysed values to text, HTML, SVG and pprof. Nothing is measured here.

pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod flame;
pub(crate) mod github;
pub(crate) mod junit;
pub(crate) mod markdown;
pub(crate) mod page;
pub(crate) mod pprof;
pub(crate) mod sites;
pub(crate) mod text;
