//! What a measured process says to the one that started it: its address, its record, and that it heard it die.

use std::io::{self, Read, Write};
use std::thread::JoinHandle;

use serde::Serialize;
use tokio::sync::oneshot;

/// Prints `value` as one line of JSON on stdout.
///
/// # Errors
/// Whatever writing gives: the parent is gone, the disk is full.
pub fn print_line(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Ends the process when stdin ends: its parent is done with it, or died.
///
/// The thread sleeps in `read` and costs the measured part nothing. A process that finishes its work waits by joining
/// the handle, so that its parent decides when it goes.
pub fn exit_with_parent() -> JoinHandle<()> {
    std::thread::spawn(|| {
        wait_for_parent();
        std::process::exit(0);
    })
}

/// Resolves when the parent is gone or done. A server ends by returning from `main` then, so that what it holds is
/// cleaned up: `exit` would leave a Unix socket's file behind.
pub fn parent_ended() -> oneshot::Receiver<()> {
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        wait_for_parent();
        drop(end);
    });
    ended
}

/// Returns when stdin ends. An error means that there is nobody to wait for either.
fn wait_for_parent() {
    let mut stdin = io::stdin().lock();
    while matches!(stdin.read(&mut [0u8; 64]), Ok(1..)) {}
}
