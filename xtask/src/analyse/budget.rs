//! `budgets.toml`: how much a step may allocate, as a person writes it and `check --bless` rewrites it.
//!
//! Tables nest as the vocabulary does, scenario, step, side and, if wanted, stage; in them each metric has its figure:
//!
//! ```toml
//! [put.tuned-h2.server]
//! allocs-per-message = 3.0
//! peak-heap = { max = 4194304, tolerance = 0.05 }
//!
//! [put.tuned-h2.server.message-construction]
//! bytes-per-message = 0
//! ```
//!
//! A figure is the most that is allowed, or the least of a metric where more is better; a tolerance is the share it
//! may be overstepped by. Without a tolerance the figure is a limit, with one it is what is usual. Nothing here measures
//! or judges.

use std::fmt;
use std::ops::Range;

use alloc_ladder::subject::ladder::{self, Step};
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use toml_edit::{Document, DocumentMut, Item, TableLike, Value};

use crate::analyse::metric::{self, Better, Metric};

/// What one figure may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) scenario: Scenario,
    pub(crate) step: &'static Step,
    pub(crate) side: Side,
    /// `None` for the whole side.
    pub(crate) stage: Option<Stage>,
    pub(crate) metric: &'static Metric,
    /// The most, or where more is better the least.
    pub(crate) figure: f64,
    /// The share of the figure it may be overstepped by; none unless written.
    pub(crate) tolerance: f64,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {} ", self.scenario, self.step.name, self.side)?;
        if let Some(stage) = self.stage {
            write!(f, "{stage} ")?;
        }
        f.write_str(self.metric.label)
    }
}

/// Why a file of budgets cannot be read: what is wrong in which line, and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub(crate) struct BadBudgets {
    line: Option<usize>,
    message: String,
    /// The name that does not exist, and those that do.
    pub(crate) unknown: Option<(String, Vec<String>)>,
}

/// The file: its budgets, and its text with every comment.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub(crate) all: Vec<Budget>,
    document: DocumentMut,
}

impl Budgets {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`Budgets::parse`], and of bytes that are not text.
    pub(crate) fn read(bytes: &[u8]) -> Result<Budgets, BadBudgets> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadBudgets {
            line: None,
            message: "it is not text".to_owned(),
            unknown: None,
        })?;
        Budgets::parse(text)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// See [`BadBudgets`]; the caller knows the file's name.
    pub(crate) fn parse(text: &str) -> Result<Budgets, BadBudgets> {
        let document = Document::parse(text).map_err(|error| BadBudgets {
            line: None,
            message: format!("it is not valid TOML: {error}"),
            unknown: None,
        })?;
        let mut reader = Reader { text, all: Vec::new() };
        reader.scenarios(document.as_table())?;
        Ok(Budgets { all: reader.all, document: document.into_mut() })
    }

    /// Writes another figure into the text; comments and layout stay.
    pub(crate) fn bless(&mut self, budget: &Budget, figure: f64) {
        let mut path = vec![budget.scenario.name(), budget.step.name, budget.side.name()];
        path.extend(budget.stage.map(Stage::name));
        path.push(budget.metric.name);
        let mut item = self.document.as_item_mut();
        for name in path {
            item = &mut item[name];
        }
        if let Some(table) = item.as_table_like_mut()
            && let Some(inner) = table.get_mut(key(budget.metric.better))
        {
            return replace(inner, figure);
        }
        replace(item, figure);
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        self.document.to_string()
    }
}

/// Changes a number and keeps the blanks and the comment around it.
fn replace(item: &mut Item, figure: f64) {
    let whole = figure.fract() == 0.0 && figure.abs() < 1e15;
    let mut value = if whole && item.is_integer() { Value::from(figure as i64) } else { Value::from(figure) };
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}

/// What the figure is called where it is written with a tolerance.
const fn key(better: Better) -> &'static str {
    match better {
        Better::Less => "max",
        Better::More => "min",
    }
}

const TOLERANCE: &str = "tolerance";

struct Reader<'a> {
    text: &'a str,
    all: Vec<Budget>,
}

impl Reader<'_> {
    fn scenarios(&mut self, table: &dyn TableLike) -> Result<(), BadBudgets> {
        for (name, item) in table.iter() {
            let scenario = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
            let scenario =
                scenario.ok_or_else(|| self.unknown(item, "scenario", name, Scenario::ALL.map(Scenario::name)))?;
            self.steps(scenario, self.table(item, name)?)?;
        }
        Ok(())
    }

    fn steps(&mut self, scenario: Scenario, table: &dyn TableLike) -> Result<(), BadBudgets> {
        for (name, item) in table.iter() {
            let names = ladder::ladder(scenario).iter().map(|step| step.name);
            let (_, step) = ladder::step(scenario, name)
                .map_err(|_| self.unknown(item, &format!("step of {scenario}"), name, names))?;
            for (name, item) in self.table(item, name)?.iter() {
                let side = Side::ALL.into_iter().find(|side| side.name() == name);
                let side = side.ok_or_else(|| self.unknown(item, "side", name, Side::ALL.map(Side::name)))?;
                let place = Place { scenario, step, side, stage: None };
                for (name, item) in self.table(item, name)?.iter() {
                    match Stage::from_name(name) {
                        Some(stage) => self.metrics(Place { stage: Some(stage), ..place }, self.table(item, name)?)?,
                        None => self.metric(place, name, item)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn metrics(&mut self, place: Place, table: &dyn TableLike) -> Result<(), BadBudgets> {
        table.iter().try_for_each(|(name, item)| self.metric(place, name, item))
    }

    fn metric(&mut self, place: Place, name: &str, item: &Item) -> Result<(), BadBudgets> {
        let Place { scenario, step, side, stage } = place;
        let fits = |metric: &&Metric| {
            metric.sides(scenario.shape()).contains(&side) && (stage.is_none() || metric.has_stages())
        };
        let fitting: Vec<&'static Metric> = metric::of(scenario.shape()).filter(fits).collect();
        let metric = fitting.iter().find(|metric| metric.name == name).ok_or_else(|| {
            let of = stage.map_or_else(|| format!("{scenario} {side}"), |stage| format!("{scenario} {side} {stage}"));
            self.unknown(item, &format!("metric of {of}"), name, fitting.iter().map(|metric| metric.name))
        })?;
        let (figure, tolerance) = match item.as_table_like() {
            None => (self.number(item, name)?, 0.0),
            Some(table) => {
                let figure = key(metric.better);
                if let Some((name, item)) = table.iter().find(|(name, _)| *name != figure && *name != TOLERANCE) {
                    return Err(self.unknown(item, &format!("key of {}", metric.name), name, [figure, TOLERANCE]));
                }
                let Some(item) = table.get(figure) else {
                    return Err(self.bad(item, format!("`{name}` has no `{figure}`")));
                };
                let tolerance = table.get(TOLERANCE).map_or(Ok(0.0), |item| self.number(item, TOLERANCE))?;
                (self.number(item, figure)?, tolerance)
            }
        };
        self.all.push(Budget { scenario, step, side, stage, metric, figure, tolerance });
        Ok(())
    }

    fn table<'i>(&self, item: &'i Item, name: &str) -> Result<&'i dyn TableLike, BadBudgets> {
        item.as_table_like().ok_or_else(|| self.bad(item, format!("`{name}` is a table, not a figure")))
    }

    fn number(&self, item: &Item, name: &str) -> Result<f64, BadBudgets> {
        item.as_float()
            .or_else(|| item.as_integer().map(|whole| whole as f64))
            .filter(|number| *number >= 0.0 && number.is_finite())
            .ok_or_else(|| self.bad(item, format!("`{name}` is not a number from 0 up")))
    }

    fn unknown<'n>(&self, item: &Item, what: &str, name: &str, names: impl IntoIterator<Item = &'n str>) -> BadBudgets {
        let names = names.into_iter().map(str::to_owned).collect();
        let unknown = Some((name.to_owned(), names));
        BadBudgets { unknown, ..self.bad(item, format!("there is no {what} `{name}`")) }
    }

    fn bad(&self, item: &Item, message: String) -> BadBudgets {
        let line = |span: Range<usize>| 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        BadBudgets { line: item.span().map(line), message, unknown: None }
    }
}

#[derive(Clone, Copy)]
struct Place {
    scenario: Scenario,
    step: &'static Step,
    side: Side,
    stage: Option<Stage>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Why this file is here.
[put.tuned-h2.server]
allocs-per-message = 3.5    # one a frame
peak-heap = { max = 4194304, tolerance = 0.05 } # windows

[put.tuned-h2.server.message-construction]
bytes-per-message = 0

[get.baseline.client]
throughput = { min = 1.5 }
";

    #[test]
    fn budgets_are_read_as_they_are_nested() {
        let budgets = Budgets::parse(TEXT).expect("parses");
        let read: Vec<String> = budgets
            .all
            .iter()
            .map(|budget| format!("{budget}: {} + {}", budget.metric.show(budget.figure), budget.tolerance))
            .collect();
        assert_eq!(
            read,
            [
                "put/tuned-h2 server allocs/msg: 3.50 + 0",
                "put/tuned-h2 server peak heap: 4\u{202f}MiB + 0.05",
                "put/tuned-h2 server message-construction bytes/msg: 0\u{202f}B + 0",
                "get/baseline client throughput GB/s: 1.50 + 0",
            ]
        );
    }

    #[test]
    fn blessing_changes_figures_and_nothing_else() {
        let mut budgets = Budgets::parse(TEXT).expect("parses");
        let all = budgets.all.clone();
        for (budget, figure) in all.iter().zip([3.0005, 4_000_000.0, 0.25, 2.0]) {
            budgets.bless(budget, figure);
        }
        let blessed = TEXT
            .replace("= 3.5 ", "= 3.0005 ")
            .replace("4194304", "4000000")
            .replace("bytes-per-message = 0", "bytes-per-message = 0.25")
            .replace("min = 1.5", "min = 2.0");
        assert_eq!(budgets.text(), blessed);
    }

    #[test]
    fn what_does_not_exist_is_named_with_its_line_and_what_was_meant() {
        let error = |text: &str| {
            let failure = Budgets::parse(text).expect_err("wrong");
            format!("{failure} | {}", failure.unknown.clone().unwrap_or_default().1.join(", "))
        };
        assert_eq!(error("\n[putt.baseline.server]"), "line 2: there is no scenario `putt` | put, get, unary");
        assert!(error("[get.zerocopy.server]").contains("no step of get `zerocopy` | baseline, "));
        assert!(error("[put.baseline.middle]").contains("there is no side `middle` | server, client"));
        assert!(
            error("[put.baseline.server]\n\nallocs = 1").contains("line 3: there is no metric of put server `allocs`")
        );
        // A stage has no peak, and a stream no latency.
        assert!(
            error("[put.baseline.server.handler]\npeak-heap = 1").contains("metric of put server handler `peak-heap`")
        );
        assert!(error("[put.baseline.client]\nlatency-p50 = 1").contains("metric of put client `latency-p50`"));
        assert!(error("[put.baseline.server]\npeak-heap = { min = 1 }").contains("no key of peak-heap `min`"));
        assert!(error("[put.baseline.server]\npeak-heap = { tolerance = 1 }").contains("`peak-heap` has no `max`"));
        assert!(error("[put.baseline.server]\npeak-heap = -1").contains("`peak-heap` is not a number from 0 up"));
        assert!(error("[put.baseline]\nserver = 1").contains("`server` is a table, not a figure"));
        assert!(error("[put").contains("it is not valid TOML"));
    }
}
