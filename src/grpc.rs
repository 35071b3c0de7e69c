//! The subject: the study's three workloads on tonic and prost, and the mechanism of every step.
//!
//! [`service`] and [`client`] choose mechanisms by the fields of [`Tuning`](crate::ladder::Tuning), each in one place;
//! what a step is for, and the order of steps, is the ladder's. [`serve`] and [`connect`] own sockets and runtimes;
//! [`meter`] measures the part between warm-up and tail.

pub mod body;
pub mod case;
pub mod client;
pub mod codec;
pub mod connect;
pub mod deadline;
pub mod http2;
pub mod lean;
pub mod message;
pub mod meter;
pub mod pool;
pub mod rope;
pub mod serve;
pub mod service;
mod status;
pub mod swap;
pub mod user;
