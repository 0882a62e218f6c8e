//! What came out: gathered, judged, and written as Markdown, JSON and pictures.

mod metric;
mod results;
mod table;

pub use metric::{Better, Goal, METRICS, Metric, metric};
pub use results::{Results, Spread};
pub use table::markdown;
