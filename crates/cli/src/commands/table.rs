//! Tables for terminals, of texts that others wrote.
//!
//! One line a row, chosen columns never cut, the widest of the others cut first. comfy-table cuts a cell at the end of a
//! word, and tabled cannot keep chosen columns whole: with either we would compute the widths all the same.

use console::{Alignment, measure_text_width, pad_str, style, truncate_str};

/// The gap between two columns.
const GAP: &str = "  ";
/// The least width of a column that shrinks.
const NARROWEST: usize = 8;

/// A table. Each column is as wide as its widest cell; columns that may shrink give way if there is no room.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    name: &'static str,
    alignment: Alignment,
    /// Whether the column gives way if there is no room.
    shrinks: bool,
}

impl Column {
    /// A column of texts.
    pub(super) const fn text(name: &'static str) -> Self {
        let (alignment, shrinks) = (Alignment::Left, false);
        Self {
            name,
            alignment,
            shrinks,
        }
    }

    /// A column of texts that gives way.
    pub(super) const fn long(name: &'static str) -> Self {
        Self {
            shrinks: true,
            ..Self::text(name)
        }
    }

    /// A column of numbers.
    pub(super) const fn number(name: &'static str) -> Self {
        Self {
            alignment: Alignment::Right,
            ..Self::text(name)
        }
    }
}

/// `text` in one line, without control characters: text of a message must not command the terminal.
pub(super) fn plain(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() || is_reordering(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(visible).collect()
}

/// Characters that change the direction of what follows (Unicode, bidirectional controls).
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Table {
    /// A table without rows.
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let rows = Vec::new();
        Self { columns, rows }
    }

    /// Adds a row with a cell for each column. Cells may have colours, but must be [`plain`] beside them.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The lines of the table, none wider than `width`.
    pub(super) fn lines(&self, width: Option<usize>, colours: bool) -> Vec<String> {
        let widths = self.widths(width);
        let heading = self.columns.iter().map(|column| column.name.to_owned());
        let heading = self.line(&heading.collect::<Vec<_>>(), &widths);
        let heading = style(heading).bold().force_styling(colours).to_string();
        let rows = self.rows.iter().map(|row| self.line(row, &widths));
        std::iter::once(heading).chain(rows).collect()
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let cells = self.rows.iter().map(|row| measure_text_width(&row[index]));
                cells.fold(measure_text_width(column.name), usize::max)
            })
            .collect();
        let Some(limit) = limit else {
            return widths;
        };
        let total = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let mut excess = total.saturating_sub(limit);
        // The widest gives way first.
        while excess > 0 {
            let shrinking = self.columns.iter().enumerate();
            let widest = shrinking
                .filter(|(index, column)| column.shrinks && widths[*index] > NARROWEST)
                .max_by_key(|(index, _)| widths[*index]);
            let Some((index, _)) = widest else {
                break;
            };
            widths[index] -= 1;
            excess -= 1;
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(&self.columns).zip(widths);
        let padded: Vec<_> = cells
            .map(|((cell, column), width)| {
                let cell = truncate_str(cell, *width, "…");
                pad_str(&cell, *width, column.alignment, None).into_owned()
            })
            .collect();
        padded.join(GAP).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![
            Column::text("id"),
            Column::number("runs"),
            Column::long("error"),
        ];
        let mut table = Table::new(columns);
        let cells = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        table.row(cells(["m-1", "5", "the customer is not known"]));
        table.row(cells(["m-22", "12", "no"]));
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        assert_eq!(
            table().lines(None, false),
            [
                "id    runs  error",
                "m-1      5  the customer is not known",
                "m-22    12  no"
            ]
        );
    }

    #[test]
    fn only_what_may_shrink_does() {
        let lines = table().lines(Some(24), false);
        assert_eq!(lines[1], "m-1      5  the custome…");
        let lines = table().lines(Some(5), false);
        assert_eq!(lines[1], "m-1      5  the cus…", "no column vanishes");
    }

    #[test]
    fn texts_of_messages_cannot_command_the_terminal() {
        assert_eq!(
            plain("a\u{1b}[31mb\nc\u{202e}d"),
            "a\u{fffd}[31mb c\u{fffd}d"
        );
    }
}
