//! The little of SVG that charts need, readable on light and dark pages: a picture brings its own ground.

use std::fmt::{self, Write};

/// Space to the edges.
pub(super) const LEFT: f64 = 16.0;
/// Classes of text.
pub(super) const TEXT: &str = "t";
pub(super) const MUTED: &str = "m";

/// A picture that is being drawn.
pub(super) struct Svg {
    text: String,
}

const STYLE: &str = "text{font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif}\
                     .bg{fill:#fff;stroke:#d0d7de}.t{fill:#1f2328}.m{fill:#59636e}\
                     .ours{fill:#0969da}.theirs{fill:#b4bcc6}.axis{stroke:#d0d7de}.line{fill:none;stroke-width:2}\
                     .our-line{stroke:#0969da;stroke-width:3}.their-line{stroke:#b4bcc6}\
                     @media(prefers-color-scheme:dark){.bg{fill:#0d1117;stroke:#3d444d}.t{fill:#f0f6fc}.m{fill:#9198a1}\
                     .ours{fill:#4493f8}.theirs{fill:#565e67}.axis{stroke:#3d444d}.our-line{stroke:#4493f8}\
                     .their-line{stroke:#565e67}}";

impl Svg {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let title = escape(title);
        let mut svg = Self { text: String::new() };
        let _ = write!(svg, r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" "#);
        let _ = write!(
            svg,
            r#"viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{title}"><style>{STYLE}</style>"#
        );
        let _ = write!(
            svg,
            r#"<rect class="bg" x="0.5" y="0.5" width="{:.0}" height="{:.0}" rx="6"/>"#,
            width - 1.0,
            height - 1.0
        );
        svg.text(LEFT, 26.0, MUTED, "400", "start", &title);
        svg
    }

    /// Text whose `anchor` (start, middle or end) is at `x`; it is escaped already.
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, weight: &str, anchor: &str, text: &str) {
        let _ = writeln!(
            self,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" font-weight="{weight}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    pub(super) fn end(mut self) -> String {
        self.text += "</svg>\n";
        self.text
    }
}

impl Write for Svg {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// Text as XML has it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
