//! Of console-subscriber's server the rows sum to the total, and almost every byte carries a stage.

use std::process::Command;

#[test]
fn the_aggregator_and_its_watchers() {
    let output = Command::new(env!("CARGO_BIN_EXE_foreign-console")).output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for process in ["server", "client"] {
        let heading = format!("{process} process");
        let (mut blocks, mut bytes, mut watched) = (0, 0, 0);
        let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
        let number = |word: &str| word.parse::<u64>().expect("a number");
        loop {
            match lines.next().expect("a total").split_whitespace().collect::<Vec<_>>()[..] {
                ["total", total_blocks, "blocks", total_bytes, "bytes", staged, "%", ..] => {
                    assert_eq!((blocks, bytes), (number(total_blocks), number(total_bytes)), "{text}");
                    assert!(staged.parse::<f64>().expect("a share") >= 98.0, "{text}");
                    break;
                }
                [_, rpc, _, row_blocks, "blocks", row_bytes, "bytes", ..] => {
                    blocks += number(row_blocks);
                    bytes += number(row_bytes);
                    watched += if rpc == "/rs.tokio.console.instrument.Instrument/WatchUpdates" {
                        number(row_bytes)
                    } else {
                        0
                    };
                }
                ref words => panic!("{words:?}"),
            }
        }
        assert!(watched > 0, "no bytes are the method's\n{text}");
    }
}
