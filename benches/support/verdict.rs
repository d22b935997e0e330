//! What is over its budget: marked where it stands, and listed once all is printed.

/// The rows over their budgets, in the order of the tables.
#[derive(Debug, Default)]
pub(crate) struct Verdict(Vec<String>);

impl Verdict {
    /// A ratio as a cell of a table, marked if it is over its budget; no budget is 0.
    pub(crate) fn ratio(&mut self, row: &str, of: &str, ratio: f64, budget: f64) -> String {
        let over = budget > 0.0 && ratio > budget;
        self.cell(row, of, &digits(ratio), over.then(|| times(budget)))
    }

    /// Any figure as a cell, marked if it is over the budget given with its unit.
    pub(crate) fn cell(
        &mut self,
        row: &str,
        of: &str,
        figure: &str,
        over: Option<String>,
    ) -> String {
        let Some(budget) = over else {
            return figure.to_owned();
        };
        self.0
            .push(format!("{row}: {figure} in {of}, budget {budget}"));
        format!("**{figure} over**")
    }

    /// The last word of a bench.
    pub(crate) fn print(&self) {
        match self.0.is_empty() {
            true => println!("\nEvery row is within its budget."),
            false => println!("\nOver budget: {}.", self.0.join("; ")),
        }
    }
}

/// A budget that is a ratio.
pub(crate) fn times(budget: f64) -> String {
    format!("{budget} x")
}

/// A ratio that may be a small part, and is not to read as nothing then.
fn digits(ratio: f64) -> String {
    match ratio {
        0.0..0.1 => format!("{ratio:.4}"),
        _ => format!("{ratio:.2}"),
    }
}

/// A time in the unit that suits it.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.1} ns"),
        1e3..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}
