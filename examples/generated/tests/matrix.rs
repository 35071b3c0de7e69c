//! Whatever the two sides are made of, a caller sees the same: every pairing of generated code and transport, with each
//! compression, against tonic on both sides.

mod support;

use generated::{pooled, steps, stock};
use support::{Code, Connection, Pairing, Serving, block_on};
use tonic::codec::CompressionEncoding;

/// Up to tonic's receive limit, and beyond it. What is compressed is short, for a debug build's sake.
fn sizes(compression: Option<CompressionEncoding>) -> &'static [usize] {
    match compression {
        None => &[0, 1, 1000, 16_384, 40_960, 65_536, 1 << 20, (4 << 20) - 5, 5 << 20],
        Some(_) => &[0, 1, 1000, 65_536],
    }
}

/// What a caller sees with the pairing.
fn transcript(pairing: Pairing, compression: Option<CompressionEncoding>) -> Vec<String> {
    let serving = Serving::start(pairing.server, pairing.serving, compression);
    block_on(async {
        macro_rules! over {
            ($module:ident, $channel:expr) => {{
                let mut client = $module::pb::toy_client::ToyClient::new($channel);
                if let Some(encoding) = compression {
                    client = client.send_compressed(encoding).accept_compressed(encoding);
                }
                $module::transcript(client, sizes(compression)).await
            }};
        }
        macro_rules! with {
            ($channel:expr) => {
                match pairing.client {
                    Code::Stock | Code::Over => over!(stock, $channel),
                    Code::Steps => over!(steps, $channel),
                    Code::Pooled => over!(pooled, $channel),
                }
            };
        }
        match support::connect(pairing.calling, &serving.address).await {
            Connection::Channel(channel) => with!(channel),
            Connection::Lean(channel) => with!(channel),
        }
    })
}

#[test]
fn every_pairing_is_as_tonic_with_tonic() {
    // Panics that handlers are asked for are not printed.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("asked to") {
            print(panic);
        }
    }));
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let stock = transcript(Pairing::STOCK, compression);
        assert_eq!(stock.len(), 4 + 1 + sizes(compression).len() * 3 + 5);
        for pairing in Pairing::all() {
            let seen = transcript(pairing, compression);
            for (seen, stock) in seen.iter().zip(&stock) {
                assert_eq!(seen, stock, "{pairing:?} {compression:?}");
            }
        }
    }
}
