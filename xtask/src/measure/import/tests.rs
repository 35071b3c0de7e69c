use super::*;
use crate::analyse::fold::Profile;
use crate::analyse::recording::tests::sample;

fn about(name: &str) -> About<'static> {
    About { name: name.to_owned(), side: Side::Server, command: "srv", root: "", symbols: &[], blocks: false }
}

#[test]
fn rows_by_scope_sum_to_the_total() {
    let counts = by_scope(&Recording::read(&sample()).expect("whole"));
    assert_eq!((counts.total.blocks, counts.total.bytes), (10, 1000));
    assert_eq!(counts.total.freed_blocks, 4);
    let named = counts.rows.iter().find(|row| row.rpc == "/a.B/C").expect("the named method");
    assert_eq!((named.stage, named.side, named.tally.blocks), (Stage::Marshal, Some(Side::Server), 7));
    assert_eq!(counts.stage(Stage::Other).blocks, 3);
}

#[test]
fn steps_are_named_after_files() {
    assert_eq!(step_name("target/release/my_Server", 0), "my-server");
    assert_eq!(step_name("./service.x86", 1), "service-2");
    assert_eq!(step_name("...", 0), "program");
    assert!(step_name(&"x".repeat(300), 9).len() < 200);
}

#[test]
fn what_others_wrote_becomes_steps_of_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("stacks.folded");
    std::fs::write(&file, "srv::main;prost::encode 300\nsrv::main 12\n").expect("writes");
    let dhat = folder.path().join("dhat-heap.json");
    std::fs::write(&dhat, include_str!("../../../tests-data/put-server.json")).expect("writes");
    let run_folder = RunFolder::create(folder.path()).expect("writable");
    let mut profiles = Profiles::default();
    let first = import(&file, &run_folder, 0, &about("before"), &mut profiles).expect("imports");
    let second = import(&dhat, &run_folder, 1, &about("after"), &mut profiles).expect("imports");
    assert_eq!(profiles.get(0, Side::Server).map(Profile::total_bytes), Some(312));
    assert!(folder.path().join("01-before/server/dhat.json").is_file());
    assert_eq!(first.notes.len(), 1);
    let run = run("open-1".to_owned(), String::new(), String::new(), vec![first.step, second.step], false);
    assert_eq!(run.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["before", "after"]);
    for stacks in run.steps.iter().flat_map(|step| &step.stacks) {
        assert!(Dhat::parse(&run_folder.read(&stacks.dhat).expect("is there")).is_ok());
    }
}

#[test]
fn files_of_no_kind_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let run_folder = RunFolder::create(folder.path()).expect("writable");
    for (name, content, says) in [
        ("text", "hello\n", "neither"),
        ("cut", "allocldr\x01\0\0\0\x3e\0\0\0", "cut short"),
        ("newer", "allocldr\x09\0\0\0\x3e\0\0\0", "version 9"),
        ("dhat", "{\"dhatFileVersion\":7}", "version 7"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).expect("writes");
        let error =
            import(&file, &run_folder, 0, &about("a"), &mut Profiles::default()).err().expect("refused").to_string();
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
    assert!(import(&folder.path().join("missing"), &run_folder, 0, &about("a"), &mut Profiles::default()).is_err());
}

/// Blocks, bytes and bytes live at the end of all stacks through a function.
fn through(profile: &Profile, function: &str) -> (u64, u64, u64) {
    let sites = profile.sites.iter().filter(|site| profile.frames(site).any(|frame| frame.contains(function)));
    sites.fold((0, 0, 0), |sum, site| (sum.0 + site.blocks, sum.1 + site.bytes, sum.2 + site.live_bytes))
}

/// See `tests-data/foreign/README.md` for how they were made.
#[test]
fn real_files_of_other_tools_open_with_the_figures_that_are_known() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests-data/foreign");
    let known = (100, 123_400, 50 * 1234);
    for (file, function, figures, live) in [
        // The slice that holds the blocks grew eight times.
        ("go-heap.pb.gz", "main.keep", (108, 415_720, 412_672), true),
        ("go-allocs.pb.gz", "main.drop", (100, 819_200, 0), true),
        ("valgrind-dhat.json", "known::make_block", known, true),
        // Live bytes alone, in size classes.
        ("jemalloc.pb.gz", "make_block", (0, 50 * 1280, 50 * 1280), true),
        ("heaptrack.folded", "make_block", (100, 0, 0), false),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let run_folder = RunFolder::create(folder.path()).expect("writable");
        let about = About { blocks: file.ends_with("folded"), ..about("known") };
        let mut profiles = Profiles::default();
        import(&data.join(file), &run_folder, 0, &about, &mut profiles).expect(file);
        let profile = profiles.get(0, Side::Server).expect("it was kept");
        assert_eq!(through(profile, function), figures, "{file}");
        assert_eq!(profile.measured.live, live, "{file}");
        let has_line = profile.sites.iter().any(|site| profile.lines(site).any(|line| !line.is_empty()));
        assert_eq!(has_line, file != "heaptrack.folded", "{file} names lines of source");
    }
}
