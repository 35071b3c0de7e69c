//! Stands in front of the C library's allocator and records every stack: `LD_PRELOAD=liballoc_ladder_preload.so program`.
//!
//! `cargo alloc-ladder profile -- program` builds this library once and sets the variables it reads:
//! `ALLOC_LADDER_RECORDINGS`, the folder for recordings, and `ALLOC_LADDER_PROGRAMS`, the programs to record.

alloc_ladder::preload!();
