//! Columns that line up: text first, colour last, so that marks of styles never count as width.

use crate::cli::terminal::{Style, escaped, paint};

/// Blanks between two columns.
const GAP: usize = 2;

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
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
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
        }
        text
    }
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
}
