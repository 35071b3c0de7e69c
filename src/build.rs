//! For build scripts: generated services that use the bodies of [`steps`](https://docs.rs/alloc-ladder).
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! // In build.rs; `alloc-ladder` with the feature `build` among the build-dependencies, and with `steps` among the others.
//! prost_build::Config::new()
//!     .bytes(["."])
//!     .service_generator(Box::new(alloc_ladder::build::generator(tonic_prost_build::configure())))
//!     .compile_protos(&["proto/service.proto"], &["proto"])
//! # }
//! ```
//!
//! The generator is tonic's. Into each module that it writes goes one line, `use ::alloc_ladder::steps::tonic as tonic;`, so
//! that `tonic::server::Grpc` and `tonic::client::Grpc` are this crate's; handlers, traits and callers stay as they are.

mod edit;

use std::collections::BTreeMap;

use prost_build::{Service, ServiceGenerator};

/// tonic's generator with this crate's bodies. `builder` says what tonic is to generate: its settings for messages are
/// prost's to be told.
pub fn generator(builder: tonic_prost_build::Builder) -> Generator {
    Generator {
        stock: builder.service_generator(),
        library: "::alloc_ladder".to_owned(),
        pooled: BTreeMap::new(),
        encoded: BTreeMap::new(),
        over: None,
    }
}

/// Generates services for [`prost_build::Config::service_generator`].
pub struct Generator {
    stock: Box<dyn ServiceGenerator>,
    library: String,
    /// Messages by their proto path, and whether a method was seen to use it.
    pooled: BTreeMap<String, bool>,
    encoded: BTreeMap<String, bool>,
    over: Option<String>,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = [("pooled", &self.pooled), ("encoded", &self.encoded)];
        let mut debug = f.debug_struct("Generator");
        settings.iter().for_each(|(name, messages)| _ = debug.field(name, messages));
        debug.field("over", &self.over).finish_non_exhaustive()
    }
}

impl Generator {
    /// Methods take and give this message (`.package.Message`) as `alloc_ladder::steps::Pooled`, which handlers and callers
    /// see: signatures change. Generating fails where no method has the message.
    pub fn pooled(mut self, message: &str) -> Self {
        self.pooled.insert(message.to_owned(), false);
        self
    }

    /// Methods answer with this message (`.package.Message`), once or in a stream, as `alloc_ladder::steps::Encoded`, which is
    /// encoded once however many calls it answers. Handlers and callers see it: signatures change. A message that methods
    /// take stays as it is. Generating fails where no method answers with the message.
    pub fn encoded(mut self, message: &str) -> Self {
        self.encoded.insert(message.to_owned(), false);
        self
    }

    /// The server serves whatever implements this trait (`some_crate::pb::greeter_server::Greeter`), of another crate's
    /// generated code for the same service, and declares none of its own. Messages have to be the other crate's too:
    /// `Config::extern_path`.
    pub fn over_trait(mut self, path: &str) -> Self {
        self.over = Some(path.to_owned());
        self
    }

    /// What the library is called where it is not `::alloc_ladder`.
    pub fn library(mut self, path: &str) -> Self {
        self.library = path.to_owned();
        self
    }
}

impl ServiceGenerator for Generator {
    /// # Panics
    /// Where tonic generated something else than this version of the crate knows: nothing is left out silently.
    fn generate(&mut self, mut service: Service, buf: &mut String) {
        let library = &self.library;
        for method in &mut service.methods {
            let (input, output) = (&method.input_proto_type, &method.output_proto_type);
            if let Some(seen) = self.pooled.get_mut(input) {
                *seen = true;
                method.input_type = edit::within(library, "Pooled", &method.input_type);
            }
            if let Some(seen) = self.encoded.get_mut(output) {
                *seen = true;
                method.output_type = edit::within(library, "Encoded", &method.output_type);
            } else if let Some(seen) = self.pooled.get_mut(output) {
                *seen = true;
                method.output_type = edit::within(library, "Pooled", &method.output_type);
            }
        }
        let mut own = String::new();
        self.stock.generate(service, &mut own);
        if let Some(path) = &self.over {
            own = edit::over_trait(&own, path).unwrap_or_else(|what| panic!("{what}: {}", edit::UNKNOWN));
        }
        buf.push_str(&edit::with_use(&own, library).unwrap_or_else(|what| panic!("{what}: {}", edit::UNKNOWN)));
    }

    fn finalize(&mut self, buf: &mut String) {
        self.stock.finalize(buf);
    }

    /// # Panics
    /// Where a message of this package that was to be pooled is none of a method's, or one that was to be encoded none that
    /// a method answers with.
    fn finalize_package(&mut self, package: &str, buf: &mut String) {
        let of_package =
            |message: &str| message.rsplit_once('.').is_some_and(|(of, _)| of.trim_start_matches('.') == package);
        let unused = self.pooled.iter().find(|(message, seen)| !**seen && of_package(message));
        assert!(unused.is_none(), "no method takes or gives {}, which is to be pooled", unused.expect("some").0);
        let unused = self.encoded.iter().find(|(message, seen)| !**seen && of_package(message));
        assert!(unused.is_none(), "no method answers with {}, which is to be encoded", unused.expect("some").0);
        self.stock.finalize_package(package, buf);
    }
}
