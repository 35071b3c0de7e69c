//! Prometheus's text format, version 0.0.4.

use std::fmt::{self, Write};

use super::{Form, Histogram, Kind, Labels};
use crate::method::Spread;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Lines of text.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    /// The family begun last.
    name: &'static str,
}

impl Text {
    pub(super) fn with_capacity(bytes: usize) -> Text {
        Text { text: String::with_capacity(bytes), name: "" }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, more: Option<(&str, &str)>, value: impl fmt::Display) {
        let name = self.name;
        write(&mut self.text, format_args!("{name}{suffix}"));
        let labels = labels.iter().copied().chain(more);
        for (index, (label, value)) in labels.clone().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            write(&mut self.text, format_args!("{before}{label}=\"{}\"", Escaped(value)));
        }
        let end = if labels.count() == 0 { "" } else { "}" };
        write(&mut self.text, format_args!("{end} {value}\n"));
    }
}

impl Form for Text {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        write(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn point(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    fn spread(&mut self, labels: Labels<'_>, histogram: &Histogram, spread: &Spread) {
        let total = spread.calls();
        for (bound, below) in histogram.bounds(spread) {
            self.line("_bucket", labels, Some(("le", &bound.to_string())), below);
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), total);
        self.line("_sum", labels, None, spread.sum() as f64 / histogram.units);
        self.line("_count", labels, None, total);
    }
}

fn write(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

/// A label's value: backslash, quote and line feed are what the format escapes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            letter => f.write_char(letter),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_quotes_or_its_line() {
        assert_eq!(Escaped("/a.B/C").to_string(), "/a.B/C");
        assert_eq!(Escaped("x\"} 1\ny{a=\"\\").to_string(), r#"x\"} 1\ny{a=\"\\"#);
    }

    #[test]
    fn a_line_has_its_labels_in_brackets_where_there_are_any() {
        let mut text = Text::with_capacity(0);
        text.family("a", Kind::Gauge, "An a.");
        text.point(&[], 2.0);
        text.point(&[("side", "server"), ("rpc", "")], 4_398_046_511_104.0);
        text.point(&[("x", "y")], -0.5);
        let expected =
            "# HELP a An a.\n# TYPE a gauge\na 2\na{side=\"server\",rpc=\"\"} 4398046511104\na{x=\"y\"} -0.5\n";
        assert_eq!(String::from_utf8(text.finish()).expect("text"), expected);
    }
}
