//! Paths of this project's own modules as older recordings have them, and as they are called today.
//!
//! A recording keeps the names of the program that wrote it. Rules and comparisons know today's names only, so a name
//! is brought up to date when it is read.

/// Old and new prefixes, the longer of two that begin alike first.
const MOVED: [(&str, &str); 18] = [
    ("alloc_ladder::grpc::status::", "alloc_ladder::wire::status::"),
    ("alloc_ladder::grpc::", "alloc_ladder::subject::"),
    ("alloc_ladder::instrument::", "alloc_ladder::driver::instrument::"),
    ("alloc_ladder::retained::", "alloc_ladder::driver::retained::"),
    ("alloc_ladder::usage::", "alloc_ladder::driver::usage::"),
    ("alloc_ladder::pb::live::", "alloc_ladder::live::pb::"),
    ("alloc_ladder::pb::", "alloc_ladder::subject::pb::"),
    ("alloc_ladder::ladder::", "alloc_ladder::subject::ladder::"),
    ("alloc_ladder::scenario::", "alloc_ladder::subject::scenario::"),
    ("alloc_ladder::peer::", "alloc_ladder::subject::peer::"),
    ("alloc_ladder::process::", "alloc_ladder::subject::process::"),
    ("alloc_ladder::tonic::aligned::", "alloc_ladder::steps::aligned::"),
    ("alloc_ladder::subject::body::", "alloc_ladder::steps::encode::"),
    ("alloc_ladder::subject::pool::", "alloc_ladder::steps::ring::"),
    ("alloc_ladder::subject::rope::", "alloc_ladder::steps::rope::"),
    ("alloc_ladder::subject::lean::Deframer::", "alloc_ladder::steps::frames::Frames::"),
    ("alloc_ladder::subject::user_codec::", "alloc_ladder::subject::codec::"),
    ("alloc_ladder::subject::http2::", "alloc_ladder::steps::http2::"),
];

/// `name` with every path in it as it is called today.
pub(super) fn today(name: String) -> String {
    if !name.contains("alloc_ladder::") {
        return name;
    }
    MOVED.iter().fold(name, |name, (old, new)| match name.contains(old) {
        true => name.replace(old, new),
        false => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_older_recording_is_brought_up_to_date_once() {
        let old = "<alloc_ladder::grpc::rope::Rope<alloc_ladder::pb::bytes::Chunk> as core::fmt::Debug>::fmt";
        let new = "<alloc_ladder::steps::rope::Rope<alloc_ladder::subject::pb::bytes::Chunk> as core::fmt::Debug>::fmt";
        assert_eq!(today(old.to_owned()), new);
        assert_eq!(today(new.to_owned()), new);
        assert_eq!(today("tonic::codec::decode".to_owned()), "tonic::codec::decode");
    }

    #[test]
    fn no_new_name_is_an_old_one() {
        for (old, new) in MOVED {
            assert_eq!(today(new.to_owned()), new, "{old}");
        }
    }
}
