//! The file of budgets: how much a step may allocate, as a person writes it and `check --bless` rewrites it.
//!
//! Tables nest as the vocabulary does: subject (a scenario, or a program's name), step, side and, if wanted, RPC method
//! and stage; in them each metric has its figure:
//!
//! ```toml
//! [put.tuned-h2.server]
//! allocs-per-message = 3.0
//! peak-heap = { max = 4194304, tolerance = 0.05 }
//!
//! [put.tuned-h2.server.message-construction]
//! bytes-per-message = 0
//!
//! [greeter.attached.server."/greeter.v1.Greeter/SayHello".marshal]
//! allocs-per-message = 5
//! ```
//!
//! A figure is the most that is allowed, or the least of a metric where more is better; a tolerance is the share it
//! may be overstepped by. Without a tolerance the figure is a limit, with one it is what is usual. Nothing here measures
//! or judges.

use std::fmt;
use std::ops::Range;

use alloc_ladder::record::{Run, Shape};
use alloc_ladder::subject::ladder;
use alloc_ladder::subject::scenario::Scenario;
use alloc_ladder::{Side, Stage};
use toml_edit::{Document, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::analyse::metric::{self, Better, Metric};

/// What one figure may be.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) place: Place,
    pub(crate) metric: &'static Metric,
    /// The most, or where more is better the least.
    pub(crate) figure: f64,
    /// The share of the figure it may be overstepped by; none unless written.
    pub(crate) tolerance: f64,
    /// The line of the file that it stands in, counted from 1; 0 where it is not written yet.
    pub(crate) line: usize,
}

/// What of a run a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The scenario's name, or the program's.
    pub(crate) subject: String,
    pub(crate) step: String,
    pub(crate) side: Side,
    /// The RPC method's path; `None` for all of them.
    pub(crate) method: Option<String>,
    /// `None` for all of them.
    pub(crate) stage: Option<Stage>,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { subject, step, side, method, stage } = &self.place;
        write!(f, "{subject}/{step} {side} ")?;
        if let Some(method) = method {
            write!(f, "{method} ")?;
        }
        if let Some(stage) = stage {
            write!(f, "{stage} ")?;
        }
        f.write_str(self.metric.label)
    }
}

impl Budget {
    /// Whether it is for a run.
    pub(crate) fn is_for(&self, run: &Run) -> bool {
        self.place.subject == run.subject.name
    }

    /// The names of the tables it stands in, and its own.
    fn path(&self) -> impl Iterator<Item = &str> {
        self.place.tables().chain([self.metric.name])
    }
}

impl Place {
    /// The names of the tables, outermost first.
    fn tables(&self) -> impl Iterator<Item = &str> {
        let within = self.method.as_deref().into_iter().chain(self.stage.map(Stage::name));
        [self.subject.as_str(), &self.step, self.side.name()].into_iter().chain(within)
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

/// Whose programs the subjects of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This repository's: the names of scenarios are theirs, and their steps are known. Other names are programs.
    Study,
    /// Somebody's: every name is a program's.
    Anybody,
}

/// The file: its budgets, and its text with every comment.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    pub(crate) all: Vec<Budget>,
    document: DocumentMut,
}

impl Budgets {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`Budgets::parse`], and of bytes that are not text.
    pub(crate) fn read(bytes: &[u8], whose: Whose) -> Result<Budgets, BadBudgets> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadBudgets {
            line: None,
            message: "it is not text".to_owned(),
            unknown: None,
        })?;
        Budgets::parse(text, whose)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// See [`BadBudgets`]; the caller knows the file's name.
    pub(crate) fn parse(text: &str, whose: Whose) -> Result<Budgets, BadBudgets> {
        let document = Document::parse(text).map_err(|error| BadBudgets {
            line: None,
            message: format!("it is not valid TOML: {error}"),
            unknown: None,
        })?;
        let mut reader = Reader { text, whose, all: Vec::new() };
        reader.subjects(document.as_table())?;
        Ok(Budgets { all: reader.all, document: document.into_mut() })
    }

    /// The subjects that have budgets, in the order they are written.
    pub(crate) fn subjects(&self) -> Vec<&str> {
        let mut subjects: Vec<&str> = Vec::new();
        for budget in &self.all {
            if !subjects.contains(&budget.place.subject.as_str()) {
                subjects.push(&budget.place.subject);
            }
        }
        subjects
    }

    /// Writes another figure into the text; comments and layout stay.
    pub(crate) fn bless(&mut self, budget: &Budget, figure: f64) {
        let mut item = self.document.as_item_mut();
        for name in budget.path() {
            item = &mut item[name];
        }
        if let Some(table) = item.as_table_like_mut()
            && let Some(inner) = table.get_mut(key(budget.metric.better))
        {
            return replace(inner, figure);
        }
        replace(item, figure);
    }

    /// Writes a budget that is not there yet below those that are.
    pub(crate) fn add(&mut self, budget: &Budget) {
        let mut item = self.document.as_item_mut();
        let tables: Vec<&str> = budget.place.tables().collect();
        for (index, name) in tables.iter().enumerate() {
            let table = item.as_table_like_mut().expect("a place's tables are tables, or the file was refused");
            item = table.entry(name).or_insert_with(|| {
                let mut table = Table::new();
                // Only the innermost has a line of its own.
                table.set_implicit(index + 1 < tables.len());
                Item::Table(table)
            });
        }
        let figure = value(budget.figure, true);
        let written = if budget.tolerance > 0.0 {
            let mut both = InlineTable::new();
            both.insert(key(budget.metric.better), figure);
            both.insert(TOLERANCE, Value::from(budget.tolerance));
            Value::InlineTable(both)
        } else {
            figure
        };
        let table = item.as_table_like_mut().expect("a place's tables are tables, or the file was refused");
        table.insert(budget.metric.name, Item::Value(written));
        self.all.push(budget.clone());
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        self.document.to_string()
    }
}

/// A number, without a point where it is whole and may be written so.
fn value(figure: f64, may_be_whole: bool) -> Value {
    let whole = figure.fract() == 0.0 && figure.abs() < 1e15;
    if whole && may_be_whole { Value::from(figure as i64) } else { Value::from(figure) }
}

/// Changes a number and keeps the blanks and the comment around it.
fn replace(item: &mut Item, figure: f64) {
    let mut value = value(figure, item.is_integer());
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
    whose: Whose,
    all: Vec<Budget>,
}

impl Reader<'_> {
    fn subjects(&mut self, table: &dyn TableLike) -> Result<(), BadBudgets> {
        for (name, item) in table.iter() {
            // A program's figures stand in tables of tables; one level less is a slip of the pen.
            let steps = self.table(item, name)?;
            let scenario = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
            self.steps(name, scenario.filter(|_| self.whose == Whose::Study), steps)?;
        }
        Ok(())
    }

    fn steps(&mut self, subject: &str, scenario: Option<Scenario>, table: &dyn TableLike) -> Result<(), BadBudgets> {
        for (step, item) in table.iter() {
            if let Some(scenario) = scenario {
                let names = ladder::ladder(scenario).iter().map(|step| step.name);
                ladder::step(scenario, step)
                    .map_err(|_| self.unknown(item, &format!("step of {scenario}"), step, names))?;
            }
            for (name, item) in self.table(item, step)?.iter() {
                let side = Side::ALL.into_iter().find(|side| side.name() == name);
                let side = side.ok_or_else(|| self.unknown(item, "side", name, Side::ALL.map(Side::name)))?;
                let place =
                    Place { subject: subject.to_owned(), step: step.to_owned(), side, method: None, stage: None };
                let shape = scenario.map_or(Shape::Program, Scenario::shape);
                for (name, item) in self.table(item, name)?.iter() {
                    match name.starts_with('/') {
                        true => self.method(shape, place.clone(), name, item)?,
                        false => self.entry(shape, &place, name, item)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn method(&mut self, shape: Shape, place: Place, path: &str, item: &Item) -> Result<(), BadBudgets> {
        let parts = path[1..].split_once('/').filter(|(service, method)| !service.is_empty() && !method.is_empty());
        if parts.is_none_or(|(_, method)| method.contains('/')) {
            let message = format!("`{path}` is not a method's path, as in `/greeter.v1.Greeter/SayHello`");
            return Err(self.bad(item, message));
        }
        let place = Place { method: Some(path.to_owned()), ..place };
        self.table(item, path)?.iter().try_for_each(|(name, item)| self.entry(shape, &place, name, item))
    }

    /// A stage's table, or a metric.
    fn entry(&mut self, shape: Shape, place: &Place, name: &str, item: &Item) -> Result<(), BadBudgets> {
        let Some(stage) = Stage::from_name(name) else { return self.metric(shape, place, name, item) };
        let place = Place { stage: Some(stage), ..place.clone() };
        self.table(item, name)?.iter().try_for_each(|(name, item)| self.metric(shape, &place, name, item))
    }

    fn metric(&mut self, shape: Shape, place: &Place, name: &str, item: &Item) -> Result<(), BadBudgets> {
        let Place { subject, side, method, stage, .. } = place;
        let fits = |metric: &&Metric| {
            metric.sides(shape).contains(side) && ((stage.is_none() && method.is_none()) || metric.has_stages())
        };
        let fitting: Vec<&'static Metric> = metric::of(shape).filter(fits).collect();
        let metric = fitting.iter().find(|metric| metric.name == name).ok_or_else(|| {
            let of = [Some(subject.as_str()), Some(side.name()), method.as_deref(), stage.map(Stage::name)];
            let of: Vec<&str> = of.into_iter().flatten().collect();
            // A table that is not a figure's is meant for a stage.
            let stages = Stage::ALL.map(Stage::name).into_iter().filter(|_| item.is_table() && stage.is_none());
            let names = fitting.iter().map(|metric| metric.name).chain(stages);
            self.unknown(item, &format!("metric of {}", of.join(" ")), name, names)
        })?;
        let (figure, tolerance) = match item.as_table_like() {
            None => (self.number(item, name)?, 0.0),
            Some(table) => {
                let figure = key(metric.better);
                if let Some((name, item)) = table.iter().find(|(name, _)| *name != figure && *name != TOLERANCE) {
                    return Err(self.unknown(item, &format!("key of {}", metric.name), name, [figure, TOLERANCE]));
                }
                let Some(inner) = table.get(figure) else {
                    return Err(self.bad(item, format!("`{name}` has no `{figure}`")));
                };
                let tolerance = table.get(TOLERANCE).map_or(Ok(0.0), |item| self.number(item, TOLERANCE))?;
                (self.number(inner, figure)?, tolerance)
            }
        };
        let line = self.line(item).unwrap_or(0);
        self.all.push(Budget { place: place.clone(), metric, figure, tolerance, line });
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
        BadBudgets { line: self.line(item), message, unknown: None }
    }

    fn line(&self, item: &Item) -> Option<usize> {
        let line = |span: Range<usize>| 1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
        item.span().map(line)
    }
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

[greeter.attached.server.\"/a.B/C\"]
allocs-per-message = 2

[greeter.attached.server.\"/a.B/C\".marshal]
bytes-per-message = { max = 64, tolerance = 0.1 }
";

    fn parse(text: &str) -> Result<Budgets, BadBudgets> {
        Budgets::parse(text, Whose::Study)
    }

    #[test]
    fn budgets_are_read_as_they_are_nested() {
        let budgets = parse(TEXT).expect("parses");
        let read: Vec<String> = budgets
            .all
            .iter()
            .map(|budget| {
                let Budget { figure, tolerance, line, .. } = budget;
                format!("{line} {budget}: {} + {tolerance}", budget.metric.show(*figure))
            })
            .collect();
        assert_eq!(
            read,
            [
                "3 put/tuned-h2 server allocs/msg: 3.50 + 0",
                "4 put/tuned-h2 server peak heap: 4\u{202f}MiB + 0.05",
                "7 put/tuned-h2 server message-construction bytes/msg: 0\u{202f}B + 0",
                "10 get/baseline client throughput GB/s: 1.50 + 0",
                "13 greeter/attached server /a.B/C allocs/msg: 2.00 + 0",
                "16 greeter/attached server /a.B/C marshal bytes/msg: 64\u{202f}B + 0.1",
            ]
        );
    }

    #[test]
    fn blessing_changes_figures_and_nothing_else() {
        let mut budgets = parse(TEXT).expect("parses");
        let all = budgets.all.clone();
        for (budget, figure) in all.iter().zip([3.0005, 4_000_000.0, 0.25, 2.0, 3.0, 65.0]) {
            budgets.bless(budget, figure);
        }
        let blessed = TEXT
            .replace("= 3.5 ", "= 3.0005 ")
            .replace("4194304", "4000000")
            .replace("bytes-per-message = 0", "bytes-per-message = 0.25")
            .replace("min = 1.5", "min = 2.0")
            .replace("= 2\n", "= 3\n")
            .replace("max = 64", "max = 65");
        assert_eq!(budgets.text(), blessed);
    }

    #[test]
    fn what_does_not_exist_is_named_with_its_line_and_what_was_meant() {
        let error = |text: &str| {
            let failure = parse(text).expect_err("wrong");
            format!("{failure} | {}", failure.unknown.clone().unwrap_or_default().1.join(", "))
        };
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
        assert!(error("put = 1").contains("`put` is a table, not a figure"));
        assert!(error("[put").contains("it is not valid TOML"));
        // Of a program the step is its own, and the rest is known.
        assert!(error("[srv.mine.servr]").contains("line 1: there is no side `servr` | server, client"));
        assert!(error("[srv.mine.server.marshall]\nx = 1").contains("`marshall` | throughput, "));
        assert!(error("[srv.mine.server.marshall]\nx = 1").contains(", marshal, "));
        assert!(error("[srv.mine.server.\"/a\"]\nx = 1").contains("`/a` is not a method's path"));
        assert!(error("[srv.mine.server.\"/a/b\"]\npeak-heap = 1").contains("metric of srv server /a/b `peak-heap`"));
        // Somebody's program may be called as a scenario is.
        assert!(Budgets::parse("[get.attached.server]\nallocs-per-message = 1", Whose::Anybody).is_ok());
    }

    #[test]
    fn what_is_added_reads_as_a_person_would_write_it() {
        let mut budgets = parse("# Mine.\n[put.rope.server]\nallocs-per-message = 1 # kept\n").expect("parses");
        let place = |method: Option<&str>, stage| Place {
            subject: "greeter".to_owned(),
            step: "attached".to_owned(),
            side: Side::Server,
            method: method.map(str::to_owned),
            stage,
        };
        let budget = |place, metric, figure, tolerance| Budget { place, metric, figure, tolerance, line: 0 };
        budgets.add(&budget(place(None, None), &metric::ALLOCS_PER_MESSAGE, 26.5, 0.05));
        budgets.add(&budget(place(None, None), &metric::PEAK_HEAP, 4096.0, 0.25));
        budgets.add(&budget(place(Some("/a.B/C"), Some(Stage::Marshal)), &metric::BYTES_PER_MESSAGE, 0.0, 0.0));
        expect_test::expect![[r#"
            # Mine.
            [put.rope.server]
            allocs-per-message = 1 # kept

            [greeter.attached.server]
            allocs-per-message = { max = 26.5, tolerance = 0.05 }
            peak-heap = { max = 4096, tolerance = 0.25 }

            [greeter.attached.server."/a.B/C".marshal]
            bytes-per-message = 0
        "#]]
        .assert_eq(&budgets.text());
        let again = parse(&budgets.text()).expect("parses");
        assert_eq!(again.subjects(), ["put", "greeter"]);
        let places = |budgets: &Budgets| budgets.all.iter().map(|budget| budget.place.clone()).collect::<Vec<_>>();
        assert_eq!(places(&again), places(&budgets));
    }
}
