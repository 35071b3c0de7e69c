//! `etcd-client` against an etcd of Debian's: a client whose channel is made for it and whose calls are somebody else's code.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloc_ladder::stage::FutureExt;
use alloc_ladder::tonic::{ClientLayer, TransportExecutor};
use alloc_ladder::{Snapshot, Stage};
use anyhow::{Context, bail};
use etcd_client::{Channel, Client};
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;

pub(crate) const METHODS: &[&str] = &["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"];
const KEYS: usize = 1000;

/// etcd in a folder of its own, until it is dropped.
struct Etcd {
    process: Child,
    folder: std::path::PathBuf,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts etcd; returns the address it listens on.
async fn start() -> anyhow::Result<(Etcd, String)> {
    // etcd does not say which port it was given: these were free a moment ago.
    let free =
        || -> anyhow::Result<String> { Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?)) };
    let (addr, peers) = (free()?, free()?);
    let folder = std::env::temp_dir().join(format!("foreign-etcd-{}", std::process::id()));
    let process = Command::new("etcd")
        .args(["--data-dir".as_ref(), folder.as_os_str()])
        .args(["--listen-client-urls", &addr, "--advertise-client-urls", &addr, "--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("etcd does not start")?;
    let etcd = Etcd { process, folder };
    let socket = addr.strip_prefix("http://").context("an address of its own")?;
    let started = Instant::now();
    while std::net::TcpStream::connect(socket).is_err() {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("etcd does not listen");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((etcd, addr))
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let (_etcd, addr) = start().await?;
    let before = Snapshot::of_process();
    let endpoint = Endpoint::from_shared(addr)?.executor(TransportExecutor); // drop-in
    let channel = endpoint.connect().staged(Stage::Transport).await?;
    let layer = ClientLayer.methods(METHODS.iter().copied()).boxed();
    let channel = tower::ServiceBuilder::new().layer(layer).service(channel); // drop-in
    let mut client = Client::from_channel(Channel::Custom(BoxCloneSyncService::new(channel)), None).await?;
    for key in 0..KEYS {
        let key = format!("key/{key}");
        client.put(key.clone(), "value", None).staged(Stage::Dispatch).await?; // drop-in
        let answer = client.get(key, None).staged(Stage::Dispatch).await?; // drop-in
        anyhow::ensure!(answer.kvs().first().is_some_and(|pair| pair.value() == b"value"), "{answer:?}");
    }
    crate::table::print("client", &(Snapshot::of_process() - before))
}
