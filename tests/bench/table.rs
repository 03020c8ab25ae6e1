//! Markdown tables that are printed row by row, and targets.

use std::io::Write;

/// A table whose head has been printed.
pub struct Table(Vec<usize>);

impl Table {
    /// Prints a title and a head; the first column stands left, the others right.
    pub fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n### {title}\n");
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(at, name)| name.chars().count().max(if at == 0 { 46 } else { 6 }))
            .collect();
        let table = Self(widths);
        table.row(columns.iter().map(|name| (*name).to_owned()));
        table.row(table.0.iter().enumerate().map(|(at, width)| match at {
            0 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width - 1)),
        }));
        table
    }

    /// Prints a row.
    pub fn row(&self, cells: impl IntoIterator<Item = String>) {
        let mut line = String::new();
        for (at, (cell, width)) in cells.into_iter().zip(&self.0).enumerate() {
            line += &if at == 0 { format!("| {cell:<width$} |") } else { format!(" {cell:>width$} |") };
        }
        println!("{line}");
        let _ = std::io::stdout().flush();
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy)]
pub enum Target {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Target {
    /// As a cell: the target, and whether the figure reaches it.
    pub fn judge(self, figure: f64) -> String {
        match self {
            Self::AtLeast(least) if figure >= least => format!("≥ {least} ok"),
            Self::AtLeast(least) => format!("≥ {least} below"),
            Self::AtMost(most) if figure <= most => format!("≤ {most} ok"),
            Self::AtMost(most) => format!("≤ {most} above"),
        }
    }
}
