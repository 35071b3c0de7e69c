use expect_test::expect;

use super::*;
use crate::analyse::frame::runtime::RUNTIME;

#[test]
fn no_rule_is_hidden_by_one_above_it() {
    for rule in RULES {
        for pattern in rule.paths {
            // A frame that this pattern, and as little else as can be, is about.
            let (path, implements) = match pattern.split_once("as ") {
                Some((path, of)) => {
                    let path = if path.is_empty() { "app::Type::method" } else { path.trim_end() };
                    (path.replace('*', "x"), Some(of.replace('*', "x")))
                }
                None => (format!("{}::frame", pattern.replace('*', "x")), None),
            };
            let name = Name { full: path.clone(), short: path.clone(), path, implements };
            let decided = matching(&name).expect("the pattern matches its own path");
            assert!(std::ptr::eq(decided, rule), "`{pattern}` is decided by: {}", decided.because);
        }
    }
}

#[test]
fn every_stage_but_other_has_a_rule_and_every_rule_a_reason() {
    for stage in Stage::ALL {
        let ruled = RULES.iter().any(|rule| rule.stage == Some(stage));
        assert_eq!(ruled, stage != Stage::Other, "{stage}: other is what no rule decides");
    }
    for rule in RULES {
        assert!(!rule.because.is_empty() && !rule.paths.is_empty());
    }
}

#[test]
fn frames_left_out_of_stacks_decide_nothing() {
    for (entries, _) in RUNTIME {
        // dhat is left out where it stands in a stack, and charged where a stack is all its own.
        for entry in entries.iter().filter(|entry| **entry != "dhat") {
            let name = Name::parse(&format!("{}::frame", entry.replace('*', "x")));
            assert!(decide(&name).is_none(), "{entry} decides");
        }
    }
}

#[test]
fn single_frames_are_charged_to() {
    let names = [
        "tonic::codec::encode::EncodeBody<T,U>::new_server",
        "<tonic::codec::buffer::EncodeBuf as bytes::buf::BufMut>::advance_mut",
        "<app::Codec as tonic::codec::Encoder>::encode",
        "<app::User as prost::message::Message>::encode_raw",
        "prost::encoding::string::encode_repeated",
        "prost::message::Message::encode_to_vec",
        "<tonic_prost::codec::ProstDecoder<U> as tonic::codec::Decoder>::decode",
        "<tonic_prost::codec::ProstDecoder<U> as tonic::codec::Decoder>::buffer_settings",
        "<app::User as prost::message::Message>::merge_field",
        "prost::encoding::string::merge",
        "tonic::codec::decode::Streaming<T>::decode_chunk",
        "<h2::codec::framed_read::FramedRead<T> as futures_core::stream::Stream>::poll_next",
        "<tokio_util::codec::length_delimited::LengthDelimitedCodec as tokio_util::codec::decoder::Decoder>::decode",
        "tokio_util::util::poll_buf::poll_read_buf",
        "h2::proto::streams::send::Send::send_data",
        "h2::codec::framed_write::FramedWrite<T,B>::new",
        "<hyper_util::rt::tokio::TokioExecutor as hyper::rt::Executor<Fut>>::execute",
        "tonic::transport::server::serve_connection::{{closure}}",
        "tokio::net::tcp::stream::TcpStream::new",
        "<tower::buffer::service::Buffer<Req,F> as tower_service::Service<Req>>::call",
        "tower::util::boxed_clone::BoxCloneService<T,U,E>::new",
        "tonic::server::grpc::Grpc<T>::unary::{{closure}}",
        "tonic::status::Status::to_header_map",
        "tonic::service::router::Routes::new",
        "axum::routing::Router<S>::route_service",
        "tonic::body::Body::new",
        "app::service::put::{{closure}}",
        "<app::pb::greeter_server::GreeterServer<T> as tower_service::Service<http::Request<B>>>::call::{{closure}}",
        "<<app::pb::greeter_server::GreeterServer<T> as tower_service::Service<http::Request<B>>>::call::SayHelloSvc<T> as tonic::server::service::UnaryService<app::pb::HelloRequest>>::call::{{closure}}",
        "<app::Greet as app::pb::greeter_server::Greeter>::say_hello::{{closure}}",
        "<app::auth_server::Layer<S> as tower_service::Service<http::Request<B>>>::call",
        "app::pb::greeter_client::GreeterClient<T>::say_hello::{{closure}}",
        "tonic::client::grpc::GrpcConfig::prepare_request",
        "tonic::status::Status::new",
        "tonic_web::call::GrpcWebCall<B>::poll_decode",
        "alloc_ladder::steps::server::Grpc<C>::unary::{{closure}}",
        "alloc_ladder::steps::ring::take",
        "some_database::pool::Pool::get",
        "<alloc_ladder::steps::encode::EncodeBody<S> as http_body::Body>::poll_frame",
        "<alloc_ladder::steps::parts::PartsBuf as bytes::buf::buf_mut::BufMut>::put",
        "<alloc_ladder::subject::codec::SizedEncoder as tonic::codec::Encoder>::encode",
        "<alloc_ladder::steps::pooled::Pooled<M> as core::default::Default>::default",
        "alloc_ladder::steps::rope::Rope::settle",
        "alloc_ladder::steps::frames::Frames::next",
        "<alloc_ladder::steps::rope::Rope as bytes::buf::buf_impl::Buf>::copy_to_bytes",
        "<tonic::codec::buffer::DecodeBuf as bytes::buf::buf_impl::Buf>::copy_to_bytes",
        "alloc_ladder::subject::swap::SwapUser::answer",
        "alloc_ladder::subject::swap::SwapUser::decode",
        "alloc_ladder::subject::pb::swapped::__buffa::view::UserView::merge_view_field",
        "alloc_ladder::subject::lean::server::Connection<E,D,H>::answer::{{closure}}",
        "alloc_ladder::steps::channel::LeanChannel::over::{{closure}}",
        "alloc_ladder::steps::compress::flate::gunzip",
        "alloc_ladder::subject::lean::marshal",
        "alloc_ladder::subject::meter::Meter::end",
        "alloc_ladder::subject::serve::run::{{closure}}",
        "<alloc_ladder::tonic::task::TransportExecutor as hyper::rt::Executor<F>>::execute",
        "gimli::read::abbrev::Abbreviations::insert",
        "__rustc::rust_begin_unwind",
        "alloc_ladder::steps::ring::take",
        "alloc_ladder::subject::service::Ladder::put::{{closure}}",
        "alloc_ladder::steps::aligned::AlignedIo<T>::fill",
        "alloc_ladder::tonic::body::StagedBody<B>::boxed",
        "<alloc_ladder::stage::Staged<F> as core::future::future::Future>::poll",
        "<alloc_ladder::alloc::CountingAlloc<A> as core::alloc::global::GlobalAlloc>::alloc",
        "alloc_ladder::alloc::snapshot::Snapshot::take",
        "<dhat::Alloc as core::alloc::global::GlobalAlloc>::alloc",
        "server::main",
        "alloc::raw_vec::RawVec<T,A>::reserve",
        "bytes::bytes_mut::BytesMut::reserve_inner",
        "tokio::runtime::task::harness::Harness<T,S>::poll",
        "start_thread",
        "h2x::lib::f",
    ];
    let mut text = String::new();
    for raw in names {
        let stage = decide(&Name::parse(raw)).and_then(|rule| rule.stage);
        text.push_str(&format!("{:<21}{raw}\n", stage.map_or("-", Stage::name)));
    }
    expect![[r#"
        marshal              tonic::codec::encode::EncodeBody<T,U>::new_server
        marshal              <tonic::codec::buffer::EncodeBuf as bytes::buf::BufMut>::advance_mut
        marshal              <app::Codec as tonic::codec::Encoder>::encode
        marshal              <app::User as prost::message::Message>::encode_raw
        marshal              prost::encoding::string::encode_repeated
        marshal              prost::message::Message::encode_to_vec
        message-construction <tonic_prost::codec::ProstDecoder<U> as tonic::codec::Decoder>::decode
        message-construction <tonic_prost::codec::ProstDecoder<U> as tonic::codec::Decoder>::buffer_settings
        message-construction <app::User as prost::message::Message>::merge_field
        message-construction prost::encoding::string::merge
        receive-buffer       tonic::codec::decode::Streaming<T>::decode_chunk
        receive-buffer       <h2::codec::framed_read::FramedRead<T> as futures_core::stream::Stream>::poll_next
        receive-buffer       <tokio_util::codec::length_delimited::LengthDelimitedCodec as tokio_util::codec::decoder::Decoder>::decode
        receive-buffer       tokio_util::util::poll_buf::poll_read_buf
        transport            h2::proto::streams::send::Send::send_data
        transport            h2::codec::framed_write::FramedWrite<T,B>::new
        transport            <hyper_util::rt::tokio::TokioExecutor as hyper::rt::Executor<Fut>>::execute
        transport            tonic::transport::server::serve_connection::{{closure}}
        transport            tokio::net::tcp::stream::TcpStream::new
        transport            <tower::buffer::service::Buffer<Req,F> as tower_service::Service<Req>>::call
        -                    tower::util::boxed_clone::BoxCloneService<T,U,E>::new
        dispatch             tonic::server::grpc::Grpc<T>::unary::{{closure}}
        dispatch             tonic::status::Status::to_header_map
        dispatch             tonic::service::router::Routes::new
        dispatch             axum::routing::Router<S>::route_service
        -                    tonic::body::Body::new
        handler              app::service::put::{{closure}}
        dispatch             <app::pb::greeter_server::GreeterServer<T> as tower_service::Service<http::Request<B>>>::call::{{closure}}
        dispatch             <<app::pb::greeter_server::GreeterServer<T> as tower_service::Service<http::Request<B>>>::call::SayHelloSvc<T> as tonic::server::service::UnaryService<app::pb::HelloRequest>>::call::{{closure}}
        handler              <app::Greet as app::pb::greeter_server::Greeter>::say_hello::{{closure}}
        handler              <app::auth_server::Layer<S> as tower_service::Service<http::Request<B>>>::call
        handler              app::pb::greeter_client::GreeterClient<T>::say_hello::{{closure}}
        dispatch             tonic::client::grpc::GrpcConfig::prepare_request
        -                    tonic::status::Status::new
        transport            tonic_web::call::GrpcWebCall<B>::poll_decode
        dispatch             alloc_ladder::steps::server::Grpc<C>::unary::{{closure}}
        -                    alloc_ladder::steps::ring::take
        handler              some_database::pool::Pool::get
        marshal              <alloc_ladder::steps::encode::EncodeBody<S> as http_body::Body>::poll_frame
        marshal              <alloc_ladder::steps::parts::PartsBuf as bytes::buf::buf_mut::BufMut>::put
        marshal              <alloc_ladder::subject::codec::SizedEncoder as tonic::codec::Encoder>::encode
        message-construction <alloc_ladder::steps::pooled::Pooled<M> as core::default::Default>::default
        receive-buffer       alloc_ladder::steps::rope::Rope::settle
        receive-buffer       alloc_ladder::steps::frames::Frames::next
        -                    <alloc_ladder::steps::rope::Rope as bytes::buf::buf_impl::Buf>::copy_to_bytes
        -                    <tonic::codec::buffer::DecodeBuf as bytes::buf::buf_impl::Buf>::copy_to_bytes
        marshal              alloc_ladder::subject::swap::SwapUser::answer
        message-construction alloc_ladder::subject::swap::SwapUser::decode
        -                    alloc_ladder::subject::pb::swapped::__buffa::view::UserView::merge_view_field
        transport            alloc_ladder::subject::lean::server::Connection<E,D,H>::answer::{{closure}}
        transport            alloc_ladder::steps::channel::LeanChannel::over::{{closure}}
        -                    alloc_ladder::steps::compress::flate::gunzip
        marshal              alloc_ladder::subject::lean::marshal
        instrument           alloc_ladder::subject::meter::Meter::end
        transport            alloc_ladder::subject::serve::run::{{closure}}
        -                    <alloc_ladder::tonic::task::TransportExecutor as hyper::rt::Executor<F>>::execute
        -                    gimli::read::abbrev::Abbreviations::insert
        -                    __rustc::rust_begin_unwind
        -                    alloc_ladder::steps::ring::take
        dispatch             alloc_ladder::subject::service::Ladder::put::{{closure}}
        receive-buffer       alloc_ladder::steps::aligned::AlignedIo<T>::fill
        instrument           alloc_ladder::tonic::body::StagedBody<B>::boxed
        -                    <alloc_ladder::stage::Staged<F> as core::future::future::Future>::poll
        -                    <alloc_ladder::alloc::CountingAlloc<A> as core::alloc::global::GlobalAlloc>::alloc
        instrument           alloc_ladder::alloc::snapshot::Snapshot::take
        -                    <dhat::Alloc as core::alloc::global::GlobalAlloc>::alloc
        handler              server::main
        -                    alloc::raw_vec::RawVec<T,A>::reserve
        -                    bytes::bytes_mut::BytesMut::reserve_inner
        -                    tokio::runtime::task::harness::Harness<T,S>::poll
        -                    start_thread
        handler              h2x::lib::f
    "#]].assert_eq(&text);
}

#[test]
fn the_first_decisive_frame_from_the_leaf_wins() {
    let charged = |leaf_to_root: &[&str]| {
        let names: Vec<Name> = leaf_to_root.iter().map(|raw| Name::parse(raw)).collect();
        first(names.iter().filter_map(|name| Some((name, decide(name)?))))
    };
    let decoded_in_a_handler = [
        "bytes::bytes_mut::BytesMut::reserve",
        "prost::encoding::bytes::merge",
        "tonic::codec::decode::Streaming<T>::decode_chunk",
        "app::service::put",
    ];
    assert_eq!(charged(&decoded_in_a_handler), Stage::MessageConstruction);
    assert_eq!(charged(&decoded_in_a_handler[2..]), Stage::ReceiveBuffer);
    assert_eq!(charged(&decoded_in_a_handler[3..]), Stage::Handler);
    let streamed_by_the_user = ["app::stream::next", "tonic::codec::encode::EncodeBody<T,U>::poll"];
    assert_eq!(charged(&streamed_by_the_user), Stage::Handler);
    // A status is the glue's, but the one that ends a body.
    let status = ["http::header::map::HeaderMap<T>::with_capacity", "tonic::status::Status::to_header_map"];
    let from = |outer: &[&'static str]| charged(&[&status[..], outer].concat());
    assert_eq!(from(&["tonic::codec::encode::EncodeState::trailers", "h2::proto::Streams::poll"]), Stage::Marshal);
    assert_eq!(
        from(&["tonic::status::Status::into_http", "tonic::codec::encode::EncodeBody<T,U>::poll"]),
        Stage::Marshal
    );
    assert_eq!(from(&["tonic::codec::decode::StreamingInner::response"]), Stage::Dispatch);
    assert_eq!(
        from(&["tonic::server::grpc::Grpc<T>::unary", "tonic::codec::encode::EncodeBody<T,U>::poll"]),
        Stage::Dispatch
    );
    assert_eq!(from(&[]), Stage::Dispatch);
    // A status that the service makes is the service's.
    let made = ["tonic::status::StatusInner::into_status", "tonic::status::Status::new", "app::service::put"];
    assert_eq!(charged(&made), Stage::Handler);
    // Metadata is whose code writes it.
    let written = ["http::header::map::HeaderMap<T>::insert", "tonic::metadata::map::MetadataMap::insert"];
    assert_eq!(
        charged(&[&written[..], &["app::service::put", "tonic::server::grpc::Grpc<T>::unary"]].concat()),
        Stage::Handler
    );
    assert_eq!(charged(&[&written[..1], &["tonic::server::grpc::Grpc<T>::map_response"]].concat()), Stage::Dispatch);
    // The allocator is nobody's work, even where it is this project's own.
    let counted = [
        "<alloc_ladder::alloc::CountingAlloc<A> as core::alloc::global::GlobalAlloc>::alloc",
        "alloc_ladder::steps::ring::take",
        "<alloc_ladder::subject::codec::ProstEncoder as tonic::codec::Encoder>::encode",
    ];
    assert_eq!(charged(&counted), Stage::Marshal);
    assert_eq!(charged(&["tokio::runtime::blocking::pool::Inner::run", "start_thread"]), Stage::Other);
    assert_eq!(charged(&[]), Stage::Other);
}

#[test]
fn a_stack_tells_the_handler_from_the_glue_and_nothing_else_that_a_seam_knows() {
    let refine = |seam, stack| refined(seam, stack, Works::ForItself);
    assert_eq!(refine(Stage::Handler, Stage::Dispatch), Stage::Dispatch);
    assert_eq!(refine(Stage::Dispatch, Stage::Handler), Stage::Handler, "a layer of the service's own");
    assert_eq!(refine(Stage::Handler, Stage::Marshal), Stage::Handler, "what the service encodes for itself");
    assert_eq!(refine(Stage::Dispatch, Stage::Other), Stage::Dispatch);
    assert_eq!(refine(Stage::Marshal, Stage::Dispatch), Stage::Marshal);
}

#[test]
fn a_codec_without_a_seam_is_told_from_the_service_that_it_works_for() {
    let works = |frames: &[&str]| {
        let names: Vec<Name> = frames.iter().map(|frame| Name::parse(frame)).collect();
        works(names.iter().filter_map(|name| Some((name, decide(name)?))))
    };
    // As tonic's own codec stands in a stack of generated code, and as a service keeps messages of its own.
    let encodes = "<greeter::HelloReply as prost::message::Message>::encode_raw";
    let answers = [encodes, "tonic::codec::encode::EncodedBytes<T,U>::poll_next", "greeter::answer"];
    assert_eq!(works(&answers), Works::ForTonic);
    let sends = "tonic::codec::encode::EncodedBytes<T,U>::poll_next";
    assert_eq!(works(&["greeter::next", sends, "greeter::answer"]), Works::Streaming);
    assert_eq!(works(&["greeter::next", "tonic::codec::decode::Streaming<T>::message", sends]), Works::ForItself);
    assert_eq!(works(&[encodes, "greeter::store", "greeter::answer"]), Works::ForItself);
    assert_eq!(works(&[]), Works::ForItself);
    assert_eq!(refined(Stage::Handler, Stage::Marshal, Works::ForTonic), Stage::Marshal);
    assert_eq!(refined(Stage::Dispatch, Stage::ReceiveBuffer, Works::ForTonic), Stage::ReceiveBuffer);
    assert_eq!(refined(Stage::Handler, Stage::Transport, Works::ForTonic), Stage::Handler);
    assert_eq!(
        refined(Stage::Transport, Stage::ReceiveBuffer, Works::ForItself),
        Stage::ReceiveBuffer,
        "a bare socket"
    );
    assert_eq!(refined(Stage::Transport, Stage::Marshal, Works::ForTonic), Stage::Marshal, "a body without a layer");
    assert_eq!(refined(Stage::Transport, Stage::Marshal, Works::ForItself), Stage::Transport);
    assert_eq!(refined(Stage::Marshal, Stage::Handler, Works::Streaming), Stage::Handler, "a stream of the service's");
    assert_eq!(refined(Stage::Marshal, Stage::Handler, Works::ForItself), Stage::Marshal, "an encoder's helper");
    assert_eq!(refined(Stage::Marshal, Stage::MessageConstruction, Works::ForTonic), Stage::Marshal, "the seam's own");
}

#[test]
fn every_path_of_this_project_in_a_rule_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("src");
    let paths = RULES.iter().flat_map(|rule| rule.paths.iter().chain(rule.unless_within));
    let own: Vec<&str> =
        paths.filter_map(|path| path.rsplit("as ").next().expect("a part").strip_prefix("alloc_ladder::")).collect();
    assert!(own.len() > 10, "the rules name this project's modules");
    for path in own {
        // Modules first; what is left is a function or a type, which the last module's file must define.
        let mut place = root.clone();
        let mut parts = path.split("::").peekable();
        while let Some(module) = parts.next_if(|part| {
            let inner = place.join(part);
            inner.is_dir() || inner.with_extension("rs").is_file()
        }) {
            place = place.join(module);
        }
        assert_ne!(place, root, "{path}: no such module");
        let Some(item) = parts.next() else { continue };
        let file = place.with_extension("rs");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let word = item.trim_matches('*');
        assert!(text.contains(word), "{path}: {} does not name {word}", file.display());
    }
}
