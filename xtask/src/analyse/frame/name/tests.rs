use expect_test::expect;

use super::*;

/// Names as dhat wrote them for a tonic service, and the worst of both manglings.
const NAMES: &[&str] = &[
    "<h2::proto::connection::Connection<T,P,B> as core::future::future::Future>::poll",
    "h2::proto::connection::Connection<T,P,B>::poll2",
    "tonic::codec::decode::Streaming<T>::message::{{closure}}::{{closure}}",
    "prost::encoding::<impl prost::encoding::sealed::BytesAdapter for alloc::vec::Vec<u8>>::replace_with",
    "<server::Chunk as prost::message::Message>::merge_field",
    "<<server::glue::LadderServer as tower_service::Service<http::request::Request<tonic::body::Body>>>::call::\
     PutSvc as tonic::server::service::ClientStreamingService<server::Chunk>>::call::{{closure}}",
    "<T as hyper::service::http::HttpService<B1>>::call",
    "<&mut F as core::future::future::Future>::poll",
    "<alloc::boxed::Box<S> as tower_service::Service<Request>>::call",
    "<alloc::vec::Vec<T,A> as core::clone::Clone>::clone",
    "<dyn tonic::Thing + core::marker::Send as http_body::Body>::poll_frame",
    "<(A,B) as axum::Handler<fn(A) -> B>>::call",
    "<F as app::Callback<fn() -> alloc::vec::Vec<u8>>>::fire::h0123456789abcdef",
    "core::ops::function::FnOnce::call_once{{vtable.shim}}",
    "prost::encoding::bytes::merge",
    "tonic::codec::encode::encode_item",
    "tokio::task::spawn::spawn",
    "bytes::bytes::promotable_even_clone",
    "hyper::common::date::CACHED::__rust_std_internal_init_fn",
    "server::main::{{closure}}",
    "<std::sys::thread::unix::Thread>::new::thread_start",
    "<[u8]>::to_vec_in::<alloc::alloc::Global>",
    "<T as alloc::slice::<impl [T]>::to_vec_in::ConvertVec>::to_vec",
    "core::num::<impl u64>::pow",
    "std::thread::current::with_current_name::<std::sys::f::{closure#0}, core::option::Option<str>>::{closure#0}",
    "core[8f2a]::iter::adapters::map::Map<core::ops::Range<usize>, {closure_env#0}>::next",
    "poll<tokio::net::tcp::TcpStream>",
    "start_thread",
    "???",
    "<",
    ">>::a::<",
    "",
];

#[test]
fn names_shorten_to_these() {
    let mut text = String::new();
    for raw in NAMES {
        let name = Name::parse(raw);
        let of = name.implements.map(|of| format!("\n  as {of}")).unwrap_or_default();
        text.push_str(&format!("{}\n  {}{of}\n", name.short, name.path));
    }
    expect![[r#"
        h2::Connection::poll
          h2::proto::connection::Connection::poll
          as core::future::future::Future::poll
        h2::Connection::poll2
          h2::proto::connection::Connection::poll2
        tonic::Streaming::message
          tonic::codec::decode::Streaming::message
        prost::BytesAdapter::replace_with
          prost::encoding::sealed::BytesAdapter::replace_with
          as prost::encoding::sealed::BytesAdapter::replace_with
        server::Chunk::merge_field
          server::Chunk::merge_field
          as prost::message::Message::merge_field
        server::PutSvc::call
          server::glue::LadderServer::call::PutSvc::call
          as tonic::server::service::ClientStreamingService::call
        hyper::HttpService::call
          hyper::service::http::HttpService::call
          as hyper::service::http::HttpService::call
        core::Future::poll
          core::future::future::Future::poll
          as core::future::future::Future::poll
        tower_service::Service::call
          tower_service::Service::call
          as tower_service::Service::call
        alloc::Vec::clone
          alloc::vec::Vec::clone
          as core::clone::Clone::clone
        tonic::Thing::poll_frame
          tonic::Thing::poll_frame
          as http_body::Body::poll_frame
        axum::Handler::call
          axum::Handler::call
          as axum::Handler::call
        app::Callback::fire
          app::Callback::fire
          as app::Callback::fire
        core::FnOnce::call_once
          core::ops::function::FnOnce::call_once
        prost::bytes::merge
          prost::encoding::bytes::merge
        tonic::encode::encode_item
          tonic::codec::encode::encode_item
        tokio::spawn
          tokio::task::spawn::spawn
        bytes::promotable_even_clone
          bytes::bytes::promotable_even_clone
        hyper::CACHED::__rust_std_internal_init_fn
          hyper::common::date::CACHED::__rust_std_internal_init_fn
        server::main
          server::main
        std::Thread::new::thread_start
          std::sys::thread::unix::Thread::new::thread_start
        core::to_vec_in
          core::to_vec_in
        alloc::ConvertVec::to_vec
          alloc::slice::to_vec_in::ConvertVec::to_vec
          as alloc::slice::to_vec_in::ConvertVec::to_vec
        core::u64::pow
          core::num::u64::pow
        std::current::with_current_name
          std::thread::current::with_current_name
        core::Map::next
          core::iter::adapters::map::Map::next
        poll
          poll
        start_thread
          start_thread
        ???
          ???
        <
          <
        >>::a::
          >>::a::
        ???
          ???
    "#]]
    .assert_eq(&text);
}

#[test]
fn cleaning_is_safe_for_lines_and_xml_and_done_once() {
    let evil = [
        "a;b",
        "a\nb\tc",
        "\u{0}\u{1b}[31m",
        "a\u{202e}b",
        "a\u{2067}b",
        " padded ",
        "foo 12",
        "foo 1.5",
        "",
        " ",
        "é\u{5d0}",
    ];
    for raw in evil {
        let text = clean(raw);
        assert!(
            !text.is_empty() && !text.contains([';', '\n', '\t', '\u{0}', '\u{1b}', '\u{202e}', '\u{2067}']),
            "{raw:?}"
        );
        assert_eq!(clean(&text), text, "{raw:?}");
        let last = text.rsplit(' ').next().expect("a part");
        assert!(!text.contains(' ') || last.parse::<f64>().is_err(), "{text:?} ends like a count");
    }
    assert_eq!(clean("é\u{5d0}"), "é\u{5d0}", "letters of any script stay");
    let long = "x".repeat(10_000);
    assert_eq!(Name::parse(&long).short, long);
}
