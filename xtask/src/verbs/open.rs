//! `open FILE [FILE…]`: shows what other tools and earlier recordings wrote, as one page; several files are a ladder.

use std::collections::HashSet;
use std::path::PathBuf;

use alloc_ladder::Side;

use crate::analyse::profiles::Profiles;
use crate::cli::browser;
use crate::cli::terminal::{self, Style};
use crate::measure::environment;
use crate::measure::import::{self, About};
use crate::render::page;
use crate::store::layout;
use crate::store::write::RunFolder;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recordings, dhat's JSON (dhat-rs, valgrind), pprof profiles of memory, folded stacks; in the order of the ladder
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Which side of the calls the program was
    #[arg(long, value_enum, default_value = "server")]
    side: Side,
    /// Name the functions of recordings from this unstripped file of the same build; may be given several times
    #[arg(long, value_name = "FILE")]
    symbols: Vec<PathBuf>,
    /// The numbers of folded stacks are blocks; if omitted, they are bytes
    #[arg(long)]
    blocks: bool,
    /// Print the page's path and open nothing
    #[arg(long)]
    no_open: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let (created, stamp) = environment::now();
    let folder = RunFolder::create_new(&layout::runs(), &format!("open-{stamp}"))?;
    let page = terminal::rendering(folder.path(), || read(&args, &folder, created));
    if page.is_err() {
        // A folder without a run is in everybody's way.
        let _ = std::fs::remove_dir_all(folder.path());
    }
    let page = page?;
    terminal::result(&format!("{}\n", page.display()))?;
    if !args.no_open && !browser::open(&page) {
        terminal::labelled(Style::Help, "help", "there is no browser here: open the path above");
    }
    Ok(())
}

fn read(args: &Args, folder: &RunFolder, created: String) -> anyhow::Result<PathBuf> {
    let root = layout::root().to_string_lossy().into_owned();
    let mut steps = Vec::new();
    let mut profiles = Profiles::default();
    for (index, name) in names(&args.files).into_iter().enumerate() {
        let about =
            About { name, side: args.side, command: "", root: &root, symbols: &args.symbols, blocks: args.blocks };
        let imported = import::import(&args.files[index], folder, index, &about, &mut profiles)?;
        for note in &imported.notes {
            terminal::labelled(Style::Warning, "warning", &format!("{}: {note}", args.files[index].display()));
        }
        steps.push(imported.step);
    }
    let run = import::run(folder.name(), created, String::new(), steps, false);
    folder.save(&run)?;
    page::write_all(folder, &run, &mut profiles)
}

/// A step's name for each file, no two alike: of files of one name, the nearest folders that are not.
fn names(files: &[PathBuf]) -> Vec<String> {
    let mut taken = HashSet::new();
    let ancestor = |file: &PathBuf, up: usize| {
        let name = file.ancestors().nth(up)?.file_name()?;
        Some(import::step_name(&name.to_string_lossy(), 0))
    };
    let at = |up: usize| files.iter().map(|file| ancestor(file, up)).collect::<Option<Vec<String>>>();
    let differ = |names: &Vec<String>| names.iter().collect::<HashSet<_>>().len() == names.len();
    let deepest = files.iter().map(|file| file.components().count()).min().unwrap_or(0);
    let of_folders = (0..deepest).find_map(|up| at(up).filter(differ));
    let name = |(index, file): (usize, &PathBuf)| {
        let plain = match &of_folders {
            Some(names) => names[index].clone(),
            None => import::step_name(&file.to_string_lossy(), 0),
        };
        (0..).map(|again| import::step_name(&plain, again)).find(|name| taken.insert(name.clone())).unwrap_or(plain)
    };
    files.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[PathBuf]) -> Args {
        Args { files: files.to_vec(), side: Side::Server, symbols: Vec::new(), blocks: false, no_open: true }
    }

    #[test]
    fn several_files_are_a_ladder_and_one_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("writes");
            path
        };
        let before = file("before.json", include_str!("../../tests-data/get-server.json"));
        let after = file("after.folded", "srv::main;prost::encode 300\n");
        let run = folder.path().join("run");
        std::fs::create_dir(&run).expect("creates");
        let into = RunFolder::create(&run).expect("writable");
        let page = read(&args(&[before, after]), &into, "2026-01-01T00:00:00Z".to_owned()).expect("reads");
        let html = std::fs::read_to_string(page).expect("reads");
        assert!(html.contains("before") && html.contains("after"));
        assert!(html.contains("what the opened file holds") && !html.contains("whole process"), "nobody knows");
        assert!(
            html.contains("and 1 more, in the order they were named") && !html.contains("In one table"),
            "one round"
        );
        assert!(run.join("02-after/server/diff-bytes.svg").is_file(), "the difference of the two");
    }

    #[test]
    fn a_program_without_grpc_has_no_rows_of_it_and_no_sites_of_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path().join("run");
        std::fs::create_dir(&run).expect("creates");
        let into = RunFolder::create(&run).expect("writable");
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests-data/foreign/go-heap.pb.gz"));
        let page = read(&args(&[file]), &into, "2026-01-01T00:00:00Z".to_owned()).expect("reads");
        let html = std::fs::read_to_string(page).expect("reads");
        let (_, main) = html.split_once("<main>").expect("a page has a main part");
        let (main, _) = main.split_once("</main>").expect("it ends");
        assert!(main.contains("No stack passes through tonic") && !main.contains("message construction"), "{main}");
        assert!(main.contains("main.keep") && !main.contains(r#"class="gone""#), "{main}");
    }

    #[test]
    fn files_of_one_name_are_told_apart() {
        let names = names(&["a/dhat-heap.json".into(), "b/dhat-heap.json".into(), "c/x.folded".into()]);
        assert_eq!(names, ["a", "b", "c"]);
        let names = |files: [&str; 2]| super::names(&files.map(PathBuf::from));
        assert_eq!(
            names(["put/01-baseline/server/dhat.json", "put/02-pooled/server/dhat.json"]),
            ["01-baseline", "02-pooled"]
        );
        assert_eq!(names(["dhat.json", "dhat.json"]), ["dhat", "dhat-2"]);
        assert_eq!(names(["before.json", "after.json"]), ["before", "after"]);
        assert_eq!(names(["../dhat.json", "dhat.json"]), ["dhat", "dhat-2"]);
    }
}
