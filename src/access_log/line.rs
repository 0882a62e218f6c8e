//! One access log line, as text or as JSON.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use serde::Serializer as _;

use crate::config::LogFormat;

/// A line being built: an event's name and its fields, in the order given.
pub struct Line {
    event: &'static str,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    Number(u64),
}

impl Line {
    /// Begins a line for `event` (`request`, `tunnel_open`, `tunnel_end`).
    pub fn new(event: &'static str) -> Self {
        Self { event, fields: Vec::with_capacity(16) }
    }

    /// Adds a text field.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: impl Display) -> Self {
        self.fields.push((name, Value::Text(value.to_string())));
        self
    }

    /// Adds a text field where there is a value.
    #[must_use]
    pub fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        self.fields.push((name, Value::Number(value)));
        self
    }

    /// The finished line, with the time it was made and a line feed at its end.
    pub(super) fn render(&self, format: LogFormat) -> String {
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        match format {
            LogFormat::Text => self.render_text(&time),
            LogFormat::Json => self.render_json(&time),
        }
    }

    fn render_text(&self, time: &impl Display) -> String {
        let mut line = format!("{time} {}", self.event);
        for (name, value) in &self.fields {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            match value {
                Value::Number(number) => push(&mut line, number),
                Value::Text(text) if plain(text) => line.push_str(text),
                // Rust's escapes keep a hostile request target from forging lines or fields.
                Value::Text(text) => push(&mut line, format_args!("{text:?}")),
            }
        }
        line.push('\n');
        line
    }

    fn render_json(&self, time: &impl Display) -> String {
        let mut bytes = Vec::with_capacity(256);
        let head = [("time", serde_json::Value::from(time.to_string())), ("event", self.event.into())];
        let fields = self.fields.iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) => text.as_str().into(),
                Value::Number(number) => (*number).into(),
            };
            (*name, value)
        });
        serde_json::Serializer::new(&mut bytes)
            .collect_map(head.into_iter().chain(fields))
            .expect("strings and numbers always serialise into memory");
        bytes.push(b'\n');
        String::from_utf8(bytes).expect("serde_json writes UTF-8")
    }
}

fn push(line: &mut String, value: impl Display) {
    write!(line, "{value}").expect("writing into a String cannot fail");
}

/// Returns true for a value that needs no quotes: printable ASCII without blanks, quotes and backslashes.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::new("request").text("path", "/a b\nforged=1").number("status", 200).maybe("backend", None::<&str>)
    }

    #[test]
    fn text_quotes_what_could_forge_a_line() {
        let text = line().render(LogFormat::Text);
        assert!(text.ends_with(" request path=\"/a b\\nforged=1\" status=200\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn json_is_one_object_with_fields_in_order() {
        let text = line().render(LogFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["event"], "request");
        assert_eq!(value["path"], "/a b\nforged=1");
        assert_eq!(value["status"], 200);
        assert!(text.starts_with("{\"time\":"), "{text}");
    }
}
