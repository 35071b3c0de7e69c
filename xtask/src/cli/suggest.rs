//! What somebody meant who wrote a name that does not exist.

/// What is named, and so how alike two names are anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A step of a ladder: few names, far apart. An abbreviation is worth a guess.
    Step,
    /// Traffic of a file.
    Traffic,
    /// A table or a figure of the budgets: names of one kind that share words.
    Budget,
    /// A run: a timestamp's digits make every id resemble every other, and only a slip is worth a guess.
    Run,
}

impl Named {
    /// The likeness (Jaro–Winkler, 0 to 1) above which a name is worth a guess.
    const fn likeness(self) -> f64 {
        match self {
            Named::Step | Named::Traffic => 0.7,
            Named::Budget => 0.85,
            Named::Run => 0.97,
        }
    }
}

/// The name that is most like `wanted`, if it is like enough.
pub(crate) fn nearest<'a>(named: Named, wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let (_, name) = near.filter(|(likeness, _)| *likeness > named.likeness()).max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_a_stranger_is_not() {
        let steps = ["baseline", "zero-copy", "tuned-h2"];
        assert_eq!(nearest(Named::Step, "zerocopy", steps), Some("zero-copy"));
        assert_eq!(nearest(Named::Step, "tuned", steps), Some("tuned-h2"));
        assert_eq!(nearest(Named::Step, "xyz", steps), None);
        let runs = ["put-20260815-0911", "put-20260816-0911"];
        assert_eq!(nearest(Named::Run, "put-20260815-091", runs), Some("put-20260815-0911"));
        assert_eq!(nearest(Named::Run, "put-2026", runs), None);
    }
}
