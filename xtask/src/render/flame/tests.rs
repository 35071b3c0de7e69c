use std::collections::HashSet;

use expect_test::expect;
use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;
use crate::analyse::dhat::Dhat;
use crate::analyse::fold::{Figures, joined};
use crate::analyse::frame::name::clean;

type Stack<'a> = (Stage, Vec<&'a str>, Figures);

fn site<'a>(stage: Stage, frames: &[&'a str], bytes: u64) -> Stack<'a> {
    (stage, frames.to_vec(), Figures { blocks: 1, bytes, ..Figures::default() })
}

fn profile(stacks: Vec<Stack<'_>>) -> Profile {
    Profile::of(&stacks)
}

fn fixture(text: &str) -> Profile {
    Profile::from_dhat(&Dhat::parse(text.as_bytes()).expect("the fixture is a dhat file"))
}

fn put_server() -> Profile {
    fixture(include_str!("../../../tests-data/put-server.json"))
}

fn get_server() -> Profile {
    fixture(include_str!("../../../tests-data/get-server.json"))
}

fn table(frames: &[Frame]) -> String {
    let row = |frame: &Frame| {
        let before = frame.before.map(|before| format!("{before} -> ")).unwrap_or_default();
        let delta = frame.delta().map(|delta| format!(" {}", delta.name())).unwrap_or_default();
        format!(
            "{} {:.3}+{:.3} {} [{}] {before}{}{delta}\n",
            frame.depth, frame.x, frame.width, frame.name, frame.stage, frame.value
        )
    };
    frames.iter().map(row).collect()
}

/// The titles of an SVG, unescaped, read as any XML reader would; fails on anything that is not well-formed.
fn titles(svg: &str) -> Vec<String> {
    let mut reader = Reader::from_str(svg);
    let mut titles = Vec::new();
    let mut open = Vec::new();
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Eof => break,
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                if name == "title" {
                    titles.push(String::new());
                }
                open.push(name);
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) if open.last().is_some_and(|name| name == "title") => {
                titles.last_mut().expect("a title").push_str(&text);
            }
            Event::GeneralRef(name) if open.last().is_some_and(|name| name == "title") => {
                let text = quick_xml::escape::unescape(&format!("&{};", &*name)).expect("a known entity").into_owned();
                titles.last_mut().expect("a title").push_str(&text);
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?} is never closed");
    titles
}

#[test]
fn frames_lie_where_the_stacks_say() {
    let profile = profile(vec![
        site(Stage::Marshal, &["a", "b"], 300),
        site(Stage::Marshal, &["a", "c"], 100),
        site(Stage::Handler, &["a"], 100),
        site(Stage::Handler, &["a", "b"], 0),
    ]);
    expect![[r#"
        0 0.000+0.800 marshal [marshal] 400
        0 0.800+0.200 handler [handler] 100
        1 0.000+0.800 a [marshal] 400
        1 0.800+0.200 a [handler] 100
        2 0.000+0.600 b [marshal] 300
        2 0.600+0.200 c [marshal] 100
    "#]]
    .assert_eq(&table(&layout(&profile, Unit::Bytes).frames));
    expect![[r#"
        0 0.000+0.500 marshal [marshal] 2
        0 0.500+0.500 handler [handler] 2
        1 0.000+0.500 a [marshal] 2
        1 0.500+0.500 a [handler] 2
        2 0.000+0.250 b [marshal] 1
        2 0.250+0.250 c [marshal] 1
        2 0.750+0.250 b [handler] 1
    "#]]
    .assert_eq(&table(&layout(&profile, Unit::Blocks).frames));
}

#[test]
fn a_name_that_begins_with_anothers_tears_no_frame() {
    // As sorted text, `h2::Foo::bar` stands between `h2::Foo` and `h2::Foo;baz`.
    let profile = profile(vec![
        site(Stage::Other, &["h2::Foo"], 1),
        site(Stage::Other, &["h2::Foo", "baz"], 2),
        site(Stage::Other, &["h2::Foo and more"], 4),
        site(Stage::Other, &["h2::Foo::bar"], 8),
    ]);
    let frames = layout(&profile, Unit::Bytes).frames;
    let foo: Vec<u64> = frames.iter().filter(|frame| frame.name == "h2::Foo").map(|frame| frame.value).collect();
    assert_eq!(foo, [3]);
    assert_eq!(frames.len(), 5);
}

#[test]
fn what_a_step_removed_stays_as_wide_as_it_was() {
    let before = profile(vec![
        site(Stage::Marshal, &["a", "gone"], 600),
        site(Stage::Marshal, &["a", "less"], 200),
        site(Stage::Handler, &["same"], 100),
    ]);
    let after = profile(vec![
        site(Stage::Marshal, &["a", "less"], 150),
        site(Stage::Handler, &["same"], 100),
        site(Stage::Other, &["new"], 100),
    ]);
    let frames = differential_layout(&before, &after, Unit::Bytes).frames;
    expect![[r#"
        0 0.000+0.800 marshal [marshal] 800 -> 150 much-less
        0 0.800+0.100 handler [handler] 100 -> 100 same
        0 0.900+0.100 other [other] 0 -> 100 new
        1 0.000+0.800 a [marshal] 800 -> 150 much-less
        1 0.800+0.100 same [handler] 100 -> 100 same
        1 0.900+0.100 new [other] 0 -> 100 new
        2 0.000+0.600 gone [marshal] 600 -> 0 gone
        2 0.600+0.200 less [marshal] 200 -> 150 less
    "#]]
    .assert_eq(&table(&frames));
    let svg = differential_svg(&before, &after, Unit::Bytes, "put", "pooled-message").expect("drawn");
    let mut titles = titles(&svg);
    titles.sort();
    expect![[r#"
        a (800 → 150 bytes, −81.2%)
        all (900 → 350 bytes, −61.1%)
        gone (600 → 0 bytes, gone)
        handler (100 → 100 bytes, same)
        less (200 → 150 bytes, −25.0%)
        marshal (800 → 150 bytes, −81.2%)
        new (0 → 100 bytes, new)
        other (0 → 100 bytes, new)
        same (100 → 100 bytes, same)"#]]
    .assert_eq(&titles.join("\n"));
    for colour in ["#123f8a", "#a3c1f0", "#e3e6ea", "#a63b05"] {
        assert!(svg.contains(colour), "{colour}");
    }
}

#[test]
fn totals_are_the_profiles_in_every_picture() {
    let (put, get) = (put_server(), get_server());
    for unit in Unit::ALL {
        let frames = layout(&put, unit).frames;
        let stages: Vec<&Frame> = frames.iter().filter(|frame| frame.depth == 0).collect();
        assert_eq!(stages.iter().map(|frame| frame.value).sum::<u64>(), put.total(unit));
        assert!((stages.iter().map(|frame| frame.width).sum::<f64>() - 1.0).abs() < 1e-9);
        for row in put.stages() {
            let row_value = if unit == Unit::Bytes { row.bytes } else { row.blocks };
            let drawn = stages.iter().find(|frame| frame.stage == row.stage).map_or(0, |frame| frame.value);
            assert_eq!(drawn, row_value, "{}", row.stage);
        }
        let svg = svg(&put, unit, "put", "").expect("drawn");
        assert!(svg.contains(&format!("total_samples=\"{}\"", put.total(unit))));
        let drawn = titles(&svg).len();
        assert_eq!(drawn, frames.len() + 1, "every frame and the one for everything");

        let frames = differential_layout(&put, &get, unit).frames;
        let stages = || frames.iter().filter(|frame| frame.depth == 0);
        assert_eq!(stages().map(|frame| frame.value).sum::<u64>(), get.total(unit));
        assert_eq!(stages().filter_map(|frame| frame.before).sum::<u64>(), put.total(unit));
        let widest: u64 = joined(&put, &get)
            .stacks
            .iter()
            .map(|stack| stack.both(|site| site.value(unit)).into_iter().max().expect("two"))
            .sum();
        let svg = differential_svg(&put, &get, unit, "put", "").expect("drawn");
        assert!(svg.contains(&format!("total_samples=\"{widest}\"")));
    }
}

#[test]
fn a_frame_holds_its_children() {
    let frames = layout(&put_server(), Unit::Bytes).frames;
    let mut places = HashSet::new();
    for frame in &frames {
        assert!(places.insert((frame.depth, frame.x.to_bits())), "two frames in one place");
        if frame.depth > 0 {
            let holds = |other: &&Frame| {
                let (left, right) = (frame.x - other.x, other.x + other.width - frame.x - frame.width);
                other.depth + 1 == frame.depth && left > -1e-12 && right > -1e-12
            };
            let parent = frames.iter().find(holds).expect("a parent");
            assert!(parent.value >= frame.value && parent.stage == frame.stage);
        }
    }
}

#[test]
fn names_of_any_kind_are_drawn_and_stay_whole() {
    let long = "x".repeat(10_000);
    let hebrew = "\u{5e9}\u{5dc}\u{5d5}\u{5dd}::\u{5e2}";
    let evil = [
        "<script>alert(1)</script>",
        "a & b &amp; c",
        "it's \"quoted\"",
        "]]>",
        "-->",
        "a;b",
        "line\nbreak",
        hebrew,
        &long,
        "foo 12",
        "foo 12 34",
        "_[k]",
        "# comment",
        "\u{0}\u{1b}",
        "\u{202e}txt",
        "",
        "--",
        "{{closure}}",
        "%s ${x}",
    ];
    for (index, name) in evil.into_iter().enumerate() {
        let before = profile(vec![site(Stage::Handler, &["root", name, "leaf"], 7), site(Stage::Other, &[name], 5)]);
        let after = profile(vec![site(Stage::Handler, &["root", name, "leaf"], 3)]);
        let frames = layout(&before, Unit::Bytes).frames;
        assert_eq!(
            frames.iter().filter(|frame| frame.name == name).map(|frame| frame.value).sum::<u64>(),
            12,
            "{index}"
        );
        for svg in [
            svg(&before, Unit::Bytes, name, name).expect("drawn"),
            differential_svg(&before, &after, Unit::Bytes, name, name).expect("drawn"),
            svg(&Profile::default(), Unit::Bytes, name, name).expect("drawn"),
        ] {
            titles(&svg);
            assert!(!svg.contains("<script>alert"), "{index}");
            assert!(!svg.contains(|c: char| c.is_control() && !c.is_whitespace()), "{index}: no XML");
        }
        let shown = format!("{} (5 bytes, 41.7\u{202f}%)", clean(name));
        let titles_of = |svg: Result<String>| titles(&svg.expect("drawn"));
        let plain = titles_of(svg(&before, Unit::Bytes, "", ""));
        assert!(plain.contains(&shown) && plain.len() == 7, "{index}: {plain:?}");
        let titles = titles_of(differential_svg(&before, &after, Unit::Bytes, "", ""));
        let shown = format!("{} (7 \u{2192} 3 bytes, \u{2212}57.1%)", clean(name));
        assert!(titles.contains(&shown), "{index}: {titles:?}");
    }
}

#[test]
fn a_profile_of_nothing_is_a_picture_that_says_so() {
    let nothing = Profile::default();
    for svg in [
        svg(&nothing, Unit::Bytes, "a < b", "c & d").expect("drawn"),
        differential_svg(&nothing, &nothing, Unit::Blocks, "a < b", "c & d").expect("drawn"),
        svg(&profile(vec![site(Stage::Other, &["a"], 0)]), Unit::Bytes, "a < b", "c & d").expect("drawn"),
    ] {
        assert!(svg.contains("nothing is allocated here any more") && svg.contains("a &lt; b"));
        titles(&svg);
    }
    assert_eq!(layout(&nothing, Unit::Bytes).frames, []);
    // All that was there is gone: that is a graph, not an empty one.
    let gone = differential_layout(&put_server(), &nothing, Unit::Bytes).frames;
    assert!(gone.iter().all(|frame| frame.delta() == Some(Delta::Gone)) && !gone.is_empty());
}

#[test]
fn the_same_profile_gives_the_same_file() {
    let draw = || svg(&put_server(), Unit::Bytes, "put", "server").expect("drawn");
    assert_eq!(draw(), draw());
}

#[test]
fn changes_fall_into_seven_classes() {
    let classes = [(5, 0), (100, 49), (100, 99), (1000, 999), (0, 0), (1000, 1001), (100, 101), (100, 201), (0, 5)]
        .map(|(before, after)| Delta::of(before, after).name());
    let expected = ["gone", "much-less", "less", "same", "same", "same", "more", "much-more", "new"];
    assert_eq!(classes, expected);
    assert_eq!(Delta::of(u64::MAX, u64::MAX / 4), Delta::MuchLess);
    assert_eq!(Delta::ALL.map(Delta::name).into_iter().collect::<HashSet<_>>().len(), Delta::ALL.len());
}

#[test]
fn cpu_time_is_grouped_by_what_it_was_spent_on() {
    let samples = Samples::parse(b"main;server::main;malloc 3\nmain;server::main;recv 1\n").expect("folded stacks");
    let svg = cpu_svg(&samples, "CPU time", "").expect("drawn");
    let titles = titles(&svg);
    for title in
        ["all (4 samples, 100\u{202f}%)", "allocator (3 samples, 75.0\u{202f}%)", "recv (1 samples, 25.0\u{202f}%)"]
    {
        assert!(titles.iter().any(|other| other == title), "{title} is not in {titles:?}");
    }
    let nothing = cpu_svg(&Samples::default(), "CPU time", "").expect("drawn");
    assert!(nothing.contains("no sample was taken"), "{nothing}");
}
