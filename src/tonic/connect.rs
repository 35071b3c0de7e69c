//! A client's layer and executor at once, on tonic's own transport.

use tonic::transport::{Channel, Endpoint, Error};
use tower_layer::Layer;

use super::layer::{ClientLayer, ClientService};
use super::task::TransportExecutor;
use crate::Stage;
use crate::stage::FutureExt;

/// Connects, with the connection's tasks in [`Stage::Transport`] and a [`ClientLayer`] around the channel: what a client
/// has in place of `endpoint.connect()`.
///
/// Feature `transport`.
///
/// # Errors
/// As `Endpoint::connect`.
pub async fn connect(endpoint: Endpoint) -> Result<ClientService<Channel>, Error> {
    let channel = endpoint.executor(TransportExecutor).connect().staged(Stage::Transport).await?;
    Ok(ClientLayer.layer(channel))
}
