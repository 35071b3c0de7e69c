//! Who can reach which part, and what bounds it.
//!
#![doc = include_str!("trust.md")]
