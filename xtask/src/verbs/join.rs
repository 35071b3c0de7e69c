//! `cargo xtask join A B C`: runs of one step each, as the steps of one ladder, with a report of its own.

use alloc_ladder::record::Run;

use crate::cli::failure::{Failure, Kind};
use crate::cli::terminal::{self, Style};
use crate::measure::environment;
use crate::render::page;
use crate::store::find;
use crate::store::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The runs, in the order of their steps: by id, by path, or `newest`
    #[arg(required = true, num_args = 2..)]
    runs: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runs = args.runs.iter().map(|name| Ok(find::load(name)?.1)).collect::<anyhow::Result<Vec<Run>>>()?;
    let mut joined = join(runs, environment::now())?;
    let page = page::keep(&mut joined)?;
    let steps: Vec<&str> = joined.steps.iter().map(|step| step.name.as_str()).collect();
    terminal::progress("Joined", &steps.join(", "));
    terminal::result(&format!("{}\n", page.display()))
}

fn join(runs: Vec<Run>, (created, stamp): (String, String)) -> anyhow::Result<Run> {
    let mut joined: Option<Run> = None;
    for mut run in runs {
        let [step] = run.steps.as_mut_slice() else {
            let steps = run.steps.len();
            return Err(Failure::new(Kind::Usage, format!("`{}` has {steps} steps", run.id))
                .help(format!(
                    "join takes runs of one step; `{} compare` compares ladders of several",
                    place::command()
                ))
                .into());
        };
        if !step.stacks.is_empty() || !step.cpu.is_empty() {
            let message = format!("`{}`: stacks and CPU profiles stay in the run they were taken in", run.id);
            terminal::labelled(Style::Warning, "warning", &message);
            step.stacks.clear();
            step.cpu.clear();
        }
        let Some(joined) = &mut joined else {
            step.set = format!("up-to={}", step.name);
            joined = Some(Run { id: format!("join-{stamp}"), created: created.clone(), ..run });
            continue;
        };
        if !run.subject.is_like(&joined.subject) || run.workload != joined.workload {
            return Err(Failure::new(Kind::Usage, format!("`{}` was measured with another workload", run.id))
                .help("give `attach` the same --messages each time, or compare two runs instead")
                .into());
        }
        let mut step = run.steps.remove(0);
        let taken = |name: &str| joined.steps.iter().any(|other| other.name == name);
        let free = (2..).map(|number| format!("{}-{number}", step.name)).find(|name| !taken(name));
        if let Some(free) = free.filter(|_| taken(&step.name)) {
            step.name = free;
        }
        step.set = format!("up-to={}", step.name);
        joined.partial |= run.partial;
        joined.steps.push(step);
    }
    joined.ok_or_else(|| Failure::new(Kind::Usage, "there is nothing to join").into())
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::{Shape, Subject, Workload};
    use alloc_ladder::subject::scenario::Scenario;
    use alloc_ladder::{Side, Stage};

    use crate::fixture;

    use super::*;

    fn attached(id: &str, step: &str) -> Run {
        let counts = fixture::count(Side::Server, 0, &[(Stage::Handler, 3, 300)]);
        let subject = Subject { name: format!("program-of-{id}"), shape: Shape::Program };
        Run { subject, steps: vec![fixture::step(step, vec![counts])], ..fixture::run(id, Scenario::Put) }
    }

    fn now() -> (String, String) {
        ("2026-08-20T14:02:11Z".to_owned(), "20260820-140211".to_owned())
    }

    #[test]
    fn steps_keep_their_order_and_get_names_of_their_own() {
        let runs = vec![attached("a", "before"), attached("b", "attached"), attached("c", "attached")];
        let joined = join(runs, now()).expect("joins");
        assert_eq!(joined.id, "join-20260820-140211");
        let names: Vec<&str> = joined.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["before", "attached", "attached-2"]);
        assert_eq!(joined.steps[2].set, "up-to=attached-2");
        assert!(joined.steps.iter().all(|step| step.counts(Side::Server).is_some()));
    }

    #[test]
    fn a_ladder_and_another_workload_are_refused() {
        let mut ladder = attached("a", "one");
        ladder.steps.push(fixture::step("two", Vec::new()));
        let error = join(vec![ladder, attached("b", "x")], now()).expect_err("two steps").to_string();
        assert_eq!(error, "`a` has 2 steps");
        let mut other = attached("b", "x");
        other.workload = Workload { messages: 7, ..other.workload };
        let error = join(vec![attached("a", "x"), other], now()).expect_err("another workload").to_string();
        assert_eq!(error, "`b` was measured with another workload");
    }
}
