//! Encoding and decoding alone: prost as tonic has it, prost into a recycled message, and the swapped codec.
//!
//! A time and a count never come from one run, so the benchmark is run twice:
//!
//! ```text
//! cargo bench --bench codec --features subject
//! ALLOC_LADDER_INSTRUMENT=count cargo bench --bench codec --features subject
//! ```
//!
//! The first times with the plain allocator; the second prints allocations and bytes per operation, exactly, and its
//! times count for nothing. Both check that what was decoded is what was encoded.

#![expect(clippy::print_stderr, reason = "criterion prints its own figures there too")]

use std::hint::black_box;

use alloc_ladder::driver::instrument;
use alloc_ladder::record::Instrument;
use alloc_ladder::subject::pb::owned::User;
use alloc_ladder::subject::swap::SwapUser;
use alloc_ladder::subject::user::{USER_BUFFER_BYTES, sample_user};
use alloc_ladder::{Snapshot, Tally};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;

#[global_allocator]
static GLOBAL: instrument::Global = instrument::GLOBAL;

/// Runs `operation` alone, prints what it allocates where that is counted, then times it.
fn bench(c: &mut Criterion, name: &str, mut operation: impl FnMut()) {
    if instrument::chosen() == Instrument::Count {
        // The first call sets up what stays.
        operation();
        let before = Snapshot::of_thread();
        operation();
        let Tally { blocks, bytes, .. } = (Snapshot::of_thread() - before).total_without_instrument();
        eprintln!("{name:<24} {blocks:>4} allocs/op {bytes:>6} B/op");
    }
    c.bench_function(name, |b| b.iter(&mut operation));
}

fn decode(c: &mut Criterion, wire: &Bytes, user: &User) {
    assert_eq!(&User::decode(wire.clone()).expect("it decodes"), user);
    bench(c, "decode/prost", || {
        black_box(User::decode(wire.clone()).expect("it decodes"));
    });
    let mut recycled = User::default();
    bench(c, "decode/prost-recycled", || {
        recycled.clear();
        recycled.merge(wire.clone()).expect("it decodes");
        black_box(&recycled);
    });
    assert_eq!(&recycled, user);
    bench(c, "decode/swapped", || {
        let view = SwapUser::decode(wire.clone()).expect("it decodes");
        assert_eq!(view.received().email.len(), user.email.len());
        black_box(view);
    });
}

fn encode(c: &mut Criterion, wire: &Bytes, user: &User) {
    let mut buffer = BytesMut::with_capacity(USER_BUFFER_BYTES);
    bench(c, "encode/prost", || {
        buffer.clear();
        black_box(user).encode(&mut buffer).expect("a growing buffer has room");
        assert_eq!(buffer.len(), wire.len());
    });
    assert_eq!(&buffer, wire);
    let view = SwapUser::from(user);
    bench(c, "encode/swapped", || {
        buffer.clear();
        black_box(&view).encode_raw(&mut buffer);
        assert_eq!(buffer.len(), wire.len());
    });
    assert_eq!(&buffer, wire);
}

fn both(c: &mut Criterion) {
    instrument::start();
    let user = sample_user();
    let wire = Bytes::from(user.encode_to_vec());
    decode(c, &wire, &user);
    encode(c, &wire, &user);
}

criterion_group!(benches, both);
criterion_main!(benches);
