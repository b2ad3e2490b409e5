//! Progress bars on standard error: none where that is no terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes or other counts, with the time that is left.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    styled("{msg} {wide_bar} {percent:>3} %, {eta} left").with_message(what)
}

/// A bar over named steps.
pub(super) fn steps(count: u64) -> ProgressBar {
    let bar = styled("{spinner} {bar:24} {pos}/{len} {msg} ({elapsed})");
    bar.set_length(count);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Moves a bar to `done` of `all`.
pub(super) fn show(bar: &ProgressBar, done: u64, all: u64) {
    bar.set_length(all);
    bar.set_position(done);
}

/// Whether anybody sees bars.
pub(super) fn seen() -> bool {
    std::io::stderr().is_terminal()
}

fn styled(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    ProgressStyle::with_template(template).map_or(bar.clone(), |style| bar.with_style(style))
}
