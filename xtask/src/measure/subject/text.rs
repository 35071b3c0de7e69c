//! Words of the file: its name, placeholders, names of packages.

/// The file's name.
pub(crate) const FILE: &str = "alloc-ladder.toml";

/// The server's port, wherever it stands in an argument or a variable.
pub(super) const PORT: &str = "{port}";
/// The calls that a round needs.
pub(super) const CALLS: &str = "{calls}";

/// What placeholders stand for.
#[derive(Debug, Default)]
pub(super) struct Filling<'a> {
    pub(super) port: Option<u16>,
    pub(super) calls: u64,
    /// Keys of the workload, and what they say.
    pub(super) workload: &'a [(&'static str, Option<String>)],
}

/// Puts the port, the number of calls and the figures of the workload where they are asked for.
pub(super) fn filled(text: &str, filling: &Filling<'_>) -> String {
    let mut text = text.replace(CALLS, &filling.calls.to_string());
    if let Some(port) = filling.port {
        text = text.replace(PORT, &port.to_string());
    }
    for (key, value) in filling.workload {
        if let Some(value) = value {
            text = text.replace(&placeholder(key), value);
        }
    }
    text
}

/// `{streams}` of the key `streams`.
pub(super) fn placeholder(key: &str) -> String {
    format!("{{{key}}}")
}

/// What serde says of a value, in the words of who writes such a file.
pub(super) fn said(message: &str) -> String {
    let unquoted = |text: &str| text.trim_matches('`').to_owned();
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    if let Some((variant, known)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{variant} is not known here; it is {}", known.trim_start_matches("one of "));
    }
    let rest = ["invalid type: ", "invalid value: "].into_iter().find_map(|head| message.strip_prefix(head));
    let Some((is, must)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else { return message.to_owned() };
    let is = match is.split_once(' ') {
        Some(("integer", value)) | Some(("floating", value)) => {
            format!("the number {}", unquoted(value.trim_start_matches("point ")))
        }
        Some(("string", value)) => format!("the text {value}"),
        Some(("boolean", value)) => unquoted(value),
        _ if is == "map" => "a table".to_owned(),
        _ if is == "sequence" => "a list".to_owned(),
        _ => is.to_owned(),
    };
    let must = match must {
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" => "a whole number, 0 or more",
        "f64" => "a number",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a map" => "a table, as { NAME = \"value\" }",
        "a sequence" => "a list; several tables are each headed [[…]]",
        _ if must.starts_with("struct ") => "a table",
        other => other,
    };
    format!("it is {is}; it must be {must}")
}

/// Whether cargo takes the text for a package's name.
pub(super) fn is_package(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled() {
        let workload = [("streams", Some("64".to_owned())), ("metadata", None)];
        let filling = Filling { port: Some(7), calls: 2256, workload: &workload };
        assert_eq!(filled("-n={calls} [::1]:{port}/{x}", &filling), "-n=2256 [::1]:7/{x}");
        assert_eq!(filled("{streams}x{metadata}", &filling), "64x{metadata}");
        assert_eq!(filled("{port}", &Filling::default()), "{port}");
    }

    #[test]
    fn what_serde_says_is_said_in_the_words_of_the_file() {
        for (message, words) in [
            ("missing field `server`", "`server` is missing"),
            ("invalid type: integer `1`, expected struct ServerTable", "it is the number 1; it must be a table"),
            ("invalid value: integer `-1`, expected u64", "it is the number -1; it must be a whole number, 0 or more"),
            (
                "invalid type: floating point `1.5`, expected u32",
                "it is the number 1.5; it must be a whole number, 0 or more",
            ),
            (
                "invalid type: string \"50051\", expected u16",
                "it is the text \"50051\"; it must be a whole number from 0 to 65535",
            ),
            (
                "invalid type: map, expected a sequence",
                "it is a table; it must be a list; several tables are each headed [[…]]",
            ),
            ("invalid type: boolean `true`, expected a string", "it is true; it must be a text in quotes"),
            (
                "unknown variant `cleint`, expected `server` or `client`",
                "`cleint` is not known here; it is `server` or `client`",
            ),
            ("a quote is not closed", "a quote is not closed"),
        ] {
            assert_eq!(said(message), words);
        }
    }

    #[test]
    fn a_package_is_a_name_and_no_flag() {
        assert!(is_package("tonic-health") && is_package("h2"));
        assert!(!is_package("--config") && !is_package("a b") && !is_package("") && !is_package("a.b"));
    }
}
