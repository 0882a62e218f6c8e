//! One access log line, as text or as JSON.

use std::cell::RefCell;
use std::fmt::{Display, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::config::LogFormat;
use crate::socket::address;

/// A line being written: an event's name and its fields, in the order given.
pub struct LogLine {
    format: LogFormat,
    bytes: String,
}

impl LogLine {
    /// Begins a line for `event` (`request`, `tunnel_open`, `tunnel_end`), with the time, in `bytes`, which are empty.
    pub(super) fn begin(format: LogFormat, event: &'static str, bytes: String) -> Self {
        let mut line = Self { format, bytes };
        match format {
            LogFormat::Text => {
                push_time(&mut line.bytes);
                line.bytes.push(' ');
                line.bytes.push_str(event);
            }
            LogFormat::Json => {
                line.bytes.push_str("{\"time\":\"");
                push_time(&mut line.bytes);
                line.bytes.push('"');
                line = line.text("event", event);
            }
        }
        line
    }

    /// Adds a text field.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: impl Display) -> Self {
        self.name(name);
        if self.format == LogFormat::Json {
            self.bytes.push('"');
        }
        let start = self.bytes.len();
        push(&mut self.bytes, value);
        if !is_plain(&self.bytes[start..]) {
            self.quote(start);
        } else if self.format == LogFormat::Json {
            self.bytes.push('"');
        }
        self
    }

    /// Adds a text field that needs no quotes: a word of the gateway's own, or digits.
    #[must_use]
    pub fn word(self, name: &'static str, word: &str) -> Self {
        self.plain(name, |line| line.push_str(word))
    }

    /// Adds an address.
    #[must_use]
    pub fn address(self, name: &'static str, address: IpAddr) -> Self {
        self.plain(name, |line| address::append(line, address))
    }

    /// Adds an address and its port.
    #[must_use]
    pub fn socket_address(self, name: &'static str, address: SocketAddr) -> Self {
        self.plain(name, |line| address::append_with_port(line, address))
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
        self.name(name);
        self.bytes.push_str(itoa::Buffer::new().format(value));
        self
    }

    /// Adds a number where there is a value.
    #[must_use]
    pub fn maybe_number(self, name: &'static str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    /// The finished line, with a line feed at its end.
    pub(super) fn end(mut self) -> String {
        self.bytes.push_str(if self.format == LogFormat::Json { "}\n" } else { "\n" });
        self.bytes
    }

    /// Adds a text field that `put` writes, and that needs no quotes.
    fn plain(mut self, name: &'static str, put: impl FnOnce(&mut String)) -> Self {
        self.name(name);
        let quote = if self.format == LogFormat::Json { "\"" } else { "" };
        self.bytes.push_str(quote);
        put(&mut self.bytes);
        self.bytes.push_str(quote);
        self
    }

    fn name(&mut self, name: &'static str) {
        match self.format {
            LogFormat::Text => {
                self.bytes.push(' ');
                self.bytes.push_str(name);
                self.bytes.push('=');
            }
            LogFormat::Json => {
                self.bytes.push(',');
                push_json(&mut self.bytes, name);
                self.bytes.push(':');
            }
        }
    }

    /// Writes the value that begins at `start` anew, in quotes.
    fn quote(&mut self, start: usize) {
        let value = self.bytes.split_off(start);
        match self.format {
            // Rust's escapes keep a hostile request target from forging lines or fields.
            LogFormat::Text => push(&mut self.bytes, format_args!("{value:?}")),
            LogFormat::Json => {
                // The quote that stands before it.
                self.bytes.pop();
                push_json(&mut self.bytes, &value);
            }
        }
    }
}

fn push(bytes: &mut String, value: impl Display) {
    write!(bytes, "{value}").expect("writing into a String cannot fail");
}

fn push_json(bytes: &mut String, value: &str) {
    bytes.push_str(&serde_json::to_string(value).expect("a string always serialises"));
}

/// Writes the time. Lines of one second share the text up to it.
fn push_time(bytes: &mut String) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    LAST.with_borrow_mut(|(last, text)| {
        if *last != since.as_secs() || text.is_empty() {
            *last = since.as_secs();
            text.clear();
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            push(text, humantime::format_rfc3339_seconds(second));
            // The Z, which follows the milliseconds.
            text.pop();
        }
        bytes.push_str(text);
    });
    let millis = 1_000 + since.subsec_millis();
    bytes.push('.');
    bytes.push_str(&itoa::Buffer::new().format(millis)[1..]);
    bytes.push('Z');
}

/// Returns true for a value that needs no quotes: printable ASCII without blanks, quotes and backslashes.
fn is_plain(text: &str) -> bool {
    // Without an early end, which would keep the compiler from looking at many bytes at once.
    let plain = |byte: u8| byte.is_ascii_graphic() & (byte != b'"') & (byte != b'\\');
    !text.is_empty() && text.bytes().fold(true, |all, byte| all & plain(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat) -> String {
        let line = LogLine::begin(format, "request", String::new()).text("path", "/a b\nforged=1").text("id", "a1");
        let line = line.text("none", "").number("status", 200).maybe("backend", None::<&str>);
        line.maybe_number("n", Some(1)).maybe_number("m", None).text("e\"", "\u{1b}é").end()
    }

    #[test]
    fn text_quotes_what_could_forge_a_line() {
        let text = line(LogFormat::Text);
        let (time, fields) = text.split_once(' ').unwrap();
        assert_eq!(fields, "request path=\"/a b\\nforged=1\" id=a1 none=\"\" status=200 n=1 e\"=\"\\u{1b}é\"\n");
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }

    #[test]
    fn json_is_one_object_with_fields_in_order() {
        let text = line(LogFormat::Json);
        let (time, fields) = text.split_at(text.find(',').unwrap());
        let expected =
            r#","event":"request","path":"/a b\nforged=1","id":"a1","none":"","status":200,"n":1,"e\"":"\u001bé"}"#;
        assert_eq!(fields, format!("{expected}\n"));
        assert!(time.starts_with("{\"time\":\"2"), "{time}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["path"], "/a b\nforged=1");
        assert_eq!(value["e\""], "\u{1b}é");
    }
}
