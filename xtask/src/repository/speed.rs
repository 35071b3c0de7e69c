//! `cargo xtask speed`: how long the command itself takes, and how much memory, over files of known size.
//!
//! Each task is this program again, in a process of its own, so that what is said of it is what a user waits for. CPU time is
//! beside the clock's, because other programs move the clock's alone; a build without optimisation is not judged by it.
//!
//! Memory is what a task held on the heap when that was largest, as this program's own allocator counts it: the same on
//! every machine, so that `--check` holds it in CI. Beside it stands the kernel's peak of the largest process so far, with
//! the code that was read from the program's file: tasks run from the least to the most, and where one does not exceed
//! those before it, theirs is what is said.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloc_ladder::Snapshot;
use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;

use crate::cli::failure::{Failure, Kind};
use crate::cli::numbers;
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Style};
use crate::measure::program::Program;
use crate::store::layout;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail for memory alone, which is the same on every machine; times are shown
    #[arg(long)]
    check: bool,
    /// Also run `check`, once the program that it measures is built
    #[arg(long)]
    budgets: bool,
    /// Call sites of the large file
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sites: u32,
}

/// Frames of each call site in the large file: what a tonic service has.
const FRAMES: u32 = 40;
/// How many times its files a task may hold on the heap.
const TIMES_FILES: f64 = 10.0;
/// The variable that names the file into which a task writes what it held on the heap.
const PEAK_FILE: &str = "ALLOC_LADDER_SPEED_PEAK";

/// Something the command is to do in some time.
struct Task {
    name: String,
    args: Vec<String>,
    /// What it reads.
    files: PathBuf,
    allowed: Duration,
    /// Whether it makes a run of its own, which nobody wants, and says where its page is.
    makes_a_run: bool,
}

/// What it took.
struct Took {
    wall: Duration,
    cpu: Duration,
    /// The kernel's figure, code included.
    rss_bytes_max: u64,
    heap_bytes_max: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut table = Table::default();
    let heads = ["task", "time", "CPU", "allowed", "files", "peak memory", "peak heap", "× files"];
    table.row(heads.map(|head| if head == "task" { Cell::left(head) } else { Cell::right(head) }));
    let mut over = Vec::new();
    for task in tasks(&args, folder.path())? {
        terminal::progress("Running", &task.name);
        let took = do_it(&task, &folder.path().join("peak"))?;
        let bytes = size(&task.files)?;
        let times = took.heap_bytes_max as f64 / bytes as f64;
        let late = took.cpu > task.allowed && !cfg!(debug_assertions) && !args.check;
        let large = times > TIMES_FILES;
        over.extend((late || large).then(|| task.name.clone()));
        let seconds = |time: Duration| Cell::right(format!("{:.2} s", time.as_secs_f64()));
        let mark = |cell: Cell, bad: bool| if bad { cell.style(Style::Worse) } else { cell };
        table.row([
            Cell::left(task.name),
            seconds(took.wall),
            mark(seconds(took.cpu), late),
            seconds(task.allowed),
            Cell::right(numbers::bytes(bytes as f64)),
            Cell::right(numbers::bytes(took.rss_bytes_max as f64)),
            Cell::right(numbers::bytes(took.heap_bytes_max as f64)),
            mark(Cell::right(numbers::number(times)), large),
        ]);
    }
    terminal::result(&table.render())?;
    if cfg!(debug_assertions) && !args.check {
        let note =
            "this build is not optimised: its times are not judged; the command that people install has optimisation";
        terminal::labelled(Style::Help, "note", note);
    }
    if over.is_empty() {
        return Ok(());
    }
    let message = format!("more CPU time, or more memory for its files, than allowed: {}", over.join(", "));
    let help = "`perf record` of a task shows where its time goes, `profile -- PROGRAM` of one where its memory goes";
    Err(Failure::new(Kind::Verdict, message).help(help).into())
}

fn tasks(args: &Args, folder: &Path) -> anyhow::Result<Vec<Task>> {
    let run = folder.join("ten-steps");
    copy(&layout::runs().join("reference/get"), &run)?;
    let sites = folder.join("sites.json");
    let full = "the temporary folder is full";
    large(args.sites, BufWriter::new(File::create(&sites).context(full)?)).context(full)?;
    let mut tasks = vec![
        Task {
            name: "report of ten steps".to_owned(),
            args: vec!["report".to_owned(), run.display().to_string()],
            files: run,
            allowed: Duration::from_secs(1),
            makes_a_run: false,
        },
        Task {
            name: format!("page of {} call sites", numbers::count(args.sites.into())),
            args: vec!["open".to_owned(), sites.display().to_string(), "--no-open".to_owned()],
            files: sites,
            allowed: Duration::from_secs(5),
            makes_a_run: true,
        },
    ];
    if args.budgets {
        tasks.push(Task {
            name: "check".to_owned(),
            args: vec!["check".to_owned()],
            files: layout::runs().join("reference"),
            allowed: Duration::from_secs(20),
            makes_a_run: false,
        });
    }
    Ok(tasks)
}

/// Writes what this process held on the heap at most, where `speed` asks for it.
pub(crate) fn tell_peak() {
    if let Some(file) = std::env::var_os(PEAK_FILE) {
        // Without it `speed` says that there is none.
        let _ = std::fs::write(file, Snapshot::peak_bytes().0.to_string());
    }
}

fn do_it(task: &Task, peak: &Path) -> anyhow::Result<Took> {
    let own = std::env::current_exe().context("this program has no file")?;
    let charged = || getrusage(UsageWho::RUSAGE_CHILDREN).context("the kernel knows no children");
    let before = charged()?;
    let began = Instant::now();
    let output = Program::new(own)
        .args(&task.args)
        .env(PEAK_FILE, peak)
        .command()
        .output()
        .context("cannot run this program")?;
    let (wall, after) = (began.elapsed(), charged()?);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(Kind::Run, format!("{} failed: {}", task.name, said.trim())).into());
    }
    if task.makes_a_run {
        let page = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let made = page.parent().context("a page lies in a folder")?;
        std::fs::remove_dir_all(made).with_context(|| format!("cannot remove {}", made.display()))?;
    }
    let micros = |usage: &nix::sys::resource::Usage| {
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    let cpu = Duration::from_micros(u64::try_from(micros(&after) - micros(&before)).unwrap_or(0));
    let heap = std::fs::read_to_string(peak).ok().and_then(|bytes| bytes.parse().ok());
    // The kernel counts in KiB.
    let rss_bytes_max = u64::try_from(after.max_rss()).unwrap_or(0) * 1024;
    let heap_bytes_max = heap.with_context(|| format!("{} said nothing of its heap", task.name))?;
    std::fs::remove_file(peak).context("the temporary folder is gone")?;
    Ok(Took { wall, cpu, rss_bytes_max, heap_bytes_max })
}

/// Writes what dhat would of so many call sites, no two of which share a stack. Site by site: what this process holds is
/// taken for what its children hold, because the kernel counts them from the moment they are its copies.
fn large(sites: u32, mut file: impl Write) -> std::io::Result<()> {
    let names = 4 * sites.isqrt().max(FRAMES);
    let frame =
        |index: u32| format!("0x{index:x}: service::module_{}::function_{index} (src/module.rs:{index}:9)", index % 97);
    let table: Vec<String> = std::iter::once("[root]".to_owned()).chain((1..=names).map(frame)).collect();
    let head = json!({
        "dhatFileVersion": 2, "mode": "rust-heap", "verb": "Allocated", "bklt": true, "bkacc": false, "tu": "µs", "Mtu": "s",
        "tuth": 10, "cmd": "service", "pid": 1, "tg": 1_000_000, "te": 2_000_000, "ftbl": table,
    });
    let head = head.to_string();
    // The sites are the last field.
    write!(file, "{},\"pps\":[", head.trim_end_matches('}'))?;
    for index in 0..sites {
        let outer = (0..FRAMES - 2).map(|depth| 1 + (index / 1000 + depth * 7) % names);
        let stack: Vec<u32> = [1 + index % names, 1 + index / names % names].into_iter().chain(outer).collect();
        let blocks = index % 1000 + 1;
        let site = json!({
            "tb": 64 * u64::from(blocks), "tbk": blocks, "tl": 10, "mb": 64, "mbk": 1, "gb": 64, "gbk": 1, "eb": 0, "ebk": 0,
            "fs": stack,
        });
        write!(file, "{}{site}", if index > 0 { "," } else { "" })?;
    }
    writeln!(file, "]}}")?;
    file.flush()
}

/// Copies a run: its record and what its profilers wrote.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (here, there) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&here, &there)?;
        } else {
            std::fs::copy(&here, &there).with_context(|| format!("cannot copy {}", here.display()))?;
        }
    }
    Ok(())
}

/// Bytes of a file, or of all files in a folder.
fn size(path: &Path) -> anyhow::Result<u64> {
    let metadata = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_call_sites_of_the_large_file_share_a_stack() {
        let mut written = Vec::new();
        large(3000, &mut written).expect("memory takes it");
        let file: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
        let stacks: BTreeSet<String> =
            file["pps"].as_array().expect("sites").iter().map(|site| site["fs"].to_string()).collect();
        assert_eq!(stacks.len(), 3000);
        let names = file["ftbl"].as_array().expect("frames").len() as u64;
        let frames =
            || file["pps"].as_array().expect("sites").iter().flat_map(|site| site["fs"].as_array().expect("frames"));
        assert!(frames().all(|frame| frame.as_u64().is_some_and(|frame| (1..names).contains(&frame))));
    }
}
