//! Dropped into services nobody here wrote, the rows sum to the total, almost every byte of the server carries a stage,
//! and each method has rows of its own. A client's own work around its calls carries none: no layer sees it.

use std::process::Command;

struct Row {
    rpc: String,
    stage: String,
    blocks: u64,
    bytes: u64,
}

struct Table {
    rows: Vec<Row>,
    blocks: u64,
    bytes: u64,
    staged_percent: f64,
}

impl Table {
    fn bytes(&self, rpc: &str, stage: &str) -> u64 {
        self.rows.iter().filter(|row| row.rpc == rpc && row.stage == stage).map(|row| row.bytes).sum()
    }

    fn blocks(&self, rpc: &str, stage: &str) -> u64 {
        self.rows.iter().filter(|row| row.rpc == rpc && row.stage == stage).map(|row| row.blocks).sum()
    }

    fn method(&self, rpc: &str) -> u64 {
        self.rows.iter().filter(|row| row.rpc == rpc).map(|row| row.bytes).sum()
    }
}

/// What the program printed of one of its processes.
fn table(output: &str, process: &str) -> Table {
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let mut lines = output.lines().skip_while(|line| *line != format!("{process} process")).skip(1);
    let mut rows = Vec::new();
    loop {
        let words: Vec<&str> = lines.next().expect("a total").split_whitespace().collect();
        match words[..] {
            ["total", blocks, "blocks", bytes, "bytes", percent, "%", ..] => {
                let staged_percent = percent.parse().expect("a share");
                return Table { rows, blocks: number(blocks), bytes: number(bytes), staged_percent };
            }
            [_, rpc, stage, blocks, "blocks", bytes, "bytes", ..] => rows.push(Row {
                rpc: rpc.to_owned(),
                stage: stage.to_owned(),
                blocks: number(blocks),
                bytes: number(bytes),
            }),
            _ => panic!("{words:?}"),
        }
    }
}

/// As [`table`]; the rows sum to the total.
fn checked(output: &str, process: &str) -> Table {
    let table = table(output, process);
    assert_eq!(table.rows.iter().map(|row| row.blocks).sum::<u64>(), table.blocks, "{output}");
    assert_eq!(table.rows.iter().map(|row| row.bytes).sum::<u64>(), table.bytes, "{output}");
    table
}

/// Runs the service and returns the server's and the client's table, checked for what holds for every service.
fn run(service: &str) -> (Table, Table) {
    let output = Command::new(env!("CARGO_BIN_EXE_foreign")).arg(service).output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let tables = ["server", "client"].map(|process| checked(&text, process));
    assert!(tables[0].staged_percent >= 95.0, "{text}");
    tables.into()
}

#[test]
fn health_and_reflection() {
    let (server, client) = run("health");
    let (check, reflection) =
        ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    for table in [&server, &client] {
        assert!(table.method(check) > 0 && table.method(reflection) > 0);
    }
    // 2,000 calls, each with tonic's 8 KiB buffers to decode from and to encode into.
    assert!(server.method(check) > 2000 * 2 * 8192, "{}", server.method(check));
    assert!(server.method(check) > 5 * server.method(reflection), "one stream against 2,000 calls");
}

#[test]
fn flight() {
    let (server, client) = run("flight");
    let (put, get) = ("/arrow.flight.protocol.FlightService/DoPut", "/arrow.flight.protocol.FlightService/DoGet");
    let batches = 400;
    let payload = batches * 65_536;
    // Whoever sends marshals every batch into a block of its own.
    assert!(client.bytes(put, "marshal") > payload, "{}", client.bytes(put, "marshal"));
    assert!(server.bytes(get, "marshal") > payload, "{}", server.bytes(get, "marshal"));
    assert!(server.bytes(get, "handler") < payload / 10, "{}", server.bytes(get, "handler"));
    // The handler of an upload decodes. Arrow keeps a batch where tonic gathered it if its address is a multiple of 64,
    // and copies it if not. Where it lies in tonic's buffer follows from how frames arrived, so that from none to all of
    // the 400 are copied; either way a batch takes blocks, and none is copied twice.
    let (blocks, bytes) = (server.blocks(put, "handler"), server.bytes(put, "handler"));
    assert!(blocks >= 2 * batches, "{blocks} blocks");
    assert!(bytes <= payload * 11 / 10, "{bytes} bytes");
}

#[test]
fn otlp() {
    let (server, client) = run("otlp");
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert!(server.method(export) > server.bytes / 2);
    assert_eq!(client.method(export), 0, "the exporter's own channel takes no layer");
}

#[test]
fn tls_gzip_interceptors_and_tower_layers() {
    let (server, client) = run("wrapped");
    let check = "/grpc.health.v1.Health/Check";
    // Compressing an answer of two bytes makes a deflate state, and decompressing the request an inflate state.
    for table in [&server, &client] {
        assert!(table.bytes(check, "marshal") > 2000 * 100_000, "{}", table.bytes(check, "marshal"));
    }
    // Without a staged codec the message's buffers are the handler's too.
    assert!(server.bytes(check, "handler") > 2000 * 2 * 8192, "{}", server.bytes(check, "handler"));
    assert!(server.blocks(check, "dispatch") > 2000 * 3, "{}", server.blocks(check, "dispatch"));
}

#[test]
fn axum_and_tonic_on_one_port() {
    let (server, client) = run("shared");
    let check = "/grpc.health.v1.Health/Check";
    assert!(server.method(check) > 0 && client.method(check) > 0);
    assert!(server.staged_percent >= 98.0, "{}", server.staged_percent);
    // 32 uploads of 1 MiB: what they are received in has its stage, which it has not without a listener of its own.
    let payload = 32 << 20;
    let received = server.bytes("-", "receive-buffer");
    assert!(received > payload / 2, "{received}");
}

#[test]
fn a_service_behind_tonic_web() {
    let (server, _) = run("web");
    let check = "/grpc.health.v1.Health/Check";
    // The two buffers of 8 KiB of each call, whatever carries it.
    assert!(server.method(check) > 1000 * 2 * 8192, "{}", server.method(check));
    assert!(server.staged_percent >= 98.0, "{}", server.staged_percent);
}

#[test]
fn a_service_with_5000_connections() {
    let (server, _) = run("many");
    assert!(server.method("/grpc.health.v1.Health/Check") > 5000 * 2 * 8192);
    assert!(server.blocks("/grpc.health.v1.Health/Watch", "marshal") >= 5000);
    assert!(server.staged_percent >= 98.0, "{}", server.staged_percent);
}

#[cfg(feature = "etcd")]
#[test]
fn etcd_s_client() {
    if Command::new("etcd").arg("--version").output().is_err() {
        println!("skipped: there is no `etcd` here (Debian: etcd-server)");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_foreign")).arg("etcd").output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let client = checked(&text, "client");
    assert!(client.staged_percent >= 98.0, "{text}");
    for method in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"] {
        assert!(client.blocks(method, "marshal") >= 1000, "{text}");
    }
}
