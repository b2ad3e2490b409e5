//! The host's own network for the guest, without privileges: `passt`, a program that speaks with the guest in frames and
//! with the world through ordinary sockets. Frames travel over a stream socket, each after its length in 32 bits,
//! big-endian. It is our child; when this process is gone, its socket ends, and with it passt.

mod incoming;
mod outgoing;
mod ports;
mod waiting;

pub use outgoing::Queue;

use std::io::ErrorKind;
use std::os::unix::net::UnixStream as Pair;
use std::process::Stdio;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

use super::arguments::Forward;
use crate::edge::Edge;

/// Bytes that passt is given at once.
const PIECE: usize = 64 << 10;
/// Bytes from passt that the socket should hold. Most hosts allow ordinary users less.
const SOCKET_BYTES: usize = 8 << 20;

/// passt, and the ends of what leads to it.
pub struct Passt {
    child: Child,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    queue: Queue,
}

impl Passt {
    /// Starts passt. Must be called inside of a runtime.
    ///
    /// # Errors
    /// When it is not installed or does not start, or a port cannot be had.
    pub fn start(forwards: &[Forward]) -> Result<(Self, Queue)> {
        ports::check(forwards)?;
        let (ours, theirs) = Pair::pair().context("cannot make a socket for passt")?;
        ours.set_nonblocking(true).context("cannot make a socket for passt")?;
        make_roomy(&theirs);
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
        let queue = Queue::default();
        Ok((Self { child, reader, writer, queue: queue.clone() }, queue))
    }

    /// Carries frames in both directions; returns why it does so no more.
    pub async fn carry(&mut self, nic: u8, edge: &Edge) -> String {
        let Self { child, reader, writer, queue } = self;
        let complaints = child.stderr.take();
        let complaints = tokio::spawn(async move {
            match complaints {
                Some(pipe) => last_line(BufReader::new(pipe)).await,
                None => String::new(),
            }
        });
        let sending = async { while writer.write_all(&queue.next(PIECE).await).await.is_ok() {} };
        let why = tokio::select! {
            why = incoming::receive(reader, nic, edge) => Some(why),
            () = sending => None,
        };
        let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        match why {
            Some(Some(nonsense)) => nonsense,
            _ => format!("passt has ended ({status}): {}", complaints.await.unwrap_or_default()),
        }
    }
}

/// Makes room in a socket for what passt sends at once. With less room more is lost, and sent again.
fn make_roomy(socket: &Pair) {
    use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
    // Only root may have more than others.
    if set_socket_send_buffer_size_force(socket, SOCKET_BYTES).is_err() {
        let _ = set_socket_send_buffer_size(socket, SOCKET_BYTES);
    }
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
