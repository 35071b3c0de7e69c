//! Findings as a JUnit report: a test suite, and a test case a figure, as Jenkins, GitLab, Buildkite and others read it.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesCData, BytesDecl, Event};

use crate::render::findings::{Finding, Findings, Outcome};

/// The report.
pub(crate) fn text(findings: &Findings) -> String {
    let xml = written(findings).expect("memory takes all that is written to it");
    String::from_utf8(xml).expect("what was text stays text") + "\n"
}

fn written(findings: &Findings) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let count = |outcome| findings.count(outcome).to_string();
    let (tests, failures, skipped) = (findings.all.len().to_string(), count(Outcome::Failed), count(Outcome::Skipped));
    let title = valid(&findings.title);
    let counts = [("tests", tests.as_str()), ("failures", &failures), ("errors", "0"), ("skipped", &skipped)];
    writer
        .create_element("testsuites")
        .with_attribute(("name", "alloc-ladder"))
        .with_attributes(counts)
        .write_inner_content(|writer| {
            writer
                .create_element("testsuite")
                .with_attribute(("name", title.as_str()))
                .with_attributes(counts)
                .write_inner_content(|writer| findings.all.iter().try_for_each(|finding| case(writer, finding)))?;
            Ok(())
        })?;
    Ok(writer.into_inner())
}

fn case(writer: &mut Writer<Vec<u8>>, finding: &Finding) -> io::Result<()> {
    let (class, name) = (valid(&finding.class), valid(&finding.name));
    let mut element = writer
        .create_element("testcase")
        .with_attribute(("classname", class.as_str()))
        .with_attribute(("name", name.as_str()));
    if let Some((file, line)) = &finding.place {
        let (file, line) = (valid(file), line.to_string());
        element = element.with_attributes([("file", file.as_str()), ("line", line.as_str())]);
    }
    let message = valid(&finding.message);
    let details = valid(&format!("{}\n{}", finding.message, finding.details));
    match finding.outcome {
        Outcome::Passed => element.write_empty()?,
        Outcome::Skipped => element.write_inner_content(|writer| {
            writer.create_element("skipped").with_attribute(("message", message.as_str())).write_empty()?;
            Ok(())
        })?,
        Outcome::Failed => element.write_inner_content(|writer| {
            writer
                .create_element("failure")
                .with_attributes([("message", message.as_str()), ("type", "budget")])
                .write_inner_content(|writer| words(writer, &details))?;
            Ok(())
        })?,
        // A case that passes has no message of its own.
        Outcome::Noted | Outcome::Warned => element.write_inner_content(|writer| {
            writer.create_element("system-out").write_inner_content(|writer| words(writer, &details))?;
            Ok(())
        })?,
    };
    Ok(())
}

/// Words as they are: readers of reports are not all good at entities.
fn words(writer: &mut Writer<Vec<u8>>, text: &str) -> io::Result<()> {
    BytesCData::escaped(text).try_for_each(|part| writer.write_event(Event::CData(part)))
}

/// Text without the characters that no XML may hold, escaped or not.
fn valid(text: &str) -> String {
    let is_valid = |letter: char| match letter {
        '\t' | '\n' | '\r' => true,
        letter => letter >= ' ' && !matches!(letter, '\u{fffe}' | '\u{ffff}'),
    };
    text.chars().map(|letter| if is_valid(letter) { letter } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_s_parser_reads_what_was_found() {
        let finding = |name: &str, outcome| Finding {
            class: "put.baseline".to_owned(),
            name: name.to_owned(),
            outcome,
            message: "<3.00> & \"more\" \u{1}".to_owned(),
            details: "+64 KiB: <T as U>::f ← main ]]>\n".to_owned(),
            place: Some(("src/a b.rs".to_owned(), 12)),
        };
        let outcomes = [Outcome::Passed, Outcome::Noted, Outcome::Warned, Outcome::Failed, Outcome::Skipped];
        let all = outcomes.map(|outcome| finding(&format!("{outcome:?} <allocs>"), outcome)).into();
        let findings = Findings { title: "budgets.toml against put-1 & put-2".to_owned(), all };
        let report = junit_parser::from_reader(text(&findings).as_bytes()).expect("a report");
        assert_eq!((report.tests, report.failures, report.errors, report.skipped), (5, 1, 0, 1));
        let suite = &report.suites[0];
        assert_eq!(suite.name, findings.title);
        assert_eq!((suite.tests, suite.failures, suite.skipped), (5, 1, 1));
        for (case, of) in suite.cases.iter().zip(&findings.all) {
            assert_eq!(case.original_name, of.name);
            assert_eq!(case.classname.as_deref(), Some("put.baseline"));
            assert_eq!((case.file.as_deref(), case.line), (Some("src/a b.rs"), Some(12)));
        }
        let states = suite.cases.iter().map(|case| (case.status.is_success(), case.status.is_skipped()));
        assert_eq!(
            states.collect::<Vec<_>>(),
            [(true, false), (true, false), (true, false), (false, false), (false, true)]
        );
        let failure = suite.cases[3].status.failure_as_ref();
        assert_eq!(failure.message, "<3.00> & \"more\" \u{fffd}");
        assert!(failure.text.contains("+64 KiB: <T as U>::f ← main ]]"), "{}", failure.text);
    }
}
