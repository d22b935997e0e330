//! Tables in Markdown.

pub(crate) struct Table {
    title: String,
    note: String,
    /// The first row contains the headings.
    rows: Vec<Vec<String>>,
    /// Columns on the left that contain text.
    text_columns: usize,
}

impl Table {
    pub(crate) fn new(title: &str, note: &str, headings: &[&str]) -> Self {
        let mut table = Self {
            title: title.to_owned(),
            note: note.to_owned(),
            rows: Vec::new(),
            text_columns: 2,
        };
        table.row(headings);
        table
    }

    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.rows
            .push(cells.iter().map(ToString::to_string).collect());
    }

    /// Prints the table unless it has no rows.
    pub(crate) fn print(&self) {
        let [headings, rows @ ..] = &self.rows[..] else {
            return;
        };
        if rows.is_empty() {
            return;
        }
        println!("\n### {}\n\n{}\n", self.title, self.note);
        println!("| {} |", headings.join(" | "));
        let figures = headings.len() - self.text_columns;
        println!(
            "|{}{}",
            "---|".repeat(self.text_columns),
            "--:|".repeat(figures)
        );
        rows.iter()
            .for_each(|row| println!("| {} |", row.join(" | ")));
    }
}

pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

pub(crate) fn median(mut readings: Vec<f64>) -> f64 {
    readings.sort_by(f64::total_cmp);
    percentile(&readings, 50)
}
