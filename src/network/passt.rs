//! The host's own network for the guest, without privileges: `passt`, a program that speaks with the guest in frames and
//! with the world through ordinary sockets. Frames travel over a stream socket, each after its length in 32 bits,
//! big-endian. It is our child; when this process is gone, its socket ends, and with it passt.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream as Pair;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::arguments::Forward;
use crate::edge::Edge;

/// Bytes on their way to passt at most; what is more is lost.
const MOST_WAITING: usize = 4 << 20;
/// No frame is longer.
const LONGEST: usize = 65_550;
/// Before each frame comes its length.
const LENGTH: usize = 4;
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// passt, and the ends of what leads to it.
pub struct Passt {
    child: Child,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    frames: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// Frames on their way to passt.
pub struct Queue {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// Sends a frame, in order.
    pub fn send(&self, frame: &[u8]) {
        let frame = unpadded(frame);
        if self.waiting.load(Ordering::Relaxed) + frame.len() > MOST_WAITING {
            return;
        }
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        let message = [&length, frame].concat();
        self.waiting.fetch_add(message.len(), Ordering::Relaxed);
        // Once passt is gone, so are frames.
        let _ = self.frames.send(message);
    }
}

impl Passt {
    /// Starts passt. Must be called inside of a runtime.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(forwards: &[Forward]) -> Result<(Self, Queue)> {
        let (ours, theirs) = Pair::pair().context("cannot make a socket for passt")?;
        ours.set_nonblocking(true).context("cannot make a socket for passt")?;
        let mut command = Command::new("passt");
        // Standard input is its socket.
        command.args(["--foreground", "--stderr", "--quiet", "--fd", "0", "--mtu", "1500"]);
        if !forwards.is_empty() {
            let ports: Vec<String> = forwards.iter().map(|ports| format!("{}:{}", ports.host, ports.guest)).collect();
            command.args(["--tcp-ports", &ports.join(",")]);
        }
        command
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!("--net user needs passt, which is not installed: apt install passt"),
            _ => anyhow!("cannot start passt: {error}"),
        })?;
        let (reader, writer) = UnixStream::from_std(ours).context("cannot use the socket of passt")?.into_split();
        let (sender, frames) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue { frames: sender, waiting: Arc::clone(&waiting) };
        Ok((Self { child, reader: BufReader::with_capacity(BUFFER, reader), writer, frames, waiting }, queue))
    }

    /// Carries frames in both directions; returns why it does so no more.
    pub async fn carry(&mut self, nic: u8, edge: &Edge) -> String {
        let Self { child, reader, writer, frames, waiting } = self;
        let complaints = child.stderr.take();
        let complaints = tokio::spawn(async move {
            match complaints {
                Some(pipe) => last_line(BufReader::new(pipe)).await,
                None => String::new(),
            }
        });
        let sending = async {
            while let Some(message) = frames.recv().await {
                waiting.fetch_sub(message.len(), Ordering::Relaxed);
                if writer.write_all(&message).await.is_err() {
                    break;
                }
            }
        };
        let why = tokio::select! {
            why = receive(reader, nic, edge) => Some(why),
            () = sending => None,
        };
        let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        match why {
            Some(Some(nonsense)) => nonsense,
            _ => format!("passt has ended ({status}): {}", complaints.await.unwrap_or_default()),
        }
    }
}

/// Without the zeroes that a card adds to a short frame: passt takes them for data of the packet.
fn unpadded(frame: &[u8]) -> &[u8] {
    const HEADER: usize = 14;
    let word = |at: usize| match frame.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let length = match word(12) {
        0x0800 => HEADER + word(16),
        0x86dd => HEADER + 40 + word(18),
        _ => frame.len(),
    };
    frame.get(..length).unwrap_or(frame)
}

/// The last line that passt complains with, when it has ended.
async fn last_line(mut pipe: BufReader<impl AsyncRead + Unpin>) -> String {
    let (mut line, mut last) = (Vec::new(), String::new());
    // A line without end is cut.
    while (&mut pipe).take(1000).read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        last = String::from_utf8_lossy(&line).trim().to_owned();
        line.clear();
    }
    last
}

/// Tells the node of every frame, until passt speaks no more or nonsense.
async fn receive(reader: &mut BufReader<OwnedReadHalf>, nic: u8, edge: &Edge) -> Option<String> {
    loop {
        let room = edge.room().await;
        let length = reader.read_u32().await.ok()? as usize;
        if length > LONGEST {
            return Some(format!("passt announced a frame of {length} bytes"));
        }
        let mut frame = vec![0; length];
        reader.read_exact(&mut frame).await.ok()?;
        let mut frames = vec![frame];
        while frames.len() < room
            && let Some(frame) = whole_frame(reader.buffer())
        {
            frames.push(frame.to_vec());
            let length = LENGTH + frame.len();
            reader.consume(length);
        }
        edge.arrived(nic, frames);
    }
}

/// The frame at the beginning, if all of it is there.
fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let length = u32::from_be_bytes(*length) as usize;
    rest.get(..length).filter(|_| length <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        assert_eq!(whole_frame(&[0, 0, 0, 2, 7, 8, 9]), Some(&[7, 8][..]));
        assert_eq!(whole_frame(&[0, 0, 0, 0]), Some(&[][..]));
        for part in [&[][..], &[0, 0, 0], &[0, 0, 0, 2, 7], &[255; 9]] {
            assert_eq!(whole_frame(part), None);
        }
    }

    #[test]
    fn passt_sees_packets_without_padding() {
        let frame = |kind: [u8; 2], length_at: usize, length: u8| {
            let mut frame = vec![0; 60];
            frame[12..14].copy_from_slice(&kind);
            frame[length_at + 1] = length;
            unpadded(&frame).len()
        };
        assert_eq!(frame([8, 0], 16, 40), 54);
        assert_eq!(frame([0x86, 0xdd], 18, 2), 56);
        // Not padded, longer than it is, and of another kind.
        assert_eq!((frame([8, 0], 16, 46), frame([8, 0], 16, 99), frame([8, 6], 16, 40)), (60, 60, 60));
        assert_eq!((unpadded(&[8; 13]).len(), unpadded(&[]).len()), (13, 0));
    }
}
