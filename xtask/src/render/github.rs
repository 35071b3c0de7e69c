//! Findings as annotations: workflow commands that GitHub Actions reads from what a step prints.
//!
//! GitHub shows ten of a kind for a step, the first it reads: failures come first.

use crate::render::findings::{Finding, Findings, Outcome};

/// The annotations, a line each, then a line of words.
pub(crate) fn text(findings: &Findings) -> String {
    let mut text = String::new();
    for outcome in [Outcome::Failed, Outcome::Warned, Outcome::Noted] {
        findings
            .all
            .iter()
            .filter(|finding| finding.outcome == outcome)
            .for_each(|finding| text += &annotation(finding));
    }
    let (failed, all) = (findings.count(Outcome::Failed), findings.all.len());
    // A line that begins with `::` is a command, and this one is not.
    let title = format!("{}: {failed} of {all} figures failed\n", message(&findings.title));
    text + title.trim_start_matches(':')
}

fn annotation(finding: &Finding) -> String {
    let command = match finding.outcome {
        Outcome::Failed => "error",
        Outcome::Warned => "warning",
        Outcome::Noted | Outcome::Passed | Outcome::Skipped => "notice",
    };
    let place = finding.place.as_ref().map(|(file, line)| format!("file={},line={line},", property(file)));
    let title = property(&format!("{} {}", finding.class.replacen('.', "/", 1), finding.name));
    let words = match finding.details.trim_end() {
        "" => finding.message.clone(),
        details => format!("{}\n{details}", finding.message),
    };
    format!("::{command} {}title={title}::{}\n", place.unwrap_or_default(), message(&words))
}

/// What a command says, with what would end its line escaped.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property's value, with what would end it escaped besides.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(outcome: Outcome, place: Option<(&str, usize)>) -> Finding {
        Finding {
            class: "put.baseline".to_owned(),
            name: "server allocs/msg".to_owned(),
            outcome,
            message: "100 % over,\nyes: really".to_owned(),
            details: "more\n".to_owned(),
            place: place.map(|(file, line)| (file.to_owned(), line)),
        }
    }

    #[test]
    fn failures_come_first_and_nothing_ends_a_command_early() {
        let all = vec![
            finding(Outcome::Passed, None),
            finding(Outcome::Noted, Some(("budgets.toml", 3))),
            finding(Outcome::Failed, Some(("src/a,b:c%.rs", 7))),
            finding(Outcome::Warned, None),
        ];
        let findings = Findings { title: "::error::budgets\n::x".to_owned(), all };
        expect_test::expect![[r#"
            ::error file=src/a%2Cb%3Ac%25.rs,line=7,title=put/baseline server allocs/msg::100 %25 over,%0Ayes: really%0Amore
            ::warning title=put/baseline server allocs/msg::100 %25 over,%0Ayes: really%0Amore
            ::notice file=budgets.toml,line=3,title=put/baseline server allocs/msg::100 %25 over,%0Ayes: really%0Amore
            error::budgets%0A::x: 1 of 4 figures failed
        "#]]
        .assert_eq(&text(&findings));
    }

    #[test]
    fn what_github_reads_is_what_was_meant() {
        // As the runner takes a command apart: properties end at the first `::`, each at a comma.
        let unescaped = |text: &str, property: bool| {
            let text = text.replace("%0D", "\r").replace("%0A", "\n");
            let text = if property { text.replace("%3A", ":").replace("%2C", ",") } else { text };
            text.replace("%25", "%")
        };
        let hostile = "a::b,c=d%0A%25\r\ne";
        let finding = Finding { message: hostile.to_owned(), ..finding(Outcome::Failed, Some((hostile, 1))) };
        let line = annotation(&finding);
        assert_eq!(line.matches('\n').count(), 1);
        let (properties, said) = line[2..].trim_end_matches('\n').split_once("::").expect("a command");
        let file = properties.split(['=', ',']).nth(1).expect("a file");
        assert_eq!(unescaped(file, true), hostile.split('=').next().expect("some"));
        assert!(unescaped(said, false).starts_with(hostile));
    }
}
