//! What a run is of.

use serde::{Deserialize, Serialize};

use crate::Side;

/// What a run is of: a name, and what its traffic looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The name that runs of it are compared under: a scenario's, or the program's.
    pub name: String,
    /// What its traffic looks like.
    pub shape: Shape,
}

impl Subject {
    /// Whether figures of the two mean the same. A program may be called otherwise in each of its builds.
    pub fn is_like(&self, other: &Subject) -> bool {
        self.shape == other.shape && (self.shape == Shape::Program || self.name == other.name)
    }
}

/// What a subject's traffic looks like, as far as it decides which figures mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Client-streaming: the server receives the payload.
    Upload,
    /// Server-streaming: the client receives the payload.
    Download,
    /// One request, one response.
    Unary,
    /// A process that was started and watched; nothing is known of its traffic but what somebody said of it.
    Program,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Shape; 4] = [Shape::Upload, Shape::Download, Shape::Unary, Shape::Program];

    /// What one message is called in tables: unary counts calls.
    pub const fn message_noun(self) -> &'static str {
        match self {
            Shape::Upload | Shape::Download | Shape::Program => "message",
            Shape::Unary => "call",
        }
    }

    /// The side that receives the payload. A program is taken for a server.
    pub const fn receiver(self) -> Side {
        match self {
            Shape::Upload | Shape::Unary | Shape::Program => Side::Server,
            Shape::Download => Side::Client,
        }
    }

    /// Whether messages of a stated size are the work, so that figures per payload byte mean something.
    pub const fn has_payload(self) -> bool {
        matches!(self, Shape::Upload | Shape::Download)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_a_program_are_alike_and_scenarios_are_not() {
        let subject = |name: &str, shape| Subject { name: name.to_owned(), shape };
        assert!(subject("before", Shape::Program).is_like(&subject("after", Shape::Program)));
        assert!(!subject("a", Shape::Upload).is_like(&subject("b", Shape::Upload)));
        assert!(!subject("a", Shape::Upload).is_like(&subject("a", Shape::Program)));
    }

    #[test]
    fn a_shape_is_written_in_kebab_case() {
        let names = Shape::ALL.map(|shape| serde_json::to_string(&shape).expect("serialises"));
        assert_eq!(names, [r#""upload""#, r#""download""#, r#""unary""#, r#""program""#]);
    }
}
