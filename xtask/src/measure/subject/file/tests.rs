use super::*;
use crate::measure::subject::found;
use crate::measure::subject::keys::{TABLES, TOP};

const DOCUMENTATION: &str = include_str!("../keys.md");

fn read_text(text: &str) -> Result<Subject, Failure> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("alloc-ladder.toml");
    std::fs::write(&path, text).expect("writes");
    read(&path).map_err(|error| error.downcast::<Failure>().expect("a failure"))
}

/// The message without the folder, and the help.
fn refused(text: &str) -> (String, String) {
    let failure = read_text(text).expect_err("refused");
    assert_eq!(failure.kind, Kind::Usage);
    let at = failure.message.find("alloc-ladder.toml").expect("the file's name");
    (failure.message[at..].to_owned(), failure.help.expect("a way out"))
}

/// Table, key and example of every row of the documentation.
fn documented() -> Vec<(String, String, String)> {
    let rows = DOCUMENTATION.lines().filter(|line| line.starts_with("| ")).skip(1);
    let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (plain(cells[1]), plain(cells[2]), plain(cells[3]))
    })
    .collect()
}

#[test]
fn every_key_is_documented_and_every_documented_key_is_read() {
    let documented = documented();
    let listed: Vec<(String, String)> = TABLES
        .iter()
        .flat_map(|table| table.keys.iter().map(|key| (table.head.to_owned(), (*key).to_owned())))
        .collect();
    let heads = TABLES.map(|table| table.head.trim_matches(['[', ']']));
    assert!(TOP.keys.iter().all(|key| *key == "name" || heads.contains(key)));
    let rows: Vec<(String, String)> = documented.iter().map(|(head, key, _)| (head.clone(), key.clone())).collect();
    assert_eq!(rows[0], (String::new(), "name".to_owned()));
    assert_eq!(rows[1..], listed[..]);
    for (head, key, example) in &documented {
        // What a key needs beside it.
        let beside = match (head.as_str(), key.as_str()) {
            ("[server]" | "[[load]]", "command" | "bin" | "example") => "",
            ("[server]", "health") => "bin = \"a\"\nport = 1\n",
            ("[server]", "args") => "bin = \"a\"\nport = 1\n",
            ("[server]" | "[[load]]", _) => "bin = \"a\"\n",
            ("[[traffic]]", "name") => "streams = 2\n",
            ("[[traffic]]", "load-args") => {
                "name = \"b\"\nstreams = 2\n[[load]]\nbin = \"b\"\n[[traffic]]\nname = \"c\"\n"
            }
            ("[[traffic]]", _) => "name = \"b\"\n",
            ("[[step]]", "name") => "",
            ("[[step]]", _) => "name = \"b\"\n",
            _ => "",
        };
        let server = "[server]\nbin = \"a\"\nport = 1\n";
        let text = match head.as_str() {
            "" => format!("{example}\n{server}"),
            "[server]" if key == "command" => format!("{head}\n{example}\nport = 1\n"),
            "[server]" => format!("{head}\n{beside}{example}\n"),
            "[[step]]" => {
                format!("{server}[[step]]\nname = \"baseline\"\n{head}\n{beside}{example}\nenv = {{ A = \"1\" }}\n")
            }
            _ => format!("{server}{head}\n{beside}{example}\n"),
        };
        // The step of the example changes something already.
        let text = match key.as_str() {
            "load-args" => text
                .replace("env = { A = \"1\" }\n", "")
                .replace("[[step]]\nname = \"baseline\"\n", "[[load]]\nbin = \"b\"\n[[step]]\nname = \"baseline\"\n"),
            "features" | "allocator" | "env" | "args" | "revision" | "patch" => {
                text.replace("env = { A = \"1\" }\n", "")
            }
            _ => text,
        };
        read_text(&text).unwrap_or_else(|error| panic!("{head} {key}: {error}\n{text}"));
    }
}

#[test]
fn a_file_is_read_with_what_it_leaves_out() {
    let subject = read_text("[server]\nbin = \"greeter\"\nport = 50051\n").expect("reads");
    assert_eq!(subject.name, "greeter");
    assert_eq!(subject.server.program.target(), Some(("--bin", "greeter")));
    assert_eq!(subject.window.variable(), "warmup=256,messages=2000,rounds=1");
    assert_eq!((subject.window.rounds, subject.window.timeout, subject.server.ready_within), (5, 60, 30));
    assert_eq!(subject.steps, [Step { name: "baseline".to_owned(), ..Step::default() }]);

    let seconds =
        read_text("[server]\ncommand = \"./a 'b c' d\"\n[window]\nseconds = 2.5\nwarmup = 1\n").expect("reads");
    assert_eq!(
        seconds.server.program.command.map(|words| words.0),
        Some(["./a", "b c", "d"].map(str::to_owned).to_vec())
    );
    assert_eq!(seconds.window.variable(), "warmup=1s,seconds=2.5,rounds=1");
    assert_eq!(seconds.name, "a");
}

#[test]
fn other_traffic_needs_a_load_and_climbs_as_other_changes_do() {
    let steps = "[[step]]\nname = \"one\"\n[[step]]\nname = \"many\"\nload-args = [\"--streams\", \"64\"]\n\
                 [[step]]\nname = \"many-and-lean\"\nargs = [\"--lean\"]\n";
    let subject =
        read_text(&format!("[server]\nbin = \"a\"\nport = 1\n[[load]]\nbin = \"b\"\n{steps}")).expect("reads");
    assert_eq!(subject.steps[2].load_args, ["--streams", "64"]);
    let (message, _) = refused(&format!("[server]\nbin = \"a\"\nport = 1\n{steps}"));
    assert!(message.contains("[[step]] load-args: there is no `[[load]]`"), "{message}");
}

const TRAFFIC: &str = r#"
name = "greeter"
[server]
bin = "a"
port = 1
[[load]]
bin = "b"
args = ["{streams}", "{payload-bytes}"]
[workload]
payload-bytes = 65536
streams = 1
[[traffic]]
name = "many"
streams = 64
compress = "zstd"
[[traffic]]
name = "slow"
load-args = ["--slow", "{streams}"]
"#;

#[test]
fn named_traffic_is_as_the_workload_but_for_what_it_says() {
    let of = |name: Option<&str>| {
        let mut subject = read_text(TRAFFIC).expect("reads");
        found::take_traffic(&mut subject, name).map(|()| subject)
    };
    let usual = of(None).expect("the file's own");
    assert_eq!((usual.name.as_str(), usual.workload.streams), ("greeter", Some(1)));
    let many = of(Some("many")).expect("is there");
    assert_eq!(many.name, "greeter-many");
    let values = |subject: &Subject| subject.workload.values().map(|(_, value)| value.unwrap_or_default());
    assert_eq!(values(&many), ["65536", "64", "", "", "zstd"]);
    let slow = of(Some("slow")).expect("is there");
    assert_eq!(
        (slow.name.as_str(), &slow.traffic_args[..]),
        ("greeter-slow", &["--slow", "{streams}"].map(str::to_owned)[..])
    );
    assert_eq!(values(&slow), values(&usual));
    let error = of(Some("mani")).expect_err("is not there").downcast::<Failure>().expect("a failure");
    assert!(error.message.ends_with("has no traffic `mani`"), "{}", error.message);
    assert_eq!(error.help.as_deref(), Some("did you mean `many`? its traffic: many, slow"));
}

#[test]
fn the_documentation_s_example_of_traffic_is_one() {
    let example = DOCUMENTATION.split("```").nth(1).expect("an example").trim_start_matches("toml\n");
    let subject = read_text(&format!("[server]\nbin = \"greeter\"\nport = 1\n{example}")).expect("reads");
    let names: Vec<String> = subject.traffic.iter().map(|traffic| subject.called(&traffic.name)).collect();
    assert_eq!(names.len(), 1);
    assert!(names.iter().all(|name| DOCUMENTATION.contains(&format!("`{name}`"))), "{names:?}");
    for (key, _) in subject.workload.values() {
        assert!(DOCUMENTATION.contains(&format!("`{{{key}}}`")), "{key} is a placeholder");
    }
}

#[test]
fn steps_climb_on_each_other_unless_they_say_from_where() {
    let text = r#"
[server]
bin = "a"
[[step]]
name = "baseline"
[[step]]
name = "pooled"
features = ["pooled"]
[[step]]
name = "mimalloc"
allocator = "mimalloc"
[[step]]
name = "jemalloc"
allocator = "jemalloc"
from = "pooled"
[[step]]
name = "h2"
patch = { h2 = "=0.4.13", hyper = { git = "https://a/b", tag = "v1" }, tonic = { path = "../tonic" } }
"#;
    let steps = read_text(text).expect("reads").steps;
    assert_eq!(steps[2].features, ["pooled"]);
    assert_eq!(steps[2].from.as_deref(), Some("pooled"));
    assert_eq!((steps[3].allocator.as_deref(), &steps[3].features[..]), (Some("jemalloc"), &["pooled".to_owned()][..]));
    assert_eq!(steps[4].patch["h2"], Patch::Version("0.4.13".to_owned()));
    assert_eq!(steps[4].patch["hyper"], Patch::Git("https://a/b".to_owned(), Some(("tag", "v1".to_owned()))));
    assert_eq!(steps[4].patch["tonic"], Patch::Path("../tonic".into()));
}

#[test]
fn mistakes_are_told_with_file_line_and_key() {
    let server = "[server]\nbin = \"a\"\nport = 1\n";
    for (text, says) in [
        (
            "[server]\nbin = \"a\"\nprot = 1\n".to_owned(),
            "alloc-ladder.toml:3: [server] prot: `[server]` has no key `prot`",
        ),
        ("[sever]\nbin = \"a\"\n".to_owned(), "alloc-ladder.toml:1: sever: the file has no key `sever`"),
        (
            format!("{server}[[step]]\nname = \"a\"\nfeature = [\"x\"]\n"),
            "alloc-ladder.toml:6: [[step]] feature: `[[step]]` has no key",
        ),
        (
            "[server]\nbin = \"a\"\nport = \"x\"\n".to_owned(),
            "alloc-ladder.toml:3: [server] port: it is the text \"x\"; it must be a whole number from 0 to 65535",
        ),
        (
            "[server]\nbin = \"a\"\nport = 70000\n".to_owned(),
            "alloc-ladder.toml:3: [server] port: it is the number 70000; it must be a whole number from 0 to 65535",
        ),
        ("[server\n".to_owned(), "alloc-ladder.toml:1: not TOML:"),
        ("name = \"x\"\n".to_owned(), "`server` is missing"),
        (
            "[server]\nport = 1\n".to_owned(),
            "alloc-ladder.toml:2: [server]: it needs one of `command`, `bin` and `example`",
        ),
        ("[server]\nbin = \"a\"\nexample = \"b\"\n".to_owned(), "it has more than one of"),
        ("[server]\ncommand = \"a\"\npackage = \"b\"\n".to_owned(), "[server] package: it is for `bin`"),
        ("[server]\ncommand = \"'a\"\n".to_owned(), "alloc-ladder.toml:2: [server] command: a quote is not closed"),
        ("[server]\ncommand = []\n".to_owned(), "alloc-ladder.toml:2: [server] command: it names no program"),
        ("[server]\nbin = \"a\"\nhealth = \"\"\n".to_owned(), "[server] health: a health check needs `port`"),
        (
            "[server]\nbin = \"a\"\nargs = [\"{port}\"]\n".to_owned(),
            "`{port}` has {port}, and `[server]` has no `port`",
        ),
        ("[server]\nbin = \"a\"\n[[load]]\nbin = \"b\"\n".to_owned(), "nothing says when the load may begin"),
        (format!("{server}[window]\nmessages = 1\nseconds = 1\n"), "alloc-ladder.toml:6: [window] seconds:"),
        (format!("{server}[window]\nmessages = 0\n"), "alloc-ladder.toml:5: [window] messages: it is at least 1"),
        (format!("{server}[window]\nwarmup = 0.5\n"), "[window] warmup:"),
        (format!("{server}[window]\nrounds = 0\n"), "[window] rounds:"),
        (format!("name = \" \"\n{server}"), "alloc-ladder.toml:1: name: it is 1 to 100 letters, in one line"),
        (
            "[server]\nbin = \"a\"\nargs = [\"a\\u0000b\"]\n".to_owned(),
            "alloc-ladder.toml:2: [server]: `a\\u{0}b` has a zero byte",
        ),
        (format!("{server}[window]\npin = 1\n"), "[window] pin: it is the number 1; it must be true or false"),
        (format!("{server}[workload]\nstreams = 0\n"), "alloc-ladder.toml:5: [workload] streams: it is at least 1"),
        (
            format!("{server}[workload]\npayload-bytes = 5000000000\n"),
            "alloc-ladder.toml:5: [workload] payload-bytes: it is at most 4 GiB",
        ),
        (
            format!("{server}[workload]\ncompress = \"br\"\n"),
            "alloc-ladder.toml:5: [workload] compress: `br` is not known here; it is `gzip` or `zstd`",
        ),
        (
            "[server]\nbin = \"a\"\nargs = [\"{streams}\"]\n[[traffic]]\nname = \"b\"\nstreams = 2\n".to_owned(),
            "`{streams}` has {streams}, and `[workload]` has no `streams`",
        ),
        (format!("{server}[[traffic]]\nstreams = 2\n"), "alloc-ladder.toml:4: [[traffic]]: `name` is missing"),
        (
            format!("{server}[[traffic]]\nname = \"a\"\n"),
            "alloc-ladder.toml:5: [[traffic]] name: traffic `a` is that of `[workload]`: it changes nothing",
        ),
        (
            format!("{server}[[traffic]]\nname = \"a b\"\nstreams = 2\n"),
            "alloc-ladder.toml:5: [[traffic]] name: `a b` is not a name",
        ),
        (
            format!("{server}[[traffic]]\nname = \"a\"\nstreams = 2\n[[traffic]]\nname = \"a\"\nstreams = 3\n"),
            "alloc-ladder.toml:8: [[traffic]] name: there are two",
        ),
        (
            format!("{server}[[traffic]]\nname = \"a\"\nload-args = [\"x\"]\n"),
            "alloc-ladder.toml:6: [[traffic]] load-args: there is no `[[load]]`",
        ),
        (format!("{server}[[step]]\nname = \"a/b\"\n"), "[[step]] name: `a/b` is not a step's name"),
        (
            format!("{server}[[step]]\nname = \"a\"\n[[step]]\nname = \"a\"\nargs = [\"x\"]\n"),
            "alloc-ladder.toml:7: [[step]] name: there are two",
        ),
        (format!("{server}[[step]]\nname = \"a\"\n[[step]]\nname = \"b\"\n"), "step `b` changes nothing"),
        (
            format!("{server}[[step]]\nname = \"a\"\nargs = [\"x\"]\nenv = {{ A = \"1\" }}\n"),
            "[[step]] args: step `a` changes `env` and `args`",
        ),
        (format!("{server}[[step]]\nname = \"a\"\nargs = [\"x\"]\nfrom = \"z\"\n"), "no step before `a` is called `z`"),
        (format!("{server}[[step]]\nname = \"a\"\npatch = {{ h2 = \"0.4\" }}\n"), "`0.4` is not one version"),
        (
            format!("{server}[[step]]\nname = \"a\"\npatch = {{ h2 = {{ git = \"x\", rev = \"a\", tag = \"b\" }} }}\n"),
            "a patch has one of",
        ),
        (
            format!("{server}[[step]]\nname = \"a\"\npatch = {{ h2 = {{ pth = \"x\" }} }}\n"),
            "alloc-ladder.toml:6: patch pth:",
        ),
        (
            "[server]\ncommand = \"a\"\n[[step]]\nname = \"a\"\nfeatures = [\"x\"]\n".to_owned(),
            "a `command` is not built",
        ),
        (format!("{server}[[step]]\nname = \"a\"\nrevision = \"--upload-pack=x\"\n"), "it is not a git revision"),
        (
            format!("{server}[[step]]\nname = \"a\"\nenv = {{ \"A=B\" = \"1\" }}\n"),
            "cannot be the name of an environment variable",
        ),
    ] {
        let (message, _) = refused(&text);
        assert!(message.contains(says), "wanted: {says}\nsaid: {message}\nof:\n{text}");
    }
}

#[test]
fn an_unknown_key_has_a_way_out() {
    let (_, help) = refused("[server]\nbin = \"a\"\nprot = 1\n");
    assert!(help.starts_with("did you mean `port`? there are: command, bin"), "{help}");
    let (_, help) = refused("[server]\nbin = \"a\"\nmessages = 1\n");
    assert!(help.starts_with("`messages` belongs to `[window]`"), "{help}");
    let (_, help) = refused("[server]\nbin = \"a\"\nport = true\n");
    assert!(help.contains("init --keys"), "{help}");
}

#[test]
fn a_file_that_is_not_there_is_no_usage_error_of_its_own() {
    let error = read(Path::new("/nowhere/alloc-ladder.toml")).expect_err("missing").downcast::<Failure>();
    assert_eq!(error.expect("a failure").kind, Kind::Environment);
}

#[test]
fn the_examples_files_are_short_and_read() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples");
    for (folder, name, steps) in [
        ("h2-923", "h2-923", 3),
        ("subjects/collector", "collector", 3),
        ("subjects/flight", "flight", 3),
        ("subjects/etcd", "etcd-keys", 3),
    ] {
        let path = examples.join(folder).join("alloc-ladder.toml");
        let subject = read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((subject.name.as_str(), subject.steps.len()), (name, steps), "{folder}");
        let lines = std::fs::read_to_string(&path).expect("reads").lines().count();
        assert!(lines <= 25, "{folder}: {lines} lines");
    }
}
