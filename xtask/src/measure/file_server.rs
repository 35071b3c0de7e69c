//! File servers over cleartext HTTP/2, as the talk measured Caddy: nginx and Caddy where they are installed.
//!
//! They have no window of their own, so their CPU time is read from `/proc` around a whole download, connection
//! set-up included, in nanoseconds and over all of their threads. They run on a configuration made here, on loopback,
//! with their own defaults for everything that has a default, and end with this process.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use crate::measure::interrupt::{Cancel, interrupted};
use crate::measure::process::{Process, Streams};
use crate::measure::program::{self, Program};

/// How long a file server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// A file server that can be started.
#[derive(Debug)]
pub(crate) struct Software {
    pub(crate) name: &'static str,
    pub(crate) words: &'static str,
    /// The line that installs it.
    pub(crate) install: &'static str,
    /// Its configuration, for an address and a folder of its own whose `root` it serves.
    configuration: fn(SocketAddr, &Path) -> String,
    arguments: fn(&Path) -> Vec<String>,
}

/// Every file server there is a configuration for.
pub(crate) const SOFTWARE: [Software; 2] = [
    Software {
        name: "nginx",
        words: "nginx serving a file, one process",
        install: "apt-get install nginx-light",
        configuration: |address, folder| {
            let folder = folder.display();
            // nginx started by root would drop to a user that may not read a private folder.
            let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
            format!(
                "daemon off;\nmaster_process off;\nerror_log stderr;\n{user}pid {folder}/pid;\nevents {{}}\nhttp {{\n  access_log off;\n  \
                 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
                 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  \
                 scgi_temp_path {folder}/scgi;\n  server {{\n    listen {address} http2;\n    root {folder}/root;\n  \
                 }}\n}}\n"
            )
        },
        arguments: |folder| {
            let folder = folder.display();
            vec![
                "-p".into(),
                format!("{folder}"),
                "-e".into(),
                "stderr".into(),
                "-c".into(),
                format!("{folder}/configuration"),
            ]
        },
    },
    Software {
        name: "caddy",
        words: "Caddy serving a file",
        install: "apt-get install caddy",
        configuration: |address, folder| {
            let (ip, folder) = (address.ip(), folder.display());
            format!(
                "{{\n  admin off\n  auto_https off\n  servers {{\n    protocols h1 h2c\n  }}\n}}\n\
                 http://{address} {{\n  bind {ip}\n  root * {folder}/root\n  file_server\n}}\n"
            )
        },
        arguments: |folder| {
            let configuration = format!("{}/configuration", folder.display());
            vec!["run".into(), "--adapter".into(), "caddyfile".into(), "--config".into(), configuration]
        },
    },
];

/// A running file server.
pub(crate) struct FileServer {
    _process: Process,
    pub(crate) address: SocketAddr,
    id: u32,
    _folder: TempDir,
}

impl Software {
    pub(crate) fn installed(&self) -> Option<PathBuf> {
        program::find(self.name)
    }

    /// Starts it on a free port of loopback, serving `bytes` of zeros as `/payload`.
    pub(crate) fn start(&self, path: PathBuf, bytes: u64) -> anyhow::Result<FileServer> {
        let folder = TempDir::with_prefix("alloc-ladder-").context("cannot make a temporary folder")?;
        let root = folder.path().join("root");
        let payload = root.join("payload");
        fs::create_dir(&root)
            .and_then(|()| fs::File::create(&payload)?.set_len(bytes))
            .with_context(|| format!("cannot write {}", payload.display()))?;
        // None of them can say which port it took, so one that is free right now must do.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let configuration = folder.path().join("configuration");
        fs::write(&configuration, (self.configuration)(address, folder.path()))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        // A shell of its own ends the server when this process dies, however it dies, because its stdin ends then.
        let watched = "\"$@\" >&2 & server=$!; echo $server; cat >/dev/null; kill $server; wait $server; exit 0";
        let shell = Program::new("/bin/sh").args(["-c", watched, "sh"]);
        let shell = Program::new(path).args((self.arguments)(folder.path())).under(shell);
        // Caddy keeps state in the home folder unless told otherwise.
        let shell = shell.env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
        let until = Instant::now() + START;
        let mut process = Process::start(self.name, &shell, Streams::Heard, &Cancel::default())?;
        let id: u32 = process.line(until)?;
        while TcpStream::connect_timeout(&address, START).is_err() {
            interrupted()?;
            if Instant::now() > until || !Path::new("/proc").join(id.to_string()).exists() {
                return Err(process.failure(&format!("does not listen on {address}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(FileServer { _process: process, address, id, _folder: folder })
    }
}

impl FileServer {
    /// CPU time of all its threads so far, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let tasks = format!("/proc/{}/task", self.id);
        let mut sum = 0;
        for task in fs::read_dir(tasks)? {
            // A thread may end between the listing and the reading; what it used is then lost, as it is to the kernel.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            sum += line.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(sum)
    }
}
