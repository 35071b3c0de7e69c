//! In what form a verb gives its result.

use clap::ValueEnum;

/// The form of a result on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for a terminal.
    #[default]
    Text,
    /// The values, for a program.
    Json,
    /// Tables for a job summary or a comment.
    Markdown,
    /// A test report: a test case for each figure.
    Junit,
    /// Annotations as GitHub Actions reads them from a step's output.
    Github,
}

/// The flags that choose it.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Output {
    /// The form of the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print JSON: the same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Output {
    /// The form that was asked for.
    pub(crate) fn format(self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// Whether a person reads the result in a terminal.
    pub(crate) fn is_text(self) -> bool {
        self.format() == Format::Text
    }
}
