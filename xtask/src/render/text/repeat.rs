//! Whether counts repeat: every step is counted twice.

use alloc_ladder::Side;
use alloc_ladder::record::{Instrument, Measurement, Run};

use crate::analyse::judge;

/// `11 steps twice: 12 of 22 numbers of allocations repeat exactly, the others within 1.11 % (bytes-field, server)`.
pub(crate) fn line(run: &Run) -> String {
    let mut exact = 0;
    let mut others = Vec::new();
    for step in &run.steps {
        for side in Side::ALL {
            let blocks: Vec<f64> =
                step.of(side, Instrument::Count).filter_map(Measurement::blocks_per_message).collect();
            match judge::range(&blocks) {
                (least, most) if least < most => others.push(((most - least) / most, &step.name, side)),
                _ => exact += usize::from(!blocks.is_empty()),
            }
        }
    }
    let steps = run.steps.len();
    let all = exact + others.len();
    let worst = others.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let others = worst.map_or_else(String::new, |(apart, step, side)| {
        format!(", the others within {:.2} % ({step}, {side})", apart * 100.0)
    });
    format!("{steps} steps twice: {exact} of {all} numbers of allocations repeat exactly{others}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::page::fixture;

    #[test]
    fn what_does_not_repeat_is_named() {
        let mut run = fixture::run();
        for step in &mut run.steps {
            let again: Vec<Measurement> =
                step.measurements.iter().filter(|m| m.instrument == Instrument::Count).cloned().collect();
            step.measurements.extend(again);
        }
        let all = 2 * run.steps.len();
        assert!(
            line(&run).ends_with(&format!("{all} of {all} numbers of allocations repeat exactly")),
            "{}",
            line(&run)
        );
        let last = run.steps[0].measurements.iter_mut().rfind(|m| m.instrument == Instrument::Count);
        let counts = last.and_then(|m| m.counts.as_mut()).expect("the fixture was counted");
        counts.total.blocks /= 2;
        let said = line(&run);
        assert!(said.contains(&format!("{} of {all}", all - 1)) && said.contains("50.0"), "{said}");
        assert!(said.contains("(baseline, client)"), "{said}");
    }
}
