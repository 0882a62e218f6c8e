//! Figures of a run: gathered, judged, and written as Markdown, JSON and pictures.

mod about;
mod bars;
mod json;
mod lines;
mod metric;
mod pairs;
mod results;
mod svg;
mod table;

use std::path::Path;

use anyhow::{Context, Result};

pub use about::About;
pub use json::json;
pub use lines::{Line, Panel, draw as draw_lines};
pub use metric::{Better, Goal, METRICS, Metric, metric};
pub use pairs::pairs;
pub use results::{Ratio, Results, Spread};
pub use table::{markdown, number};

/// The tables, their circumstances, warnings and failures.
pub fn page(results: &Results, about: &About) -> String {
    let mut page = format!("{}{}\n{}", markdown(results), pairs(results), about.markdown());
    for warning in &results.warnings {
        page += &format!("\nWarning: {warning}.\n");
    }
    for failure in &results.failures {
        page += &format!("\nNot measured: {failure}\n");
    }
    page
}

/// Writes `results.md`, `results.json` and the charts into `folder`, and makes the folder if it is missing.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, results: &Results, about: &About) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    write("results.md", &page(results, about))?;
    write("results.json", &format!("{:#}\n", json(results, about)))?;
    for chart in bars::CHARTS {
        if let Some(picture) = bars::draw(chart, results) {
            write(&format!("{}.svg", chart.name), &picture)?;
        }
    }
    Ok(())
}
