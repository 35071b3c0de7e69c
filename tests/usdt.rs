//! The probes of the sampler, as tracers find them: notes in the program's file, and as a debugger stops at them.
#![cfg(all(feature = "usdt", target_os = "linux", target_arch = "x86_64"))]

use std::hint::black_box;
use std::io::Write;
use std::process::Command;

use alloc_ladder::sampled::SampledAlloc;

// A mebibyte between samples: the block below is drawn for certain.
#[global_allocator]
static ALLOC: SampledAlloc = SampledAlloc::every(1 << 20, std::alloc::System);

const BLOCK_BYTES: usize = (64 << 20) + 1;

#[test]
#[ignore = "for the debugger of the other test"]
fn a_large_block() {
    drop(black_box(Vec::<u8>::with_capacity(black_box(BLOCK_BYTES))));
}

#[test]
fn the_program_s_file_has_the_notes_of_both_probes() {
    let program = std::fs::read(std::env::current_exe().expect("a program")).expect("reads");
    let program = String::from_utf8_lossy(&program);
    // Provider, name and where the arguments are: `-8@%rax -8@%rbx …`, one each.
    let arguments = |name: &str| {
        let head = format!("otel_memory\0{name}\0");
        let notes = program.match_indices(&head).map(|(at, head)| &program[at + head.len()..]);
        let of = |note: &str| note.split('\0').next().map_or(0, |places| places.matches('@').count());
        notes.map(of).collect::<Vec<usize>>()
    };
    let (alloc, free) = (arguments("alloc"), arguments("free"));
    assert!(!alloc.is_empty() && alloc.iter().all(|count| *count == 3), "{alloc:?}");
    assert!(!free.is_empty() && free.iter().all(|count| *count == 1), "{free:?}");
}

#[test]
fn a_debugger_stops_at_a_sample_and_at_its_end() {
    let program = std::env::current_exe().expect("a program");
    let commands = [
        "set pagination off".to_owned(),
        "set debuginfod enabled off".to_owned(),
        format!("break -probe-stap otel_memory:alloc if $_probe_arg1 == {BLOCK_BYTES}"),
        "run --exact a_large_block --ignored --nocapture --test-threads 1".to_owned(),
        "printf \"allocated %llx size %llu weight %llu\\n\", $_probe_arg0, $_probe_arg1, $_probe_arg2".to_owned(),
        "set $block = $_probe_arg0".to_owned(),
        "delete".to_owned(),
        "break -probe-stap otel_memory:free if $_probe_arg0 == $block".to_owned(),
        "continue".to_owned(),
        "printf \"freed %llx\\n\", $_probe_arg0".to_owned(),
        "kill".to_owned(),
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx"]).args(commands.iter().flat_map(|command| ["-ex", command])).arg(program);
    let Ok(done) = gdb.output() else {
        let _ = writeln!(std::io::stderr(), "skipped: `gdb` is not installed (Debian package `gdb`)");
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let line = |head: &str| said.lines().find_map(|line| line.strip_prefix(head)).map(str::to_owned);
    let allocated = line("allocated ").unwrap_or_else(|| panic!("gdb never stopped:\n{said}"));
    let [block, _, size, _, weight] = allocated.split(' ').collect::<Vec<_>>()[..] else { panic!("{allocated}") };
    // A block of 64 intervals stands for itself.
    assert_eq!((size, weight), (BLOCK_BYTES.to_string().as_str(), BLOCK_BYTES.to_string().as_str()));
    assert_eq!(line("freed ").as_deref(), Some(block), "{said}");
}
