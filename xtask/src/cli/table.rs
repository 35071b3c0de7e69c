//! Columns that line up: text first, colour last, so that marks of styles never count as width.

use crate::cli::terminal::{Style, escaped, paint};

/// Blanks between two columns.
const GAP: usize = 2;
/// A last column that has less room than this goes on below its row, from the left.
const ROOM: usize = 48;
/// How far from the left.
const HANGING: usize = 4;

/// Rows of cells; every column is as wide as its widest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
    right: bool,
}

impl Cell {
    /// Words, aligned left.
    pub(crate) fn left(text: impl Into<String>) -> Cell {
        Cell { text: escaped(&text.into()).into_owned(), style: None, right: false }
    }

    /// A figure, aligned right.
    pub(crate) fn right(text: impl Into<String>) -> Cell {
        Cell { text: escaped(&text.into()).into_owned(), style: None, right: true }
    }

    pub(crate) fn style(self, style: Style) -> Cell {
        Cell { style: Some(style), ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl Table {
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The width of every column.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column| self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
        (0..columns).map(widest).collect()
    }

    /// How many characters the longest line has, at most.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The lines, columns two blanks apart, no blanks at their ends.
    pub(crate) fn render(&self) -> String {
        self.render_within(None)
    }

    /// As [`Table::render`]; words of the last column that do not fit into `columns` go on in further lines.
    pub(crate) fn render_within(&self, columns: Option<usize>) -> String {
        let widths = self.widths();
        let start = self.width() - widths.last().unwrap_or(&0);
        let mut text = String::new();
        for row in &self.rows {
            let folded = columns.and_then(|columns| folded(row, widths.len(), start, columns));
            let (row, below) = folded.as_ref().map_or((row, &[][..]), |(row, below)| (row, below));
            // Blanks are owed until something follows them.
            let mut owed = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let blanks = width - cell.width();
                if cell.text.is_empty() {
                    owed += blanks + GAP;
                    continue;
                }
                let (before, after) = if cell.right { (blanks, 0) } else { (0, blanks) };
                text.extend(std::iter::repeat_n(' ', owed + before));
                match cell.style {
                    Some(style) => text.push_str(&paint(style, &cell.text)),
                    None => text.push_str(&cell.text),
                }
                owed = after + GAP;
            }
            text.push('\n');
            for line in below {
                text += line;
                text.push('\n');
            }
        }
        text
    }
}

/// A row whose last cell, which begins at `start`, does not fit into `columns`: the row with the words that do, and the
/// lines of the others.
fn folded(row: &[Cell], width: usize, start: usize, columns: usize) -> Option<(Vec<Cell>, Vec<String>)> {
    let (last, before) = row.split_last().filter(|_| row.len() == width)?;
    if last.right || start + last.width() <= columns {
        return None;
    }
    let room = columns.saturating_sub(start);
    let indent = if room >= ROOM { start } else { HANGING };
    let mut lines = wrapped(&last.text, room, columns.saturating_sub(indent)).into_iter();
    let cell = |text: String| Cell { text, ..last.clone() };
    let shown = |text: String| last.style.map_or_else(|| text.clone(), |style| paint(style, &text));
    let first = cell(lines.next().unwrap_or_default());
    let below = lines.map(|line| " ".repeat(indent) + &shown(line)).collect();
    Some(([before, &[first]].concat(), below))
}

/// The words in lines: the first has room for `first` characters, each other one for `others`. A longer word has a line of
/// its own.
pub(crate) fn wrapped(text: &str, first: usize, others: usize) -> Vec<String> {
    let (mut lines, mut line, mut room) = (Vec::new(), String::new(), first);
    for word in text.split(' ') {
        let blank = usize::from(!line.is_empty());
        let fits = line.chars().count() + blank + word.chars().count() <= room;
        if !fits && (!line.is_empty() || lines.is_empty()) {
            lines.push(std::mem::take(&mut line));
            room = others;
        } else if blank > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use crate::cli::terminal;

    use super::*;

    #[test]
    fn columns_line_up_whatever_is_painted_or_missing() {
        let mut table = Table::default();
        table.row([Cell::left("step"), Cell::right("allocs"), Cell::left("p")]);
        table.row([Cell::left("tuned-h2"), Cell::right("3.0").style(Style::Better)]);
        table.row([Cell::left(""), Cell::right("−12"), Cell::left("< 0.05")]);
        let plain = terminal::plain(&table.render());
        assert_eq!(table.width(), 24);
        assert_eq!(plain, "step      allocs  p\ntuned-h2     3.0\n             −12  < 0.05\n");
    }

    #[test]
    fn words_that_do_not_fit_go_on_below() {
        let mut table = Table::default();
        let words = "prost::BytesAdapter::replace_with ← prost::bytes::merge ← service::Chunk::merge_field";
        table.row([Cell::right("−64 KiB"), Cell::left("message-construction"), Cell::left(words)]);
        table.row([Cell::right("−2 B"), Cell::left("handler"), Cell::left("main ← start")]);
        let narrow = terminal::plain(&table.render_within(Some(60)));
        assert_eq!(
            narrow,
            "−64 KiB  message-construction\n    prost::BytesAdapter::replace_with ← prost::bytes::merge\n    ← \
             service::Chunk::merge_field\n   −2 B  handler               main ← start\n"
        );
        let column = terminal::plain(&table.render_within(Some(90)));
        assert_eq!(column.lines().nth(1), Some(&*(" ".repeat(31) + "service::Chunk::merge_field")));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        assert_eq!(table.render_within(Some(200)), table.render());
        assert_eq!(wrapped("a-word-longer-than-its-line b", 4, 6), ["", "a-word-longer-than-its-line", "b"]);
    }
}
