//! Opening a page in the browser of this machine.

use std::path::Path;
use std::process::{Command, Stdio};

/// Hands the page to the browser; false where there is none. `BROWSER` wins, as everywhere on Unix.
pub(crate) fn open(page: &Path) -> bool {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut command = match std::env::var_os("BROWSER").filter(|browser| !browser.is_empty()) {
        Some(browser) => Command::new(browser),
        None if cfg!(target_os = "macos") => Command::new("open"),
        None if cfg!(windows) => {
            let mut command = Command::new("cmd");
            command.args(["/C", "start", ""]);
            command
        }
        // Without a display xdg-open may start a browser in this terminal, or wait.
        None if has("DISPLAY") || has("WAYLAND_DISPLAY") => Command::new("xdg-open"),
        None => return false,
    };
    command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().is_ok()
}
