//! What is changed in the text that tonic generates.

/// What every generated module begins with.
const USE: &str = "use tonic::codegen::*;";
const TRAIT: &str = "#[async_trait]\n    pub trait ";
const TRAIT_END: &str = "\n    }\n";

/// What is to be done where the text is another one.
pub(super) const UNKNOWN: &str =
    "this version of alloc-ladder knows what tonic-build 0.14 generates; use versions that belong together";

/// A message's type within one of this crate's, `Pooled` or `Encoded`. A path that begins with `::` is taken by tonic as it is; another is relative to
/// the module around the service's.
pub(super) fn within(library: &str, outer: &str, rust: &str) -> String {
    let outside = if rust.starts_with("::") || rust.starts_with("crate::") { "" } else { "super::" };
    format!("{library}::steps::{outer}<{outside}{rust}>")
}

/// The modules with this crate's `tonic` in each.
pub(super) fn with_use(code: &str, library: &str) -> Result<String, String> {
    let (modules, uses) = (code.matches("pub mod ").count(), code.matches(USE).count());
    if modules != uses {
        return Err(format!("{modules} modules begin in {uses} places"));
    }
    Ok(code.replace(USE, &format!("use {library}::steps::tonic as tonic;\n    {USE}")))
}

/// The server's module with another crate's trait in place of its own.
pub(super) fn over_trait(code: &str, path: &str) -> Result<String, String> {
    let Some(begin) = code.find(TRAIT) else { return Err("no server with a trait".to_owned()) };
    let end = code[begin..].find(TRAIT_END).ok_or("a trait that does not end")?;
    let rest = &code[begin + end + TRAIT_END.len()..];
    if rest.contains(TRAIT) {
        return Err("more than one trait".to_owned());
    }
    Ok(format!("{}pub use {path};\n{rest}", &code[..begin]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_goes_into_every_module_and_none_is_left_out_silently() {
        let code =
            "pub mod a_client {\n    use tonic::codegen::*;\n}\npub mod a_server {\n    use tonic::codegen::*;\n}\n";
        let edited = with_use(code, "::alloc_ladder").expect("known");
        assert_eq!(edited.matches("use ::alloc_ladder::steps::tonic as tonic;\n    use tonic::codegen::*;").count(), 2);
        assert!(with_use("pub mod a_client {\n    use other::codegen::*;\n}\n", "::alloc_ladder").is_err());
    }

    #[test]
    fn a_message_within_another_type_is_named_from_where_the_service_stands() {
        assert_eq!(within("::alloc_ladder", "Pooled", "Chunk"), "::alloc_ladder::steps::Pooled<super::Chunk>");
        assert_eq!(
            within("::alloc_ladder", "Encoded", "::other::Chunk"),
            "::alloc_ladder::steps::Encoded<::other::Chunk>"
        );
    }

    #[test]
    fn a_trait_gives_way_to_another() {
        let code = "pub mod s {\n    #[async_trait]\n    pub trait Greeter: Send {\n        fn a();\n    }\n    pub struct S;\n}\n";
        let edited = over_trait(code, "::other::Greeter").expect("known");
        assert_eq!(edited, "pub mod s {\n    pub use ::other::Greeter;\n    pub struct S;\n}\n");
        assert!(over_trait("pub mod s {\n}\n", "::other::Greeter").is_err());
    }
}
