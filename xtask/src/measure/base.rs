//! A change and what it is based on: two commits, and runs of them where there are none yet: of the study, and of what
//! `alloc-ladder.toml` describes.
//!
//! The base is measured in a git worktree of its own, so that nothing of the user's tree changes. Its builds are kept in
//! `target/alloc-ladder/base`, so that the next base is built in less time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloc_ladder::record::{Instrument, Run};
use alloc_ladder::subject::scenario::Scenario;
use anyhow::Context;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal;
use crate::measure::{environment, interrupt, subject};
use crate::store::{layout, place};

/// What is checked out, and where it left its base branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The last commit that both have, in full.
    pub(crate) base: String,
    /// The commit that is checked out, in full.
    pub(crate) head: String,
    /// Whether files under version control differ from it.
    pub(crate) dirty: bool,
}

impl Change {
    /// Since `branch`, in the repository of `folder`.
    ///
    /// # Errors
    /// [`Kind::Usage`] when git knows no such branch, shares no commit with it, or there is no change.
    pub(crate) fn since(branch: &str, folder: &Path) -> anyhow::Result<Change> {
        let head = git(folder, &["rev-parse", "--verify", "HEAD^{commit}"]).map_err(|why| {
            let message = format!("there is no commit to compare in {}: {why}", folder.display());
            Failure::new(Kind::Usage, message).help("--base needs a git repository")
        })?;
        let fetch =
            || format!("fetch it: git fetch origin {branch}; in GitHub Actions, `fetch-depth: 0` at the checkout");
        // A name that begins so would be an option of git's.
        let name = if branch.starts_with('-') { String::new() } else { format!("{branch}^{{commit}}") };
        let tip = git(folder, &["rev-parse", "--verify", "--end-of-options", &name])
            .map_err(|_| Failure::new(Kind::Usage, format!("git knows no `{branch}`")).help(fetch()))?;
        let base = git(folder, &["merge-base", &tip, &head]).map_err(|_| {
            Failure::new(Kind::Usage, format!("`{branch}` and what is checked out have no commit in common"))
                .help(fetch())
        })?;
        let dirty = git(folder, &["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|text| !text.is_empty());
        if base == head && !dirty {
            return Err(Failure::new(Kind::Usage, format!("nothing changed since `{branch}`"))
                .help("name the branch that the change is to be merged into")
                .into());
        }
        Ok(Change { base, head, dirty })
    }

    /// Whether a run is of the base.
    pub(crate) fn is_base(&self, run: &Run) -> bool {
        is_of(run, &self.base) && !run.environment.dirty
    }

    /// Whether a run is of what is checked out.
    pub(crate) fn is_head(&self, run: &Run) -> bool {
        is_of(run, &self.head) && (run.environment.dirty || self.base != self.head)
    }
}

fn is_of(run: &Run, commit: &str) -> bool {
    !run.environment.revision.is_empty() && commit.starts_with(&run.environment.revision)
}

/// A commit as people write it.
pub(crate) fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// What a run of the study is measured with, so that another can be measured alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alike(Vec<String>);

impl Alike {
    /// By the defaults of `profile`.
    pub(crate) fn defaults(scenario: Scenario) -> Alike {
        Alike(vec![scenario.name().to_owned()])
    }

    /// As `run` was.
    pub(crate) fn to(run: &Run, scenario: Scenario) -> Alike {
        let used =
            |instrument| run.steps.iter().flat_map(|step| &step.measurements).any(|m| m.instrument == instrument);
        let has_stacks = run.steps.iter().any(|step| !step.stacks.is_empty());
        let instruments = Instrument::ALL.into_iter().filter(|instrument| match instrument {
            Instrument::Stacks => has_stacks,
            Instrument::Cpu => run.steps.iter().any(|step| !step.cpu.is_empty()),
            instrument => used(*instrument),
        });
        let instruments: Vec<&str> = instruments.map(Instrument::name).collect();
        let steps = run.steps.iter().map(|step| step.set.strip_prefix("up-to=").unwrap_or(&step.set));
        let steps: Vec<&str> = steps.collect();
        let rounds = run.steps.iter().flat_map(|step| &step.measurements).filter(|m| m.instrument == Instrument::Time);
        let rounds = rounds.map(|measured| measured.round + 1).max();
        let of = &run.workload;
        let mut args = vec![scenario.name().to_owned()];
        let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        flag("steps", steps.join(","));
        flag("instruments", instruments.join(","));
        if of.idle {
            flag("idle-streams", of.streams.to_string());
            if of.large_first > 0 {
                flag("large-first", of.large_first.to_string());
            }
        } else {
            flag("messages", of.messages.to_string());
            if scenario.shape().has_payload() {
                flag("chunk", of.chunk.to_string());
            }
            flag("streams", of.streams.to_string());
        }
        flag("connections", of.connections.to_string());
        for (name, number) in [("retain", of.retain), ("metadata", of.metadata), ("spans", of.spans), ("echo", of.echo)]
        {
            if number > 0 {
                flag(name, number.to_string());
            }
        }
        if let Some(compression) = of.compress {
            flag("compress", compression.name().to_owned());
        }
        if of.round_trip_us > 0 {
            flag("round-trip", format!("{}us", of.round_trip_us));
        }
        if let Some(rounds) = rounds {
            flag("runs", rounds.to_string());
        }
        flag("profile", run.environment.profile.clone());
        flag("allocator", run.environment.allocator.clone());
        if of.tls {
            args.push("--tls".to_owned());
        }
        Alike(args)
    }
}

/// Measures the study at a commit, in a worktree of its own. Says where the run is.
///
/// # Errors
/// When git or the measuring fails; what that says is on stderr.
pub(crate) fn at_commit(commit: &str, alike: &Alike) -> anyhow::Result<PathBuf> {
    let root = layout::root();
    let folder = root.join("target/alloc-ladder/base");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let tree = Worktree::of(commit, &root, folder.join(short(commit)))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.arg("xtask").current_dir(&tree.folder).env("CARGO_TARGET_DIR", folder.join("target"));
    profile(command, alike, &format!("the base, {}", short(commit)), "base")
}

/// Measures the study as it is checked out. Says where the run is.
///
/// # Errors
/// When the measuring fails; what that says is on stderr.
pub(crate) fn here(alike: &Alike) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no file")?;
    profile(Command::new(own), alike, "the change", "change")
}

fn profile(mut command: Command, alike: &Alike, what: &str, name: &str) -> anyhow::Result<PathBuf> {
    let Alike(args) = alike;
    let out = layout::runs().join(format!("{}-{name}-{}", args[0], environment::now().1));
    command.arg("profile").args(args).arg("--out").arg(&out);
    measured(command, what)?;
    Ok(out)
}

/// What a command that measures prints on stdout.
fn measured(mut command: Command, what: &str) -> anyhow::Result<Vec<u8>> {
    interrupt::catch_interrupts()?;
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    terminal::progress("Measuring", &format!("{what}: {}", words.join(" ")));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let done = child.and_then(|child| child.wait_with_output()).context("cannot start what measures")?;
    interrupt::interrupted()?;
    if !done.status.success() {
        return Err(Failure::new(Kind::Run, format!("{what} could not be measured: {}", done.status))
            .help(format!("measure it yourself, and name both runs: {} compare OLD NEW", place::command()))
            .into());
    }
    Ok(done.stdout)
}

/// Measures what `file` describes as it is checked out. Says where the run is.
///
/// # Errors
/// As [`here`].
pub(crate) fn described_here(file: &Path) -> anyhow::Result<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new("."));
    described(folder, None, None, "the change").map(|id| layout::runs().join(id))
}

/// Measures what `file` describes as it was at a commit, the steps and as many rounds as of `like`. A commit without the
/// file is measured by today's. Says where the run is.
///
/// # Errors
/// As [`at_commit`].
pub(crate) fn described_at(commit: &str, file: &Path, like: &Run) -> anyhow::Result<PathBuf> {
    let root = layout::root();
    let base = layout::runs().join("base");
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    let top = git(&root, &["rev-parse", "--show-toplevel"]).map_or_else(|_| root.clone(), PathBuf::from);
    let tree = Worktree::of(commit, &root, base.join(short(commit)))?;
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let file = whole(file);
    let within = file.strip_prefix(whole(&top)).unwrap_or(Path::new(subject::FILE));
    let there = tree.folder.join(within);
    let folder = there.parent().expect("a file lies in a folder");
    if !there.is_file() {
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::copy(&file, &there))
            .with_context(|| format!("cannot copy {} into the worktree of {}", file.display(), short(commit)))?;
    }
    let target = base.join("target");
    let id = described(folder, Some(&target), Some(like), &format!("the base, {}", short(commit)))?;
    // Where the command keeps runs: in cargo's target folder, or without a workspace in the folder itself.
    let places = [target, folder.join("target")].map(|target| target.join("alloc-ladder").join(&id));
    let made = places.iter().find(|run| run.join(layout::RUN_JSON).is_file());
    let made = made.with_context(|| format!("the run {id} of the base is not where it should be"))?;
    let kept = layout::runs().join(format!("{id}-base"));
    std::fs::rename(made, &kept).with_context(|| format!("cannot keep {} as {}", made.display(), kept.display()))?;
    Ok(kept)
}

/// Climbs what the folder's file describes, by this command. Says the run's id.
fn described(folder: &Path, target: Option<&Path>, like: Option<&Run>, what: &str) -> anyhow::Result<String> {
    let mut command = Command::new(std::env::current_exe().context("this program has no file")?);
    command.args(["profile", "--json", "--yes"]).current_dir(folder);
    if let Some(like) = like {
        // A base that lacks a step of the change has the others to be compared.
        let there = subject::read(&folder.join(subject::FILE))?;
        let has = |name: &str| there.steps.iter().any(|step| step.name == name);
        let steps: Vec<&str> = like.steps.iter().map(|step| step.name.as_str()).filter(|name| has(name)).collect();
        if !steps.is_empty() {
            command.args(["--steps", &steps.join(",")]);
        }
        let of = there.traffic.iter().find(|traffic| there.called(&traffic.name) == like.subject.name);
        if let Some(traffic) = of {
            command.args(["--traffic", &traffic.name]);
        }
        let budget = like.environment.timing.as_ref().and_then(|timing| timing.budget_seconds);
        // Within a budget there are more timed rounds than counted ones.
        let measured = like.steps.iter().flat_map(|step| &step.measurements);
        let of = measured.filter(|measured| budget.is_none() || measured.instrument == Instrument::Count);
        if let Some(rounds) = of.map(|measured| measured.round + 1).max() {
            command.args(["--rounds", &rounds.to_string()]);
        }
        if let Some(budget) = budget {
            command.args(["--budget", &budget.to_string()]);
        }
    }
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target);
    }
    let record = measured(command, what)?;
    let run = Run::from_json(&String::from_utf8_lossy(&record)).context("what measured printed no run")?;
    Ok(run.id)
}

/// A checkout that goes when it is done with.
struct Worktree {
    root: PathBuf,
    folder: PathBuf,
}

impl Worktree {
    fn of(commit: &str, root: &Path, folder: PathBuf) -> anyhow::Result<Worktree> {
        let tree = Worktree { root: root.to_owned(), folder };
        // What a killed process left.
        tree.remove();
        let path = tree.folder.to_string_lossy().into_owned();
        git(root, &["worktree", "add", "--detach", "--quiet", &path, commit]).map_err(|why| {
            Failure::new(Kind::Environment, format!("git made no worktree of {}: {why}", short(commit)))
                .help(format!("{path} must be free and on a disk that has room"))
        })?;
        Ok(tree)
    }

    fn remove(&self) {
        let _ = git(&self.root, &["worktree", "remove", "--force", &self.folder.to_string_lossy()]);
        let _ = git(&self.root, &["worktree", "prune"]);
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        self.remove();
    }
}

/// What git says, or why it fails.
fn git(folder: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(args).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::Workload;
    use alloc_ladder::{Side, Stage};

    use crate::fixture;

    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("creates");
        for args in [
            &["init", "--quiet", "--initial-branch", "main"][..],
            &["config", "user.email", "a@example.org"],
            &["config", "user.name", "a"],
            &["config", "commit.gpgsign", "false"],
        ] {
            git(folder.path(), args).expect("git works");
        }
        commit(folder.path(), "one");
        folder
    }

    fn commit(folder: &Path, text: &str) -> String {
        std::fs::write(folder.join("file"), text).expect("writes");
        git(folder, &["add", "file"]).expect("adds");
        git(folder, &["commit", "--quiet", "-m", text]).expect("commits");
        git(folder, &["rev-parse", "HEAD"]).expect("there is one")
    }

    #[test]
    fn the_base_is_where_the_branch_was_left() {
        let folder = repository();
        let here = folder.path();
        let since = |branch: &str| Change::since(branch, here);
        assert_eq!(since("main").expect_err("no change").to_string(), "nothing changed since `main`");
        let base = git(here, &["rev-parse", "HEAD"]).expect("there is one");
        git(here, &["switch", "--quiet", "--create", "topic"]).expect("switches");
        let head = commit(here, "two");
        git(here, &["switch", "--quiet", "main"]).expect("switches");
        commit(here, "of others");
        git(here, &["switch", "--quiet", "topic"]).expect("switches");
        let change = since("main").expect("a change");
        assert_eq!(change, Change { base: base.clone(), head: head.clone(), dirty: false });
        let mut run = fixture::run("put-1", Scenario::Put);
        assert!(!change.is_base(&run) && !change.is_head(&run), "a run that says no revision");
        run.environment.revision = short(&base).to_owned();
        assert!(change.is_base(&run) && !change.is_head(&run));
        run.environment.dirty = true;
        assert!(!change.is_base(&run), "with something else in it");
        run.environment.revision = short(&head).to_owned();
        assert!(change.is_head(&run));
        for branch in ["nowhere", "--help", "", "main..topic"] {
            let failure = since(branch).expect_err(branch).downcast::<Failure>().expect("a failure");
            assert_eq!(failure.message, format!("git knows no `{branch}`"));
            assert!(failure.help.is_some_and(|help| help.contains("fetch-depth: 0")));
        }
        // What is not committed is a change too, and its base is then the commit.
        std::fs::write(here.join("file"), "three").expect("writes");
        let change = since("topic").expect("a change");
        assert_eq!((change.base.as_str(), change.dirty), (head.as_str(), true));
        assert!(change.is_head(&run) && !change.is_base(&run));
        assert!(Change::since("main", Path::new("/")).is_err(), "no repository");
    }

    #[test]
    fn a_worktree_goes_when_it_is_done_with_and_when_it_was_left() {
        let folder = repository();
        let head = git(folder.path(), &["rev-parse", "HEAD"]).expect("there is one");
        let place = folder.path().join("target/base");
        let tree = Worktree::of(&head, folder.path(), place.clone()).expect("makes");
        assert_eq!(std::fs::read_to_string(place.join("file")).expect("reads"), "one");
        std::mem::forget(tree);
        drop(Worktree::of(&head, folder.path(), place.clone()).expect("makes again"));
        assert!(!place.exists());
        let left = git(folder.path(), &["worktree", "list"]).expect("lists");
        assert_eq!(left.lines().count(), 1, "{left}");
    }

    #[test]
    fn a_base_is_measured_as_the_change_was() {
        let counted = |round| fixture::count(Side::Server, round, &[(Stage::Handler, 1, 1)]);
        let timed = (0..4).map(|round| fixture::time(Side::Server, round, 1, 1));
        let mut run = fixture::run("put-1", Scenario::Put);
        run.workload = Workload { messages: 300, chunk: 4096, streams: 8, retain: 2, ..Workload::default() };
        run.environment.profile = "dev".to_owned();
        run.environment.allocator = "system".to_owned();
        run.steps = vec![fixture::step("rope", timed.chain([counted(0), counted(1)]).collect())];
        let Alike(args) = Alike::to(&run, Scenario::Put);
        assert_eq!(
            args.join(" "),
            "put --steps rope --instruments time,count --messages 300 --chunk 4096 --streams 8 --connections 1 --retain 2 \
             --runs 4 --profile dev --allocator system"
        );
        run.workload = Workload { tls: true, echo: 2, idle: true, round_trip_us: 10_000, metadata: 3, ..run.workload };
        let of_idle = Alike::to(&run, Scenario::Put).0.join(" ");
        assert!(
            of_idle.contains("--idle-streams 8 --connections 1 --retain 2 --metadata 3 --echo 2 --round-trip 10000us")
        );
        assert!(of_idle.ends_with("--allocator system --tls"), "{of_idle}");
        assert!(!Alike::to(&run, Scenario::Unary).0.contains(&"--chunk".to_owned()));
        assert_eq!(Alike::defaults(Scenario::Get).0, ["get"]);
    }
}
