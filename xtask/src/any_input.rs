//! No input panics: every reader of files is given text that is nearly right, and what it accepts goes the way to the
//! page and the exports.

use alloc_ladder::record::Run;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::analyse::budget::{Budgets, Whose};
use crate::analyse::cpu::Samples;
use crate::analyse::dhat::{Dhat, LARGEST_TOTAL};
use crate::analyse::fold::{Profile, Unit, union};
use crate::analyse::frame::name::Name;
use crate::analyse::profiles::Profiles;
use crate::analyse::sites::{Stacks, changes};
use crate::analyse::sweep::Sweep;
use crate::fixture;
use crate::render::{flame, page, pprof};
use crate::store::{fits, layout};

/// The pieces names are made of, well formed and not.
fn name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<"),
        Just(">"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just("::"),
        Just(" as "),
        Just(" for "),
        Just("impl "),
        Just("dyn "),
        Just("&"),
        Just("->"),
        Just(" ("),
        Just(";"),
        Just(" 12"),
        Just(","),
        Just("0x1: "),
        Just("(in /opt/my app (1)/bin)"),
        Just("(src/main.rs:1:2)"),
        Just("{{closure}}"),
        Just("tonic"),
        Just("codec"),
        Just("Vec"),
        Just("T"),
        Just("h0123456789abcdef"),
        Just("é"),
        Just("\u{202e}"),
        Just("🦀"),
        Just("\0"),
        Just("\n"),
        Just("__rust_alloc"),
        Just("malloc"),
        Just("_"),
        Just("@"),
        Just("</script>"),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Counts around everything that may not fit.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..1000_u64,
        1 => prop_oneof![Just(LARGEST_TOTAL / 2), Just(LARGEST_TOTAL), Just(LARGEST_TOTAL + 1), Just(u64::MAX)],
        1 => any::<u64>(),
    ]
}

/// A dhat file of the right shape; whether its numbers fit is another matter.
fn dhat() -> impl Strategy<Value = String> {
    let point = (count(), count(), count(), count(), vec(0..9_u32, 0..12));
    (vec(name(), 1..8), vec(point, 0..6)).prop_map(|(names, points)| {
        let points: Vec<_> = points
            .into_iter()
            .map(|(tb, tbk, gb, gbk, fs)| serde_json::json!({ "tb": tb, "tbk": tbk, "gb": gb, "gbk": gbk, "fs": fs }))
            .collect();
        serde_json::json!({ "dhatFileVersion": 2, "mode": "heap", "pps": points, "ftbl": names }).to_string()
    })
}

/// `text` with some of its bytes changed, taken out or doubled.
fn damaged(text: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let bytes = text.as_bytes().to_vec();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    vec(change, 1..12).prop_map(move |changes| {
        let mut bytes = bytes.clone();
        for (index, byte, what) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                // A digit more is a number that may not fit.
                _ => bytes.insert(at, b'9'),
            }
        }
        bytes
    })
}

/// Everything that is made of one dhat file, or of two.
fn draw(before: &Profile, after: &Profile) {
    for unit in Unit::ALL {
        assert_eq!(flame::layout(after, unit).whole, after.total(unit));
        flame::differential_layout(before, after, unit);
        flame::svg(after, unit, "title", "").expect("draws");
        flame::differential_svg(before, after, unit, "title", "").expect("draws");
        union(before, after, unit);
        after.folded(unit);
    }
    pprof::encode(&[(Side::Server, "", after)], std::io::sink()).expect("a sink takes it");
    let stacks = |profile: &Profile| Stacks { profile: profile.clone(), messages: 3 };
    changes(&stacks(before), &stacks(after));
}

const BUDGETS: &str = "[put.baseline.server]\nallocs-per-message = 3\nbytes-per-message = { max = 100, tolerance = 0.1 }\n\
                       [put.baseline.server.handler]\nallocs-per-message = 0.5\n";

/// A sweep as it is written, of two points and a round each.
fn sweep() -> String {
    let text = std::fs::read_to_string(layout::reference(Scenario::Put).join("sweep.json")).expect("a reference sweep");
    let mut sweep: Sweep = serde_json::from_str(&text).expect("a sweep");
    sweep.points.truncate(2);
    for point in &mut sweep.points {
        point.measurements.retain(|measurement| measurement.round == 0);
        point.measurements.truncate(4);
        point.raw_tokio.truncate(1);
    }
    serde_json::to_string(&sweep).expect("serialises")
}

fn run() -> Run {
    let counts = fixture::count(Side::Server, 0, &[(Stage::Handler, 900, 41_000)]);
    let steps = vec![fixture::step("baseline", vec![counts, fixture::time(Side::Server, 0, 1000, 1_000_000)])];
    Run { steps, ..fixture::run("put-a", Scenario::Put) }
}

/// Of each test, unless `PROPTEST_CASES` says otherwise. Drawing takes most of the time.
fn cases() -> u32 {
    std::env::var_os("PROPTEST_CASES").map_or(96, |_| ProptestConfig::default().cases)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn no_name_panics(name in prop_oneof![name(), ".*"]) {
        let name = Name::parse(&name);
        prop_assert!(!name.short.is_empty() && !name.full.contains([';', '\n']));
    }

    #[test]
    fn no_dhat_file_panics(before in dhat(), after in dhat()) {
        if let (Ok(before), Ok(after)) = (Dhat::parse(before.as_bytes()), Dhat::parse(after.as_bytes())) {
            prop_assert_eq!(Profile::raw(&after).total_bytes(), Profile::from_dhat(&after).total_bytes());
            draw(&Profile::from_dhat(&before), &Profile::from_dhat(&after));
        }
    }

    #[test]
    fn no_damaged_dhat_file_panics(file in dhat().prop_flat_map(|text| damaged(&text))) {
        if let Ok(dhat) = Dhat::parse(&file) {
            draw(&Profile::default(), &Profile::from_dhat(&dhat));
        }
    }

    #[test]
    fn no_folded_file_panics(lines in vec((name(), count()), 0..8), noise in vec(any::<u8>(), 0..64)) {
        let text: String = lines.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        for file in [text.as_bytes(), &noise] {
            if let Ok(samples) = Samples::parse(file) {
                samples.folded();
                flame::cpu_svg(&samples, "title", "").expect("draws");
            }
        }
    }

    #[test]
    fn no_budget_panics(file in damaged(BUDGETS), noise in ".*") {
        let _ = Budgets::read(&file, Whose::Study);
        let _ = Budgets::read(noise.as_bytes(), Whose::Anybody);
    }

    #[test]
    fn no_run_panics(file in damaged(&serde_json::to_string(&run()).expect("serialises"))) {
        let Ok(text) = String::from_utf8(file) else { return Ok(()) };
        if let Ok(run) = Run::from_json(&text) && fits::check(&text).is_ok() {
            let profiles = Profiles::default();
            page::render(&run, &profiles);
            crate::render::text::summary::text(&run, &profiles, std::path::Path::new("report.html"), None, Some(80));
        }
    }

    #[test]
    fn no_sweep_panics(file in damaged(&sweep())) {
        let Ok(text) = String::from_utf8(file) else { return Ok(()) };
        if let Ok(sweep) = serde_json::from_str::<Sweep>(&text) && fits::check(&text).is_ok() {
            crate::render::text::sweep::text(&sweep);
            crate::render::text::sweep::markdown(&sweep);
        }
    }
}

#[test]
fn types_in_types_without_end_are_left_whole() {
    for (open, close) in [("<", ">"), ("<&dyn <", "> as A>::f>"), ("(", ")"), ("<T as <", "")] {
        let name = open.repeat(50_000) + "a::B" + &close.repeat(50_000);
        assert!(!Name::parse(&name).short.is_empty());
    }
}
