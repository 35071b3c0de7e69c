//! A unary call, stage by stage, for the terminal.

use crate::analyse::nine_stages::{CallStage, PerCall};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::Style;

/// The rows of several steps side by side, for the terminal: allocations and bytes a call.
pub(crate) fn table(steps: &[(&str, [PerCall; 10])]) -> String {
    let mut table = Table::default();
    let heads = steps.iter().flat_map(|(name, _)| [Cell::right(*name), Cell::right("bytes")]);
    let heads = [Cell::left("per call")].into_iter().chain(heads);
    table.row(heads.map(|cell| cell.style(Style::Dim)).collect::<Vec<_>>());
    for (at, stage) in CallStage::ALL.into_iter().enumerate() {
        let figures = steps.iter().flat_map(|(_, rows)| figures(rows[at].blocks, rows[at].bytes));
        table.row([Cell::left(stage.name())].into_iter().chain(figures).collect::<Vec<_>>());
    }
    let totals = steps
        .iter()
        .flat_map(|(_, rows)| figures(rows.iter().map(|row| row.blocks).sum(), rows.iter().map(|row| row.bytes).sum()));
    table.row([Cell::left("both sides")].into_iter().chain(totals).collect::<Vec<_>>());
    table.render()
}

fn figures(blocks: f64, bytes: f64) -> [Cell; 2] {
    [Cell::right(format!("{blocks:.2}")), Cell::right(format!("{bytes:.0}"))]
}

#[cfg(test)]
mod tests {
    use alloc_ladder::record::StepRecord;
    use expect_test::expect;

    use super::*;
    use crate::analyse::nine_stages::of_step;
    use crate::analyse::nine_stages::tests::{baseline, lean};

    #[test]
    fn a_call_reads_from_top_to_bottom() {
        let rows = |step: &StepRecord| of_step(step).expect("both sides are counted");
        let text = table(&[("baseline", rows(&baseline())), ("lean-server", rows(&lean()))]);
        expect![[r#"
            per call                      baseline  bytes  lean-server  bytes
            client marshals                   2.00   8232         0.00      0
            client sends                     18.00   5785         4.00    370
            server receives                  12.00  10444         2.00    656
            server unmarshals                 7.00    166         1.00     64
            dispatch, handler                15.00   3568         0.00      0
            server marshals                   5.00   8736         1.00     48
            server sends                      1.00     32         4.00    216
            client receives                   3.00   8232         5.00   1436
            client unmarshals                 7.00    166         1.00     64
            the client's own code, other     14.00   1447         0.00      0
            both sides                       84.00  46808        18.00   2854
        "#]]
        .assert_eq(&crate::cli::terminal::plain(&text));
    }
}
