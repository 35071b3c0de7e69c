//! Bare h2: a sink and a source, and the client of every HTTP/2 peer.
//!
//! Nothing stands between h2 and the payload: the source sends slices of one `Bytes` as capacity comes, the sink gives
//! capacity back for each frame and drops it.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::outcome::{PeerError, check};
use super::pace::Pace;
use super::settings::{
    COUNTED_HEADER, PATH, TUNED_CONNECTION_WINDOW, TUNED_STREAM_WINDOW, tuned_frame_size, tuned_send_buffer,
};
use super::window::Window;
use super::{Direction, Kind, Traffic};
use crate::Side;
use crate::record::Measurement;
use crate::subject::ladder::Http2;
use crate::wire::http2::hyper::{CLIENT_CONNECTION_WINDOW, CLIENT_STREAM_WINDOW};

pub(super) async fn serve(
    stream: TcpStream,
    settings: Http2,
    direction: Direction,
    traffic: Traffic,
) -> Result<Measurement, PeerError> {
    let mut builder = h2::server::Builder::new();
    if settings == Http2::Tuned {
        builder
            .initial_window_size(TUNED_STREAM_WINDOW)
            .initial_connection_window_size(TUNED_CONNECTION_WINDOW)
            .max_frame_size(tuned_frame_size(traffic.chunk))
            .max_send_buffer_size(tuned_send_buffer(traffic.chunk));
    }
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let (request, mut respond) = connection.accept().await.ok_or(PeerError::NoRequest)??;
    let handler = tokio::spawn(async move {
        let mut window = Window::new(Side::Server, traffic);
        match direction {
            Direction::Put => {
                receive(request.into_body(), &mut window, None).await?;
                let mut response = Response::new(());
                response.headers_mut().insert(COUNTED_HEADER, window.position().into());
                respond.send_response(response, true)?;
            }
            Direction::Get => {
                let body = respond.send_response(Response::new(()), false)?;
                send(body, &mut window, traffic, None).await?;
            }
        }
        check(window, traffic)
    });
    // Driving the connection is what reads and writes it; it ends when the client goes, in whatever manner.
    while let Some(Ok(_)) = connection.accept().await {}
    handler.await.map_err(std::io::Error::other)?
}

/// The client of every HTTP/2 peer. Towards hyper it announces what hyper's own client would, for it is the server
/// that the kinds differ in.
pub(super) async fn connect(
    stream: TcpStream,
    kind: Kind,
    direction: Direction,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<Measurement, PeerError> {
    let server = stream.peer_addr()?;
    let mut builder = h2::client::Builder::new();
    match kind.http2() {
        Http2::Tuned => builder
            .initial_window_size(TUNED_STREAM_WINDOW)
            .initial_connection_window_size(TUNED_CONNECTION_WINDOW)
            .max_frame_size(tuned_frame_size(traffic.chunk))
            .max_send_buffer_size(tuned_send_buffer(traffic.chunk)),
        Http2::Stock if kind == Kind::Hyper => {
            builder.initial_window_size(CLIENT_STREAM_WINDOW).initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
        }
        Http2::Stock | Http2::Adaptive => &mut builder,
    };
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let mut window = Window::new(Side::Client, traffic);
    let request = |method| {
        Request::builder()
            .method(method)
            .uri(format!("http://{server}{PATH}"))
            .body(())
            .expect("an address and a constant path make a request")
    };
    match direction {
        Direction::Put => {
            let (response, body) = client.send_request(request(http::Method::PUT), false)?;
            send(body, &mut window, traffic, pace).await?;
            let response = ok(response.await?)?;
            let counted = response.headers().get(COUNTED_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
            let (expected, received) = (traffic.bytes_total(), counted.unwrap_or(0));
            if received != expected {
                return Err(PeerError::Short { expected, received });
            }
        }
        Direction::Get => {
            let (response, _) = client.send_request(request(http::Method::GET), true)?;
            let body = ok(response.await?)?.into_body();
            receive(body, &mut window, pace.take()).await?;
        }
    }
    drop(client);
    // Saying goodbye lets the server end in order; what comes of it changes no figure.
    let _ = connection.await;
    check(window, traffic)
}

fn ok<B>(response: Response<B>) -> Result<Response<B>, PeerError> {
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(PeerError::Status(status)),
    }
}

async fn receive(mut body: RecvStream, window: &mut Window, mut pace: Option<Pace>) -> Result<(), h2::Error> {
    while let Some(frame) = body.data().await {
        let bytes = frame?.len();
        window.advance(bytes);
        if let Some(pace) = &mut pace {
            pace.wait(bytes).await;
        }
        body.flow_control().release_capacity(bytes)?;
    }
    Ok(())
}

async fn send(
    mut body: SendStream<Bytes>,
    window: &mut Window,
    traffic: Traffic,
    mut pace: Option<Pace>,
) -> Result<(), h2::Error> {
    let chunk = Bytes::from(vec![0; traffic.chunk]);
    for _ in 0..2 * traffic.warmup + traffic.messages {
        if let Some(pace) = &mut pace {
            pace.wait(traffic.chunk).await;
        }
        let mut rest = chunk.clone();
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let capacity = match poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(capacity) => capacity?.min(rest.len()),
                // The stream was reset; sending says why.
                None => rest.len(),
            };
            body.send_data(rest.split_to(capacity), false)?;
        }
        window.advance(traffic.chunk);
    }
    body.send_data(Bytes::new(), true)
}
