//! The study: put, get and unary on tonic and prost, their ladders, and what every step is measured beside.
//!
//! Data first, in the feature `study`: [`scenario`], [`ladder`], the kinds of [`peer`], and the [`case`] that a process is
//! told. The programs are in the
//! feature `subject`: [`service`] and [`calls`] choose mechanisms by the fields of [`Tuning`](ladder::Tuning), each in
//! one place, and take them from [`steps`](crate::steps); what a step is for, and the order of steps, is the ladder's. [`serve`] and [`connect`] own sockets and
//! runtimes; [`meter`] measures the part between warm-up and tail. [`program`] is
//! one side of a case as a process.

pub mod case;
pub mod ladder;
pub mod peer;
pub mod scenario;

#[cfg(feature = "subject")]
pub mod calls;
#[cfg(feature = "subject")]
pub mod client;
#[cfg(feature = "subject")]
pub mod codec;
#[cfg(feature = "subject")]
pub mod connect;
#[cfg(feature = "subject")]
pub mod echo;
#[cfg(feature = "subject")]
pub mod export;
#[cfg(feature = "subject")]
pub mod fan_out;
#[cfg(feature = "subject")]
pub mod http2;
#[cfg(feature = "subject")]
pub mod lean;
#[cfg(feature = "subject")]
pub mod message;
#[cfg(feature = "subject")]
pub mod metadata;
#[cfg(feature = "subject")]
pub mod meter;
#[cfg(feature = "subject")]
pub mod pb;
#[cfg(feature = "subject")]
pub mod process;
#[cfg(feature = "subject")]
pub mod program;
#[cfg(feature = "subject")]
pub mod secure;
#[cfg(feature = "subject")]
pub mod serve;
#[cfg(feature = "subject")]
pub mod service;
#[cfg(feature = "subject")]
pub mod socket;
#[cfg(feature = "subject")]
pub mod swap;
#[cfg(feature = "subject")]
pub mod user;
