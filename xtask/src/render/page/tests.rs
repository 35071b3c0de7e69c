//! Golden tests of the page's pieces; `UPDATE_EXPECT=1` blesses them again.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analyse::profiles::Profiles;
use crate::render::files;
use crate::store::find;
use crate::store::layout;
use crate::store::write::RunFolder;
use alloc_ladder::Side;
use alloc_ladder::record::Instrument;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Stage, Tally};
use expect_test::expect_file;

use super::*;
use figures::StepView;

/// The first three steps are enough to see every kind of cell.
fn short() -> (Run, Profiles) {
    let mut run = fixture::run();
    run.steps.truncate(3);
    (run, fixture::profiles())
}

/// One element a line, so that a golden's difference is a line and not a page.
fn lines(html: &str) -> String {
    let mut text = String::with_capacity(html.len() + html.len() / 20);
    for (index, part) in html.split("><").enumerate() {
        if index > 0 {
            text.push_str(">\n<");
        }
        text.push_str(part);
    }
    text.push('\n');
    text
}

#[test]
fn head_and_ladder() {
    let (run, _) = short();
    let steps = figures::steps(&run);
    expect_file!["golden/head.html"]
        .assert_eq(&lines(&overview::head(&run, &steps, &Profiles::default()).into_string()));
    expect_file!["golden/ladder.html"].assert_eq(&lines(&overview::ladder_section(&run, &steps).into_string()));
}

#[test]
fn one_step() {
    let (run, profiles) = short();
    let steps = figures::steps(&run);
    let view: &StepView<'_> = &steps[1];
    let golden = [
        ("story", step::story(&run, view, steps.len(), &profiles)),
        ("metrics", step::metrics(&run, view, &profiles)),
        ("stages", stages::section(&run, view, &profiles)),
        ("attribution", step::attribution(&run, view, &profiles)),
        ("cpu", step::cpu(view, &profiles)),
        ("retained", step::retained(&run, view, Side::Server)),
        ("raw", raw::section(&run, view, &profiles)),
    ];
    for (name, markup) in golden {
        expect_file![format!("golden/{name}.html")].assert_eq(&lines(&markup.into_string()));
    }
    let of = |index: usize| sites::SeenSites {
        profile: profiles.get(index, Side::Server).expect("a profile"),
        stacks: run.steps[index].stacks(Side::Server).expect("stacks"),
    };
    let table = sites::table(", server", "message", false, of(1), Some(of(0))).into_string();
    assert!(table.contains(">gone<"), "{table}");
    expect_file!["golden/sites.html"].assert_eq(&lines(&table));
}

/// Folded stacks carry one number each: a site of bytes without blocks is there, and its blocks are unknown.
#[test]
fn a_unit_that_no_site_has_is_not_measured() {
    let (run, profiles) = short();
    let mut profile = profiles.get(0, Side::Server).expect("a profile").clone();
    for site in &mut profile.sites {
        site.blocks = 0;
    }
    let stacks = run.steps[0].stacks(Side::Server).expect("stacks");
    let table =
        sites::table(", server", "run", false, sites::SeenSites { profile: &profile, stacks }, None).into_string();
    assert!(!table.contains("gone"), "{table}");
    assert!(after(&table, "data-label=\"allocs / run\">").iter().all(|figure| *figure == "–"), "{table}");
    assert!(after(&table, "data-label=\"bytes / run\">").iter().all(|figure| *figure != "–"), "{table}");
}

#[test]
fn charts_are_what_they_were() {
    let (run, profiles) = short();
    let counts = |index: usize| run.steps[index].counts(Side::Server).and_then(|m| m.counts.clone()).expect("counts");
    let still =
        graphs::still(profiles.get(0, Side::Server).expect("a profile"), crate::analyse::fold::Unit::Bytes, ", server");
    expect_file!["golden/histogram.svg"]
        .assert_eq(&lines(&charts::size_histogram("Sizes", &counts(1), Some(&counts(0))).into_string()));
    expect_file!["golden/heap.svg"]
        .assert_eq(&lines(&charts::heap("Heap", &counts(1), Some(&counts(0))).into_string()));
    expect_file!["golden/still.svg"].assert_eq(&lines(&still.into_string()));
}

#[test]
fn limits_and_summary() {
    let (run, _) = short();
    let steps = figures::steps(&run);
    expect_file!["golden/limits.html"].assert_eq(&lines(&limits::section(&run, &steps).into_string()));
    expect_file!["golden/summary.html"].assert_eq(&lines(&summary::section(&run, &steps).into_string()));
}

#[test]
fn a_call_has_its_nine_stages_and_a_stream_has_not() {
    let (mut run, _) = short();
    assert_eq!(nine_stages::section(&run, &figures::steps(&run)).into_string(), "");
    run.subject = Scenario::Unary.subject();
    let section = nine_stages::section(&run, &figures::steps(&run)).into_string();
    expect_file!["golden/nine-stages.html"].assert_eq(&lines(&section));
}

/// The digits of every element whose markup begins with `open`, up to the next tag.
fn after<'a>(html: &'a str, open: &str) -> Vec<&'a str> {
    html.split(open).skip(1).filter_map(|rest| rest.split('<').next()).collect()
}

/// A record's total is a counter's own and no sum of its rows, so a row that went missing between the two would show.
#[test]
fn the_rows_of_a_side_sum_to_its_total() {
    for scenario in Scenario::ALL {
        let (_, run) = find::load(&layout::reference(scenario).to_string_lossy()).expect("a reference run");
        for step in &run.steps {
            for side in Side::ALL {
                let counted = step.of(side, Instrument::Count).filter_map(|m| Some((m.counts.as_ref()?, m.messages)));
                let (total, messages) = counted.fold((Tally::default(), 0), |(total, messages), (counts, more)| {
                    ([total, counts.total].into_iter().sum(), messages + more)
                });
                assert!(messages > 0, "{scenario} {} {side} was not counted", step.name);
                let rows = figures::subject_stages().chain([Stage::Instrument]);
                let sum = rows
                    .map(|stage| figures::stage_per_message(step, side, stage).expect("counted"))
                    .fold((0.0, 0.0), |(blocks, bytes), row| (blocks + row.blocks, bytes + row.bytes));
                for (sum, total) in [(sum.0, total.blocks), (sum.1, total.bytes)] {
                    let total = total as f64 / messages as f64;
                    assert!((sum - total).abs() < 1e-6, "{scenario} {} {side}: {sum} is not {total}", step.name);
                }
            }
        }
    }
}

/// What a reader of the page sees adds up too, up to what the digits shown leave out.
#[test]
fn the_rows_that_a_table_shows_sum_to_the_total_it_shows() {
    let run = fixture::run();
    let html = stages::section(&run, &figures::steps(&run)[0], &Profiles::default()).into_string();
    for table in html.split("<table").skip(1) {
        let body = table.split("</tbody>").next().expect("a body");
        let foot = table.split("<tfoot>").nth(1).expect("a foot");
        // Allocations are the plain number cells; bytes are bold, with prefixes of their own.
        let number = |cell: &&str| cell.parse::<f64>().ok();
        let rows = after(body, r#"<td class="number">"#);
        let sum: f64 = rows.iter().filter_map(number).sum();
        let total = after(foot, r#"<td class="number"><b>"#).iter().filter_map(number).next().expect("a total");
        assert_eq!(rows.iter().filter_map(number).count(), figures::subject_stages().count(), "{rows:?}");
        assert!((sum - total).abs() < total * 0.01, "{sum} is not {total}");
    }
}

#[test]
fn a_page_holds_the_totals_of_its_record() {
    for scenario in Scenario::ALL {
        let (dir, mut run) = find::load(&layout::reference(scenario).to_string_lossy()).expect("a reference run");
        run.steps.truncate(2);
        let profiles = files::load(&RunFolder::open(&dir).expect("opens"), &run).expect("loads");
        let data: serde_json::Value =
            serde_json::from_str(&graphs::json(&run, &figures::steps(&run), &profiles, "message", usize::MAX))
                .expect("JSON");
        for (index, step) in run.steps.iter().enumerate() {
            for stacks in &step.stacks {
                let profile = profiles.get(index, stacks.side).expect("it was loaded");
                let graph = |unit: &str| &data["sides"][stacks.side.name()]["steps"][index][unit]["this"]["total"];
                assert_eq!(graph("bytes").as_u64(), Some(profile.total_bytes()), "{scenario} {}", step.name);
                assert_eq!(graph("blocks").as_u64(), Some(profile.total_blocks()), "{scenario} {}", step.name);
            }
        }
    }
}

#[test]
fn a_ten_step_page_is_below_a_megabyte_and_the_same_every_time() {
    let (run, profiles) = (fixture::run(), fixture::profiles());
    let page = render(&run, &profiles);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert_eq!(page, render(&run, &profiles));
}

#[test]
fn a_page_of_many_sites_leaves_out_what_is_too_narrow_to_see() {
    let (mut run, mut profiles) = (fixture::run(), Profiles::default());
    run.steps.truncate(3);
    for index in 0..run.steps.len() {
        Side::ALL.into_iter().for_each(|side| profiles.insert_folded(index, side, fixture::wide(3000)));
    }
    let page = render(&run, &profiles);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert!(!page.contains(r#""narrowest":0.0,"#));
}

#[test]
fn nothing_in_a_page_comes_from_elsewhere() {
    let page = render(&fixture::run(), &fixture::profiles());
    assert!(page.contains("default-src 'none'"));
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..(at + 40).min(page.len())]).collect();
    // `http-equiv`, a crate's name, a name in a line of code, the name space of SVG and a command's flag; no address.
    let known = |text: &&str| {
        ["http-equiv", "http::", "http2", "http://www.w3.org/2000/svg", "http=:"].iter().any(|k| text.starts_with(k))
    };
    assert_eq!(addresses.into_iter().filter(|text| !known(text)).collect::<Vec<_>>(), [""; 0]);
    assert!(!page.contains(" style=\""), "the policy forbids style attributes");
    assert!(!page.contains(" onclick"), "the policy forbids event attributes");
}

#[test]
fn names_cannot_break_out_of_where_they_are_written() {
    let (run, profiles) = fixture::hostile();
    let page = render(&run, &profiles);
    // The two scripts of the page's own, and the style.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<!--").count(), 0);
    assert_eq!(page.matches("<img").count(), 0);
    // It ends a line of JavaScript; in text it is a character like any other.
    let scripts = page.split("<script").skip(1).filter_map(|rest| rest.split("</script>").next());
    assert!(scripts.clone().count() == 2 && scripts.clone().all(|script| !script.contains('\u{2028}')));
    assert!(page.contains("line\u{2028}separator"), "the name is in the page's text");
    assert!(!page.contains(&"x".repeat(1000)), "a name of 10,000 characters is cut");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let data = page.split(r#"id="data">"#).nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    assert!(!data.contains(['<', '\u{2028}']));
    let json: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let names: Vec<&str> = json["names"].as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    for name in fixture::hostile_names().iter().filter(|name| name.len() < 240) {
        assert!(names.contains(&name.as_str()), "{name} is missing from {names:?}");
    }
}

#[test]
fn absent_data_is_said_to_be_absent() {
    let mut run = fixture::bare();
    let page = render(&run, &Profiles::default());
    for words in [
        "Partial run.",
        "no figures of bytes-field, tuned-h2",
        "core-runtime",
        "not measured",
        "no peers",
        "no call sites",
        "no exact counts",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for step in &mut run.steps {
        step.measurements.clear();
    }
    assert!(render(&run, &Profiles::default()).contains("times not measured"));
    run.steps.clear();
    let page = render(&run, &Profiles::default());
    assert!(page.contains("nothing to show") && !page.contains("<script"));
}

/// What a page says, without its style and its scripts.
fn said(run: &Run) -> String {
    let page = render(run, &Profiles::default());
    let (_, body) = page.split_once("<main>").expect("a page has a main part");
    body.split_once("</main>").expect("it ends").0.to_owned()
}

#[test]
fn a_page_of_a_program_says_what_was_measured_of_it_and_no_more() {
    let run = fixture::attached();
    let said_of_one = said(&run);
    expect_file!["golden/attached.html"].assert_eq(&lines(&said_of_one));
    let mut joined = fixture::attached();
    joined.steps.push(joined.steps[0].clone());
    joined.steps[1].name = "after".to_owned();
    for text in [said_of_one, said(&joined)] {
        assert!(text.contains("a program of its own"));
        for claim in [
            "separate processes",
            "one machine",
            "ladder</",
            "ladders",
            "Four builds",
            "builds",
            "Limits",
            "peers",
            "not measured",
            "Not measured",
            "the pair",
            "client",
            "outside a repository",
            "Warm-up",
            "Seed",
            "dhat",
            "shrink",
            "Timed",
        ] {
            assert!(!text.contains(claim), "the page of a program says `{claim}`:\n{}", lines(&text));
        }
    }
    assert!(said(&joined).contains("Step 2 of 2"));
}

fn said_of((run, profiles): &(Run, Profiles)) -> String {
    let page = render(run, profiles);
    let (_, body) = page.split_once("<main>").expect("a page has a main part");
    body.split_once("</main>").expect("it ends").0.replace('\u{202f}', " ")
}

#[test]
fn a_page_of_a_recording_has_its_totals_lines_and_timeline_and_claims_nothing_else() {
    let said = said_of(&fixture::recorded(false));
    expect_file!["golden/recorded.html"].assert_eq(&lines(&said));
    for words in [
        "1 761 blocks and 9.27 MiB allocated, 175 blocks and 949 KiB live at the end, 880 temporary (50.0 %).",
        "12.4 MiB resident at most: the heap is 18.7 % of it",
        "peak 2.32 MiB at 7.3 s",
        "per run, by stack",
        r#"<bdi class="place">prost-0.14.1/src/encoding.rs:87</bdi>"#,
        r#"<bdi class="place">src/keep.rs:77</bdi>"#,
        "Live at the peak",
        r#"data-label="temporary""#,
        "every block was recorded",
    ] {
        assert!(said.contains(words), "{words}\n{}", lines(&said));
    }
    for claim in [
        "ot measured",
        ", server",
        ">server",
        "Server",
        "client",
        "ladder</",
        "builds",
        "peers",
        "vs previous",
        "Sizes",
        "Scopes",
        "dhat's own",
    ] {
        assert!(!said.contains(claim), "it says `{claim}`:\n{}", lines(&said));
    }
    assert!(said.contains(r#"<nav class="stepper" aria-label="Steps" hidden>"#), "one step: nothing to step through");
}

#[test]
fn scopes_and_stacks_that_disagree_are_shown_and_what_no_seam_saw_is_marked() {
    let said = said_of(&fixture::recorded(true));
    let apart = said.split("the scope says").nth(1).and_then(|rest| rest.split("</table>").next()).expect("a table");
    assert!(apart.contains("transport") && apart.contains("400 KiB") && apart.contains("4.2 %"), "{apart}");
    assert_eq!(apart.matches("<tr>").count(), 1, "{apart}");
    assert!(said.contains("by stack</th>") && said.contains("100 %"), "{}", lines(&said));
}

#[test]
fn stages_that_would_mislead_are_not_on_the_page() {
    let (run, mut profiles) = fixture::recorded(false);
    let mut poor = profiles.get(0, Side::Server).expect("a profile").clone();
    poor.stages_mislead = true;
    profiles.insert_folded(0, Side::Server, poor);
    let said = said_of(&(run, profiles));
    assert!(!said.contains("Where the bytes come from") && said.contains("CARGO_PROFILE_RELEASE_DEBUG=1"), "{said}");
    assert!(!said.contains(r#"<div class="panel"></div>"#), "an empty box: {said}");
}

#[test]
fn a_program_s_figures_are_per_message_where_somebody_said_how_many() {
    let mut run = fixture::attached();
    assert!(said(&run).contains("Allocations per run"));
    run.workload.messages = 500;
    assert!(said(&run).contains("it was said to have handled 500 messages"));
    assert!(said(&run).contains("Allocations per message"));
}

#[test]
fn a_server_on_another_host_is_said_to_be_there() {
    let mut run = fixture::run();
    let said = |run: &Run| overview::head(run, &figures::steps(run), &Profiles::default()).into_string();
    assert!(said(&run).contains("separate processes on one machine"));
    run.server_environment = Some(run.environment.clone());
    assert!(said(&run).contains("processes on a machine each") && !said(&run).contains("one machine"));
}

/// A reference run fresh from git has dhat's files and no other.
#[test]
fn only_files_that_are_there_are_linked() {
    let (run, mut profiles) = short();
    profiles.files.retain(|file| file.ends_with("dhat.json"));
    let html = raw::section(&run, &figures::steps(&run)[1], &profiles).into_string()
        + &step::cpu(&figures::steps(&run)[1], &profiles).into_string();
    assert_eq!(after(&html, "<a href=\"").len(), 3, "run.json and a dhat file a side: {html}");
    assert!(!html.contains("pprof") && html.contains("cargo xtask report"), "{html}");
    // The previous step without call sites: nothing to differ from.
    let (mut run, _) = short();
    run.steps[0].stacks.clear();
    let profiles = Profiles::beside(files::named(&run));
    let html = raw::section(&run, &figures::steps(&run)[1], &profiles).into_string();
    assert!(html.contains("profile.pb.gz") && !html.contains("diff"), "{html}");
}

#[test]
fn every_scenario_and_a_step_of_its_own_render() {
    for scenario in Scenario::ALL {
        let (mut run, profiles) = short();
        run.subject = scenario.subject();
        run.steps[1].set = "without=pooled-message".to_owned();
        run.steps[2].set = "only=no-such-step".to_owned();
        let page = render(&run, &profiles);
        assert!(page.contains(scenario.words()));
    }
}

#[test]
fn counts_of_nothing_are_zero_and_not_absent() {
    let (mut run, profiles) = short();
    let counts = run.steps[2].measurements.iter_mut().filter(|m| m.instrument == Instrument::Count);
    for counts in counts.filter_map(|m| m.counts.as_mut()) {
        counts.rows.retain(|row| row.stage == Stage::Instrument);
        counts.total = counts.rows.iter().map(|row| row.tally).sum::<Tally>();
        counts.sizes.iter_mut().for_each(|bucket| bucket.blocks = 0);
    }
    let steps = figures::steps(&run);
    let metrics = step::metrics(&run, &steps[2], &profiles).into_string();
    assert!(metrics.contains("<b>0</b>") && metrics.contains("gone"), "{metrics}");
    assert!(!metrics.contains("NaN") && !metrics.contains("inf"));
    assert!(!render(&run, &profiles).contains("NaN"));
}

/// What `unpack` in `page.js` does, so that packing is tested where it is written.
#[test]
fn packed_graphs_unpack_to_what_was_laid_out() {
    let (run, profiles) = short();
    let steps = figures::steps(&run);
    let data: serde_json::Value =
        serde_json::from_str(&graphs::json(&run, &steps, &profiles, "message", usize::MAX)).expect("JSON");
    let list = |value: &serde_json::Value| -> Vec<i64> {
        value.as_array().expect("a list").iter().map(|number| number.as_i64().expect("a number")).collect()
    };
    let profile = profiles.get(0, Side::Server).expect("a profile");
    let laid_out = crate::render::flame::layout(profile, crate::analyse::fold::Unit::Bytes).frames;
    let graph = &data["sides"]["server"]["steps"][0]["bytes"]["this"];
    let (n, x, v) = (list(&graph["n"]), list(&graph["x"]), list(&graph["v"]));
    let parents = list(&data["sides"]["server"]["parents"]);
    let whole = graph["whole"].as_f64().expect("a number");
    assert_eq!(whole as u64, profile.total_bytes());
    assert_eq!(n.len(), laid_out.len() + 1, "every frame and the root");
    let mut node = 0;
    let mut open: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut places = Vec::new();
    for index in 0..n.len() {
        node += n[index];
        let (next, value) = open.get(&parents[node as usize]).copied().unwrap_or_default();
        let (start, width) = (next + x[index], value - v[index]);
        if let Some(parent) = open.get_mut(&parents[node as usize]) {
            parent.0 = start + width;
        }
        open.insert(node, (start, width));
        places.push((start, width));
    }
    for frame in &laid_out {
        let place = ((frame.x * whole).round() as i64, frame.value as i64);
        assert!(places.contains(&place), "{} at {place:?}", frame.name);
    }
}

#[test]
fn a_run_is_rendered_from_its_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let run = fixture::bare();
    std::fs::write(dir.path().join("run.json"), serde_json::to_vec(&run).expect("serialises")).expect("writes");
    let (folder, loaded) = find::load(&dir.path().to_string_lossy()).expect("loads");
    let folder = RunFolder::open(&folder).expect("opens");
    let path = write(&folder, &loaded).expect("renders");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), render(&run, &Profiles::default()));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2, "nothing temporary is left");
    let (run, _) = short();
    let error = write(&folder, &run).expect_err("no dhat files");
    assert!(error.to_string().contains("dhat.json"), "{error}");
}

/// `ALLOC_LADDER_PAGES=DIR cargo test -p xtask -- --ignored pages_for_the_browser` renders what the browser tests open.
#[test]
#[ignore = "writes pages for tests/browser, which runs it"]
fn pages_for_the_browser() {
    let dir = std::env::var_os("ALLOC_LADDER_PAGES").expect("ALLOC_LADDER_PAGES names a folder");
    fixture::write_pages(Path::new(&dir));
}
