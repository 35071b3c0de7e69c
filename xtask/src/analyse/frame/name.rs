//! One function name as a debugger prints it, taken apart: legacy and v0 mangling, generics, closures, hashes.
//!
//! A name is parsed once and then serves twice: its full path is what the rules in `classify` and `fold::runtime`
//! match, its short form is what people read. Parsing is by bracket depth, not by pattern, because a type's own
//! path and its trait's path nest in each other to any depth.

/// A function name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The whole name with its generics, safe to put into a line or into XML.
    pub(crate) full: String,
    /// The path without generics, closures and hashes: `h2::proto::connection::Connection::poll`.
    pub(crate) path: String,
    /// For a trait's method: the trait's path and the method, `futures_core::stream::Stream::poll_next`.
    pub(crate) implements: Option<String>,
    /// What people read: `h2::Connection::poll`.
    pub(crate) short: String,
}

/// The crates whose types are at home everywhere: an impl for them is named by its trait.
const STD: [&str; 3] = ["alloc", "core", "std"];

impl Name {
    pub(crate) fn parse(raw: &str) -> Name {
        let full = super::moved::today(clean(raw));
        let Path { segments: own, implements } = path(&full, DEPTH);
        let homeless = own.crate_name().is_none_or(|krate| STD.contains(&krate));
        let segments = match &implements {
            Some(of) if homeless && of.crate_name().is_some_and(|krate| !STD.contains(&krate)) => of,
            Some(of) if own.crate_name().is_none() => of,
            _ => &own,
        };
        let joined = |segments: &Segments| segments.0.join("::");
        let short = if segments.0.is_empty() { full.clone() } else { shorten(&segments.0) };
        Name {
            path: if segments.0.is_empty() { full.clone() } else { joined(segments) },
            implements: implements.as_ref().map(joined),
            short,
            full,
        }
    }
}

/// A frame's name as it may stand in a folded file: [`printable`], and nothing a reader of folded stacks would split.
///
/// `;` separates frames and a space with digits behind it is a count, for every such reader.
pub(crate) fn clean(raw: &str) -> String {
    let mut text = printable(raw).replace(';', ",").trim().to_owned();
    if let Some(at) = text.rfind(' ')
        && text[at + 1..].chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        text.replace_range(at..=at, "_");
    }
    if text.is_empty() { "???".to_owned() } else { text }
}

/// The text on one line, without what is no XML and what would turn the reading direction of the text around it.
pub(crate) fn printable(raw: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => ' ',
        // Embeddings and overrides of direction; letters that run from right to left are left alone.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    raw.chars().map(shown).collect()
}

struct Segments(Vec<String>);

impl Segments {
    /// The crate; `None` for a generic parameter, a primitive or a symbol of another language.
    fn crate_name(&self) -> Option<&str> {
        (self.0.len() > 1).then(|| self.0[0].as_str())
    }
}

struct Path {
    segments: Segments,
    implements: Option<Segments>,
}

/// How deep types may stand in types before a name is taken as it is. Compilers stop earlier; a file may hold anything.
const DEPTH: usize = 64;

/// Takes a path apart at its outermost `::`; below `depth` more types it is left whole.
fn path(text: &str, depth: usize) -> Path {
    let Some(depth) = depth.checked_sub(1) else {
        return Path { segments: Segments(Vec::new()), implements: None };
    };
    let mut segments: Vec<String> = Vec::new();
    let mut implements: Option<Vec<String>> = None;
    for (index, part) in split(text, "::").into_iter().enumerate() {
        let Some(inner) = bracketed(part) else {
            let name = plain(part);
            if !name.is_empty() {
                segments.push(name.to_owned());
                implements.iter_mut().for_each(|of| of.push(name.to_owned()));
            }
            continue;
        };
        if index == 0 {
            // `<Type as Trait>::method`, or v0's `<Type>::method`.
            let (own, of) = halves(inner, " as ").map_or((inner, None), |(own, of)| (own, Some(of)));
            segments = home(own, depth);
            implements = of.map(|of| home(of, depth));
            if segments.is_empty() && of.is_none() {
                // Only std may give slices and primitives methods of their own.
                segments = vec!["core".to_owned()];
            }
        } else if let Some(header) = inner.strip_prefix("impl ") {
            // Legacy's `module::<impl Trait for Type>::method`; the module is only where the impl stands.
            match halves(header, " for ") {
                Some((of, own)) => {
                    segments = home(own, depth);
                    implements = Some(home(of, depth));
                }
                None => {
                    let home = home(header, depth);
                    if home.len() > 1 { segments = home } else { segments.extend(home) }
                }
            }
        }
        // Anything else in brackets is v0's `function::<generics>`.
    }
    // A lone name before a method is a type without a crate: `F::poll` of `<F as Future>::poll`.
    let lone = implements.is_some() && segments.len() < 3 && segments.first().is_none_or(|first| !is_crate(first));
    if lone {
        segments.clear();
    }
    Path { segments: Segments(segments), implements: implements.map(Segments) }
}

/// Crates begin in lower case and are no primitive; generic parameters begin in upper case.
fn is_crate(name: &str) -> bool {
    const PRIMITIVES: [&str; 18] = [
        "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64", "never",
    ];
    name.starts_with(|c: char| c.is_lowercase() || c == '_') && !PRIMITIVES.contains(&name)
}

/// The path of a type or trait, without what only wraps or qualifies it.
fn home(text: &str, depth: usize) -> Vec<String> {
    let mut text = text.trim();
    loop {
        let stripped = text.trim_start_matches(['&', '*']);
        let stripped = ["mut ", "const ", "dyn ", "impl "].iter().find_map(|word| stripped.strip_prefix(word));
        let next = stripped.unwrap_or(text.trim_start_matches(['&', '*'])).trim_start();
        if next == text {
            break;
        }
        text = next;
    }
    let text = halves(text, " + ").map_or(text, |(first, _)| first);
    // Tuples, slices, arrays and function pointers live in no crate.
    let nowhere = text.starts_with(['(', '[', '{', '\''])
        || ["fn(", "unsafe ", "extern ", "for<"].iter().any(|w| text.starts_with(w));
    if nowhere { Vec::new() } else { path(text, depth).segments.0 }
}

/// A segment without generics, a v0 crate hash, a shim mark; empty for closures and legacy hashes.
fn plain(part: &str) -> &str {
    let end = part.find(['<', '{', '[']).unwrap_or(part.len());
    let name = part[..end].trim();
    let hash = name.len() == 17 && name.starts_with('h') && name[1..].chars().all(|c| c.is_ascii_hexdigit());
    if hash { "" } else { name }
}

/// The inside of a segment that is one pair of angle brackets.
fn bracketed(part: &str) -> Option<&str> {
    part.strip_prefix('<')?.strip_suffix('>')
}

/// Splits at the first separator outside brackets.
fn halves<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let at = outermost(text, separator).next()?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// Splits at every separator outside brackets.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for at in outermost(text, separator) {
        parts.push(&text[from..at]);
        from = at + separator.len();
    }
    parts.push(&text[from..]);
    parts
}

/// Where the separator stands outside brackets, each time behind the last. The `>` of an arrow closes nothing.
fn outermost<'a>(text: &'a str, separator: &'a str) -> impl Iterator<Item = usize> + 'a {
    let mut depth = 0i32;
    let mut previous = 0u8;
    let mut behind = 0;
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        let here = depth == 0 && at >= behind && text.as_bytes()[at..].starts_with(separator.as_bytes());
        if here {
            behind = at + separator.len();
        }
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' if previous == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        previous = byte;
        here.then_some(at)
    })
}

/// The crate, then from the innermost type on; for free functions the crate, the module, the function.
fn shorten(segments: &[String]) -> String {
    let is_type = |name: &String| name.starts_with(char::is_uppercase) && name.chars().any(char::is_lowercase);
    let tail = match segments.iter().rposition(is_type) {
        Some(at) if at > 0 => &segments[at..],
        Some(_) => return segments.join("::"),
        None => match segments {
            [krate, .., module, function] if module == function || module == krate => &segments[segments.len() - 1..],
            [_, .., _, _] => &segments[segments.len() - 2..],
            _ => return segments.join("::"),
        },
    };
    format!("{}::{}", segments[0], tail.join("::"))
}

#[cfg(test)]
mod tests;
