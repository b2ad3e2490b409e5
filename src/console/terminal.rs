//! The user's terminal: raw while a console is on it, as it was before at the end, whatever ends it.

use std::io::{IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// The terminal passes line feeds on as they are.
static RAW: AtomicBool = AtomicBool::new(false);

/// Begins a command to this program: Ctrl-A.
const ESCAPE: u8 = 1;

/// Writes a sentence to standard error, so that it looks right on a raw terminal too.
pub fn complain(sentence: &str) {
    let mut text = format!("ftemu: {sentence}\n");
    if RAW.load(Ordering::Relaxed) {
        text = format!("\r\n{}", text.replace('\n', "\r\n"));
    }
    // If the user cannot be told, nobody can be told.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A terminal in raw mode; dropping it restores the terminal.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Switches standard input to raw mode if it is a terminal.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> Result<Option<Self>> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&input).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).context("cannot switch the terminal to raw mode")?;
        RAW.store(true, Ordering::Relaxed);
        Ok(Some(Self { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        RAW.store(false, Ordering::Relaxed);
        // Nothing better can be done on the way out.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// What comes from the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the guest.
    Bytes(Vec<u8>),
    /// The user wants to leave.
    Leave,
}

/// Reads standard input in a thread of its own until it ends or the user leaves.
///
/// # Errors
/// When the thread cannot be started.
pub fn keyboard(escapes: bool) -> Result<mpsc::Receiver<Typed>> {
    let (sender, receiver) = mpsc::channel(64);
    let thread = std::thread::Builder::new().name("keyboard".into());
    thread.spawn(move || read(&sender, escapes)).context("cannot start the keyboard's thread")?;
    Ok(receiver)
}

fn read(sender: &mpsc::Sender<Typed>, escapes: bool) {
    let mut keys = Keys::default();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
        let (bytes, leave) = if escapes { keys.filter(&buffer[..count]) } else { (buffer[..count].to_vec(), false) };
        if !bytes.is_empty() && sender.blocking_send(Typed::Bytes(bytes)).is_err() {
            return;
        }
        if leave {
            let _ = sender.blocking_send(Typed::Leave);
            return;
        }
    }
}

/// Takes commands to this program out of what is typed.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// What is for the guest, and whether the user wants to leave.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = Vec::with_capacity(typed.len());
        for &byte in typed {
            match (std::mem::take(&mut self.escaped), byte) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => return (bytes, true),
                (true, ESCAPE) | (false, _) => bytes.push(byte),
                (true, other) => bytes.extend([ESCAPE, other]),
            }
        }
        (bytes, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_out() {
        let mut keys = Keys::default();
        assert_eq!(keys.filter(b"ls\r\x01"), (b"ls\r".to_vec(), false));
        assert_eq!(keys.filter(b"\x01b\x01c"), (b"\x01b\x01c".to_vec(), false));
        assert_eq!(keys.filter(b"end\x01xmore"), (b"end".to_vec(), true));
    }
}
