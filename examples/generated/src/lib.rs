//! One service, generated several ways. The handler is one file, included beside each: it knows none of them. Where answers
//! are encoded once, handlers see it: that one has its own in `tests/fan_out.rs`.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::field_reassign_with_default,
    clippy::useless_conversion,
    reason = "generated code, and code that is shared with it"
)]

/// As tonic generates it.
pub mod stock {
    pub mod pb {
        include!(concat!(env!("OUT_DIR"), "/stock/toy.v1.rs"));
    }
    include!("../../support/toy/handler.rs");
    include!("../../support/toy/caller.rs");
}

/// With the steps' bodies.
pub mod steps {
    pub mod pb {
        include!(concat!(env!("OUT_DIR"), "/steps/toy.v1.rs"));
    }
    include!("../../support/toy/handler.rs");
    include!("../../support/toy/caller.rs");
}

/// With pooled messages as well: the names that handlers use are the pooled ones.
pub mod pooled {
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/pooled/toy.v1.rs"));
    }
    pub mod pb {
        pub use super::generated::*;
        pub type Chunk = alloc_ladder::steps::Pooled<super::generated::Chunk>;
        pub type User = alloc_ladder::steps::Pooled<super::generated::User>;
    }
    include!("../../support/toy/handler.rs");
    include!("../../support/toy/caller.rs");
}

/// With answers that are encoded once for many streams.
pub mod encoded {
    pub mod pb {
        include!(concat!(env!("OUT_DIR"), "/encoded/toy.v1.rs"));
    }
}

/// A server with the steps' bodies over the trait of [`stock`].
pub mod over {
    pub mod pb {
        include!(concat!(env!("OUT_DIR"), "/over/toy.v1.rs"));
    }
}
