//! The result as one HTML file that needs nothing else.

use crate::report::Report;

const PAGE: &str = include_str!("report.html");

/// The page with the report in it.
#[must_use]
pub fn render(report: &Report) -> String {
    let data = serde_json::to_string(report).expect("a report is plain data");
    // Inside of a script element only `</` and `<!` would be read by the HTML parser.
    PAGE.replacen("DATA", &data.replace('<', "\\u003c"), 1)
}
