//! The runs under version control are of the ladders as they are: README, `check` and `advise` speak of their steps.

use std::path::Path;

use alloc_ladder::record::Run;
use alloc_ladder::subject::ladder::ladder;
use alloc_ladder::subject::scenario::Scenario;

#[test]
fn a_reference_run_has_the_steps_of_its_ladder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a member of the workspace");
    for scenario in Scenario::ALL {
        let record = root.join("profiles/reference").join(scenario.name()).join("run.json");
        let json = std::fs::read_to_string(&record).expect("every scenario has a reference run");
        let run = Run::from_json(&json).expect("the record is a run");
        let measured: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        let steps: Vec<&str> = ladder(scenario).iter().map(|step| step.name).collect();
        assert_eq!(
            measured, steps,
            "{scenario}: measure it again: cargo xtask profile {scenario} --out profiles/reference/{scenario}"
        );
    }
}
