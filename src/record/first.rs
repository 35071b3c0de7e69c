//! Schema 1, which is read and no longer written.
//!
//! It named a scenario where a record now names a subject, and held what was made of the raw files: stages of call sites
//! and shares of CPU time. Those are left behind, and made again from the files.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Environment, Limit, Measurement, SCHEMA, Shape, Stacks, Subject, Workload};
use crate::Side;

#[derive(Deserialize)]
pub(super) struct Run {
    id: String,
    created: String,
    scenario: Option<Scenario>,
    workload: Workload,
    stacks_workload: Option<Workload>,
    environment: Environment,
    #[serde(default)]
    server_environment: Option<Environment>,
    partial: bool,
    seed: u64,
    steps: Vec<StepRecord>,
    #[serde(default)]
    limits: Vec<Limit>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scenario {
    Put,
    Get,
    Unary,
}

#[derive(Deserialize)]
struct StepRecord {
    name: String,
    set: String,
    tuning: BTreeMap<String, String>,
    measurements: Vec<Measurement>,
    #[serde(default)]
    stacks: Vec<Stacks>,
    #[serde(default)]
    cpu: Vec<CpuProfile>,
}

#[derive(Deserialize)]
struct CpuProfile {
    side: Side,
    /// `cpu.folded`, made from the raw file beside it.
    folded: String,
}

impl From<Run> for super::Run {
    fn from(run: Run) -> super::Run {
        super::Run {
            schema: SCHEMA,
            subject: subject(run.scenario, &run.environment),
            id: run.id,
            created: run.created,
            workload: run.workload,
            stacks_workload: run.stacks_workload,
            environment: run.environment,
            server_environment: run.server_environment,
            partial: run.partial,
            seed: run.seed,
            steps: run.steps.into_iter().map(super::StepRecord::from).collect(),
            limits: run.limits,
        }
    }
}

/// A run without a scenario was of a program, and its command line began with the program.
fn subject(scenario: Option<Scenario>, environment: &Environment) -> Subject {
    let (name, shape) = match scenario {
        Some(Scenario::Put) => ("put", Shape::Upload),
        Some(Scenario::Get) => ("get", Shape::Download),
        Some(Scenario::Unary) => ("unary", Shape::Unary),
        None => {
            let program = environment.command.split(' ').next().unwrap_or_default();
            (program.rsplit('/').next().unwrap_or_default(), Shape::Program)
        }
    };
    Subject { name: name.to_owned(), shape }
}

impl From<StepRecord> for super::StepRecord {
    fn from(step: StepRecord) -> super::StepRecord {
        super::StepRecord {
            name: step.name,
            set: step.set,
            settings: step.tuning,
            about: None,
            from: None,
            failure: None,
            measurements: step.measurements,
            stacks: step.stacks,
            cpu: step.cpu.into_iter().map(super::CpuProfile::from).collect(),
        }
    }
}

impl From<CpuProfile> for super::CpuProfile {
    fn from(CpuProfile { side, folded }: CpuProfile) -> super::CpuProfile {
        let raw = match folded.strip_suffix(".folded") {
            Some(stem) => format!("{stem}.raw.folded"),
            None => folded,
        };
        super::CpuProfile { side, raw }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Run;
    use super::*;

    /// A record as the first version wrote it.
    fn first(scenario: &str) -> String {
        let workload = r#"{"chunk":65536,"messages":2000,"warmup":256,"streams":1,"connections":1,"retain":0}"#;
        let environment = r#"{"revision":"","dirty":false,"rustc":"","profile":"","allocator":"","cpu":"","cores":2,
            "kernel":"","command":"target/release/service --port 1"}"#;
        format!(
            r#"{{"schema":1,"id":"put-a","created":"2026-08-20T14:02:11Z","scenario":{scenario},"workload":{workload},
            "stacks_workload":null,"environment":{environment},"partial":false,"seed":7,"steps":[{{
                "name":"rope","set":"up-to=rope","tuning":{{"deframe":"rope","client":"channel"}},"measurements":[],
                "stacks":[{{"side":"server","messages":400,"payload_bytes":5,"total_blocks":1,"total_bytes":2,
                    "peak_bytes":3,"stages":[{{"stage":"handler","blocks":1,"bytes":2}}],"dhat":"05-rope/server/dhat.json"}}],
                "cpu":[{{"side":"client","samples":9,"allocator_share":0.5,"copy_share":0.1,"kernel_share":0.1,
                    "folded":"05-rope/client/cpu.folded"}}]}}]}}"#
        )
    }

    #[test]
    fn a_record_of_the_first_schema_becomes_one_of_the_second() {
        let run = Run::from_json(&first("\"put\"")).expect("reads");
        assert_eq!(run.schema, SCHEMA);
        assert_eq!(run.subject, Subject { name: "put".to_owned(), shape: Shape::Upload });
        let [step] = &run.steps[..] else { panic!("one step") };
        assert_eq!((step.set.as_str(), step.settings["deframe"].as_str()), ("up-to=rope", "rope"));
        assert_eq!(step.stacks[0].dhat, "05-rope/server/dhat.json");
        assert_eq!(step.cpu[0].raw, "05-rope/client/cpu.raw.folded", "the raw file lies beside the one made from it");
        let again = Run::from_json(&serde_json::to_string(&run).expect("serialises")).expect("reads");
        assert_eq!(again, run);
    }

    #[test]
    fn a_run_of_a_program_is_called_after_it() {
        let run = Run::from_json(&first("null")).expect("reads");
        assert_eq!(run.subject, Subject { name: "service".to_owned(), shape: Shape::Program });
    }
}
