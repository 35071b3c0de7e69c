// What the program prints, as rows.

use std::collections::HashMap;
use std::process::Command;

/// Blocks and reallocs a message, on the server and on the client.
pub(crate) type Row = [f64; 4];

pub(crate) fn table(program: &str) -> HashMap<String, Row> {
    let output = Command::new(program).output().expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    let rows = text.lines().skip(1).map(|line| {
        let (name, figures) = line.split_once("server").expect("a row");
        let figures: Vec<f64> = figures.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let name = name.split_whitespace().collect::<Vec<&str>>().join(" ");
        (name, figures.try_into().expect("four figures"))
    });
    rows.collect()
}
