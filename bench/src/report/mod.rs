//! What came out: gathered, judged, and written as Markdown, JSON and pictures.

mod about;
mod bars;
mod json;
mod lines;
mod metric;
mod results;
mod svg;
mod table;

use std::path::Path;

use anyhow::{Context, Result};

pub use about::About;
pub use json::json;
pub use lines::{Line, Panel, draw as draw_lines};
pub use metric::{Better, Goal, METRICS, Metric, metric};
pub use results::{Results, Spread};
pub use table::{markdown, number};

/// The table with its circumstances.
pub fn page(results: &Results, about: &About) -> String {
    let mut page = format!("{}\n{}", markdown(results), about.markdown());
    for failure in &results.failures {
        page += &format!("\nNot measured: {failure}\n");
    }
    page
}

/// Writes `results.md`, `results.json` and the charts into `folder`, which is made if it is missing.
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
