//! The verbs that read runs, as a person or a script calls them: exit codes, words, and JSON that parses.
//!
//! The runs are measured once for all tests of a process; none of them is timed for what it says.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use alloc_ladder::record::{Instrument, Run, Shape, Subject};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use serde_json::Value;
use tempfile::TempDir;

mod support;

use support::{output, path, profile, read, refused, text};

/// Two runs of each of two scenarios, of one revision on one machine.
struct Runs {
    folder: TempDir,
    put: [PathBuf; 2],
    unary: [PathBuf; 2],
}

fn runs() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let measured = |scenario: Scenario, name: &str, more: &[&str]| {
            let run = folder.path().join(name);
            let done = profile(scenario, &run, &[&["--messages", "300"], more].concat());
            assert!(done.status.success(), "{}", text(&done.stderr));
            run
        };
        let put = |name, instruments| {
            measured(
                Scenario::Put,
                name,
                &["--steps", "baseline,one-frame", "--runs", "4", "--instruments", instruments],
            )
        };
        let unary =
            |name| measured(Scenario::Unary, name, &["--steps", "baseline,lean-server", "--instruments", "count"]);
        let put = [put("put-a", "count,time,stacks"), put("put-b", "count,stacks")];
        let unary = [unary("unary-a"), unary("unary-b")];
        Runs { folder, put, unary }
    })
}

/// A copy of a run's record with something changed, in a folder of its own.
fn changed(of: &Path, name: &str, change: impl FnOnce(&mut Run)) -> PathBuf {
    let folder = runs().folder.path().join(name);
    let mut run = Run { id: name.to_owned(), ..read(of) };
    change(&mut run);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("run.json"), serde_json::to_string(&run).expect("serialises")).expect("written");
    folder
}

#[track_caller]
fn succeeded(done: &Output) -> String {
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stdout)
}

#[track_caller]
fn json(done: &Output) -> Value {
    serde_json::from_str(&succeeded(done)).expect("stdout is JSON and nothing else")
}

fn pictures(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".svg")).collect();
    names.sort();
    names
}

/// A row of `compare --json` that is counted and of a whole side.
#[derive(Debug)]
struct Row {
    side: String,
    metric: String,
    verdict: String,
    change: Option<f64>,
}

impl Row {
    fn moved(&self) -> bool {
        self.verdict == "better" || self.verdict == "worse"
    }
}

fn whole_sides(report: &Value) -> Vec<Row> {
    const EXACT: [&str; 5] =
        ["allocs-per-message", "bytes-per-message", "amplification", "reallocs-per-message", "peak-heap"];
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let steps = report["steps"].as_array().expect("steps").iter();
    let rows = steps.flat_map(|step| step["rows"].as_array().expect("rows"));
    rows.filter(|row| EXACT.contains(&row["metric"].as_str().expect("a name")) && row["stage"].is_null())
        .map(|row| Row {
            side: word(&row["side"]),
            metric: word(&row["metric"]),
            verdict: word(&row["verdict"]),
            change: row["change"].as_f64(),
        })
        .collect()
}

#[test]
fn two_runs_of_one_revision_compare_as_equal() {
    // Reads and frames are as the kernel delivers them, and what is live at the peak follows its schedule. What a message
    // itself costs does not: `compare` leaves such rows out, because they are equal.
    let Runs { put, unary, .. } = runs();
    for ([old, new], stages) in
        [(unary, &["marshal", "message-construction", "handler"][..]), (put, &["message-construction", "handler"])]
    {
        let report = json(&output(&["compare", path(old), path(new), "--json"]));
        // Five figures of two sides of two steps, less the peak, which needs more runs.
        assert!(whole_sides(&report).len() >= 2 * 2 * 4, "{report}");
        for step in report["steps"].as_array().expect("steps") {
            for row in step["rows"].as_array().expect("rows") {
                let stage = row["stage"].as_str().unwrap_or_default();
                assert!(!stages.contains(&stage), "{row}");
            }
        }
    }
    // Times of one run only are named and left out.
    let report = json(&output(&["compare", path(&put[0]), path(&put[1]), "--json"]));
    let missing = report["steps"][0]["missing"].as_array().expect("missing");
    assert!(missing.iter().any(|words| words.as_str() == Some("server time figures (only old)")), "{missing:?}");
}

#[test]
fn a_run_and_a_copy_are_equal_and_one_block_a_message_more_is_worse() {
    let old = &runs().unary[0];
    let same = changed(old, "same", |_| {});
    let rows = whole_sides(&json(&output(&["compare", path(old), path(&same), "--fail-on-regression", "--json"])));
    assert!(rows.len() >= 2 * 2 * 4, "{rows:?}");
    for row in rows {
        assert!(!row.moved() && row.change == Some(0.0), "{row:?}");
    }
    let more = changed(old, "one-more", |run| {
        for measurement in run.steps.iter_mut().flat_map(|step| &mut step.measurements) {
            if measurement.side == Side::Server
                && let Some(counts) = &mut measurement.counts
            {
                let row = counts.rows.iter_mut().find(|row| row.stage != Stage::Instrument).expect("servers allocate");
                row.tally.blocks += measurement.messages;
                counts.total.blocks += measurement.messages;
            }
        }
    });
    let compare = ["compare", path(old), path(&more), "--json"];
    for row in whole_sides(&json(&output(&compare))) {
        let worse = row.side == "server" && row.metric == "allocs-per-message";
        assert!(if worse { row.verdict == "worse" } else { !row.moved() }, "{row:?}");
    }
    refused(&output(&[&compare[..], &["--fail-on-regression"]].concat()), 1, &["figures are worse"]);
}

#[test]
fn a_regression_fails_where_it_is_asked_to() {
    let run = path(&runs().put[0]);
    let back = ["compare", run, "--steps", "one-frame", "baseline"];
    assert!(succeeded(&output(&back)).contains(" worse, "));
    let failing = [&back[..], &["--fail-on-regression"]].concat();
    refused(&output(&failing), 1, &["figures are worse"]);
    refused(&output(&[&failing[..], &["--json"]].concat()), 1, &["figures are worse"]);
    refused(&output(&["compare", run, "--steps", "one-frame", "rope"]), 2, &["did not measure step `rope`"]);
}

#[test]
fn what_was_not_measured_alike_is_refused_or_warned_of() {
    let Runs { put: [put, _], unary: [unary, _], .. } = runs();
    let compare = |old: &Path, new: &Path| output(&["compare", path(old), path(new)]);
    refused(&compare(put, unary), 2, &["cannot be compared: scenario put and unary"]);
    let chunk = changed(put, "other-chunk", |run| run.workload.chunk = 4096);
    refused(&compare(put, &chunk), 2, &["cannot be compared: chunk 65536 and 4096"]);
    let paced = changed(put, "paced", |run| run.workload.rate_bits = Some(5_000_000_000));
    refused(&compare(put, &paced), 2, &["cannot be compared: rate_bits none and 5000000000"]);
    let only = |name: &str, instrument| {
        changed(put, name, |run| {
            for step in &mut run.steps {
                step.measurements.retain(|measurement| measurement.instrument == instrument);
                step.stacks.clear();
            }
        })
    };
    let (counted, timed) = (only("counted", Instrument::Count), only("timed", Instrument::Time));
    let words = ["nothing to compare: `counted` has count, `timed` has time", "never compared"];
    refused(&compare(&counted, &timed), 2, &words);
    let elsewhere = changed(&counted, "elsewhere", |run| {
        run.environment.cpu = "another".to_owned();
        run.server_environment = Some(run.environment.clone());
    });
    let done = compare(&counted, &elsewhere);
    succeeded(&done);
    let said = text(&done.stderr);
    assert!(said.contains("not measured alike: cpu ") && said.contains("not measured alike: server on "), "{said}");
}

#[test]
fn flame_graphs_of_a_comparison_go_where_they_may() {
    let [old, new] = &runs().put;
    let compare = |more: &[&str]| output(&[&["compare", path(old), path(new), "--step", "baseline"], more].concat());
    let elsewhere = runs().folder.path().join("flames");
    std::fs::create_dir_all(&elsewhere).expect("a folder");
    json(&compare(&["--json", "--flames", path(&elsewhere)]));
    let drawn = pictures(&elsewhere);
    assert!(drawn.iter().any(|name| name.starts_with("diff-") && name.ends_with("-server.svg")), "{drawn:?}");
    let done = compare(&["--flames", path(&elsewhere.join("nowhere"))]);
    assert!(succeeded(&done).contains("call sites"));
    assert!(text(&done.stderr).contains("the differential flame graph is left out"), "{}", text(&done.stderr));
    assert_eq!(pictures(new), [""; 0], "beside JSON nothing is written unless asked");
    assert!(succeeded(&compare(&[])).contains("flame graph  "));
    assert_eq!(pictures(new), drawn);
    // Reference runs are under version control.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a member of the workspace");
    let reference = root.join("profiles/reference/put");
    let before = pictures(&reference);
    let done = output(&["compare", path(&reference), "--steps", "baseline", "rope"]);
    succeeded(&done);
    assert!(text(&done.stderr).contains("--flames FOLDER says where"), "{}", text(&done.stderr));
    assert_eq!(pictures(&reference), before);
}

fn budgets(name: &str, text: &str) -> PathBuf {
    let file = runs().folder.path().join(name);
    std::fs::write(&file, text).expect("written");
    file
}

/// Budgets that the baseline of put cannot keep: it takes its message apart into a `Vec`.
const TOO_LOW: &str = "\
[put.baseline.server]
bytes-per-message = { max = 100, tolerance = 0.1 } # what is usual
throughput = { min = 0.001 }

[put.baseline.server.message-construction]
allocs-per-message = 0 # a limit

[put.one-frame.server]
allocs-per-message = 2
";

#[test]
fn a_run_that_exceeds_its_budgets_fails_until_they_are_blessed() {
    let file = budgets("low.toml", TOO_LOW);
    let run = path(&runs().put[0]);
    let check = |run, more: &[&str]| output(&[&["check", run, "--budgets", path(&file)], more].concat());
    let done = check(run, &[]);
    refused(&done, 1, &["2 of 4 budgets are exceeded", "--bless"]);
    let said = text(&done.stdout);
    assert!(said.contains("OVER  put/baseline server bytes/msg") && said.contains("what grew since"), "{said}");
    let done = check(run, &["--json"]);
    assert_eq!(done.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let verdicts: Vec<&Value> =
        report["lines"].as_array().expect("lines").iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, ["over", "ok", "over", "ok"]);

    let shown = succeeded(&check(run, &["--bless"]));
    assert!(shown.contains("put/baseline server bytes/msg") && shown.contains(" → "), "{shown}");
    assert!(!shown.contains("one-frame"), "a limit that holds is not rewritten: {shown}");
    let blessed = std::fs::read_to_string(&file).expect("the budgets");
    assert!(blessed.contains("allocs-per-message = 1 # a limit"), "{blessed}");
    assert!(!blessed.contains("max = 100,") && blessed.contains("# what is usual"), "{blessed}");
    assert!(blessed.contains("[put.one-frame.server]\nallocs-per-message = 2\n"), "{blessed}");
    succeeded(&check(run, &[]));
    // The other run took no times: a budget for one is a warning, not a failure.
    let done = check(path(&runs().put[1]), &[]);
    let said = text(&done.stderr);
    assert!(said.contains("1 of 4 budgets is for what was not measured"), "{said}");
    refused(&check(path(&runs().unary[0]), &[]), 2, &["no budget is for a step of"]);
}

#[test]
fn a_broken_budget_is_named_in_every_form() {
    let file = budgets("forms.toml", TOO_LOW);
    let run = path(&runs().put[0]);
    let form = |form: &str| {
        let done = output(&["check", run, "--budgets", path(&file), "--format", form]);
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    assert_eq!(form("text"), text(&output(&["check", run, "--budgets", path(&file)]).stdout));
    assert_eq!(form("json"), text(&output(&["check", run, "--budgets", path(&file), "--json"]).stdout));
    let markdown = form("markdown");
    assert!(markdown.starts_with("### forms.toml against put-"), "{markdown}");
    assert!(markdown.contains("\n| **over** | put/baseline server bytes/msg | "), "{markdown}");
    assert!(markdown.contains("<details><summary>2 kept</summary>"), "{markdown}");
    let report = junit_parser::from_reader(form("junit").as_bytes()).expect("a report");
    assert_eq!((report.tests, report.failures, report.skipped), (4, 2, 0));
    let failed = report.suites[0].cases.iter().find(|case| case.status.is_failure()).expect("a failure");
    assert_eq!(
        (failed.classname.as_deref(), failed.original_name.as_str()),
        (Some("put.baseline"), "server bytes/msg")
    );
    assert!(failed.status.failure_as_ref().message.contains("at most 100"), "{failed:?}");
    let github = form("github");
    let annotations: Vec<&str> = github.lines().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!(annotations.len(), 2, "{github}");
    let mut sources = 0;
    for annotation in annotations {
        let place = annotation.split_once("file=").expect("a file").1;
        let (named, rest) = place.split_once(",line=").expect("a line");
        let line: usize = rest[..rest.find(',').expect("more")].parse().expect("a number");
        if named == path(&file) {
            // No call site of that stage grew: the budget's own line.
            assert!(TOO_LOW.lines().nth(line - 1).is_some_and(|line| line.contains("per-message =")), "{annotation}");
            continue;
        }
        // The line of a call site of this repository.
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(named);
        let source = std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        assert!(named.starts_with("src/") && line <= source.lines().count(), "{annotation}");
        sources += 1;
    }
    assert!(sources > 0, "{github}");
    refused(&output(&["check", run, "--format", "xml"]), 2, &["invalid value 'xml'", "junit"]);
    refused(&output(&["check", run, "--format", "text", "--json"]), 2, &["cannot be used with"]);
}

#[test]
fn a_regression_is_named_in_every_form() {
    let [old, new] = &runs().put;
    let worse = changed(new, "put-worse-forms", |run| {
        // Its dhat files stay where they are.
        run.steps.iter_mut().for_each(|step| step.stacks.clear());
        let measured = run.steps.iter_mut().flat_map(|step| &mut step.measurements);
        for counts in measured.filter_map(|measured| measured.counts.as_mut()) {
            let blocks = 50 * 300;
            counts.rows.iter_mut().filter(|row| row.stage == Stage::Marshal).for_each(|row| row.tally.blocks += blocks);
            counts.total.blocks += blocks;
        }
    });
    let form = |form: &str, more: &[&str]| {
        let done = output(&[&["compare", path(old), path(&worse), "--format", form], more].concat());
        (done.status.code(), text(&done.stdout))
    };
    let (code, markdown) = form("markdown", &[]);
    assert_eq!(code, Some(0));
    assert!(markdown.contains("#### baseline") && markdown.contains("| **worse** |"), "{markdown}");
    let (code, github) = form("github", &[]);
    assert_eq!(code, Some(0));
    assert!(github.lines().any(|line| line.starts_with("::warning ")), "{github}");
    assert!(!github.contains("::error "), "nobody asked for a failure: {github}");
    let (code, github) = form("github", &["--fail-on-regression"]);
    assert_eq!(code, Some(1));
    assert!(github.starts_with("::error "), "{github}");
    let (code, junit) = form("junit", &["--fail-on-regression"]);
    assert_eq!(code, Some(1));
    let report = junit_parser::from_reader(junit.as_bytes()).expect("a report");
    assert!(report.failures > 0 && report.tests > report.failures, "{junit}");
    assert!(pictures(&worse).is_empty(), "no graphs beside what a machine reads");
}

#[test]
fn a_program_s_budgets_are_written_kept_broken_and_named() {
    let program = |run: &mut Run| {
        run.subject = Subject { name: "srv".to_owned(), shape: Shape::Program };
        run.steps.truncate(1);
        run.steps[0].name = "attached".to_owned();
    };
    let run = changed(&runs().unary[0], "attach-a", program);
    let file = runs().folder.path().join("srv.toml");
    let check = |run: &Path, more: &[&str]| output(&[&["check", path(run), "--budgets", path(&file)], more].concat());
    refused(&check(&run, &[]), 2, &["there are no budgets", "--bless"]);
    let shown = succeeded(&check(&run, &["--bless"]));
    assert!(shown.contains("new  srv/attached server /ladder.v1.Ladder/CreateUser allocs/msg"), "{shown}");
    succeeded(&check(&run, &[]));
    let written = std::fs::read_to_string(&file).expect("the budgets");
    std::fs::write(&file, format!("# Mine.\n{written}")).expect("written");
    let more = changed(&runs().unary[0], "attach-b", |run| {
        program(run);
        let counts = run.steps[0].measurements.iter_mut().filter_map(|measured| measured.counts.as_mut());
        for counts in counts {
            let rows = counts.rows.iter_mut().filter(|row| row.rpc.ends_with("CreateUser"));
            rows.for_each(|row| row.tally.blocks *= 2);
        }
    });
    let github = check(&more, &["--format", "github"]);
    assert_eq!(github.status.code(), Some(1));
    let said = text(&github.stdout);
    let line = 1 + written.lines().take_while(|line| !line.contains("CreateUser")).count() + 2;
    let named = said.lines().find(|line| line.contains("CreateUser allocs/msg is over")).expect("an annotation");
    assert!(named.contains(&format!(",line={line},")) && named.contains("srv.toml"), "{named}, not line {line}");
    succeeded(&check(&more, &["--bless"]));
    assert!(std::fs::read_to_string(&file).expect("the budgets").starts_with("# Mine.\n"));
    succeeded(&check(&more, &[]));
    // What is not measured fails, and a slip is understood.
    let slip =
        std::fs::read_to_string(&file).expect("the budgets") + "\n[srv.atached.server]\nallocs-per-message = 1\n";
    std::fs::write(&file, slip).expect("written");
    refused(&check(&more, &[]), 1, &["has no step `atached`; did you mean `attached`?", "for what was not measured"]);
}

#[test]
fn a_check_that_measures_names_the_call_sites_of_what_is_over() {
    let low = "[put.baseline.server.message-construction]\nallocs-per-message = 0\nbytes-per-message = 1\n";
    let file = budgets("measured.toml", low);
    let done = output(&["check", "--budgets", path(&file), "--profile", "dev"]);
    refused(&done, 1, &["2 of 2 budgets are exceeded"]);
    let (said, shown) = (text(&done.stderr), text(&done.stdout));
    assert!(shown.contains("OVER  put/baseline server message-construction allocs/msg"), "{shown}");
    // The budget is less than what the reference has, too: its sites are named with their bytes.
    assert!(shown.contains("no call site grew since") && shown.contains(", the largest, per message"), "{shown}");
    let site = |line: &&str| line.contains("B ") && line.contains(" message-construction ");
    assert!(shown.lines().any(|line| site(&line) && line.contains(" ← ")), "{shown}");
    assert_eq!(said.matches("baseline ").count(), said.matches("Measured").count(), "only budgeted steps: {said}");
    // What nobody measures holds nothing.
    let file = budgets("timed.toml", "[put.baseline.server]\nthroughput = { min = 0.001 }\n");
    let done = output(&["check", "--budgets", path(&file), "--profile", "dev"]);
    refused(&done, 1, &["nothing was checked", "cargo xtask check"]);
}

#[test]
fn advice_comes_with_its_numbers() {
    let run = path(&runs().put[0]);
    let advice = succeeded(&output(&["advise", run, "--step", "baseline"]));
    assert!(advice.contains("server ") && advice.contains("% of all bytes"), "{advice}");
    let takes: Vec<&str> = advice.lines().filter(|line| line.trim_start().starts_with("takes")).collect();
    assert!(!takes.is_empty(), "{advice}");
    for line in takes {
        let numbers = line.contains(" → ") && line.chars().any(|c| c.is_ascii_digit());
        assert!(numbers || line.contains("not measured here"), "a claim without its number: {line}");
    }
    let report = json(&output(&["advise", run, "--step", "baseline", "--json"]));
    assert_eq!(report["step"], "baseline");
    for step in report["left"][0]["steps"].as_array().expect("steps") {
        let evidence = &step["evidence"];
        assert!(evidence.is_null() || evidence["before"]["bytes"].is_number(), "{step}");
    }
    refused(&output(&["advise", run, "--step", "rope"]), 2, &["has no counts of step `rope`"]);
}

#[test]
fn a_run_s_page_is_named() {
    let run = &runs().put[0];
    let page = succeeded(&output(&["view", path(run), "--no-open"]));
    assert_eq!(Path::new(page.trim_end()), run.join("report.html"));
    refused(&output(&["view", "no-such-run", "--no-open"]), 2, &["there is no run `no-such-run`"]);
}
