//! A tap device: the kernel's end of a cable. What is written comes out of it, what goes into it can be read.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::tun;
use crate::edge::Edge;

const DEVICE: &str = "/dev/net/tun";
/// No frame is longer.
const LONGEST: usize = 65_550;
/// Frames told to the node at once.
const BATCH: usize = 64;

/// An open tap.
pub struct Tap {
    name: String,
    file: File,
}

impl Tap {
    /// Opens a tap that is there.
    ///
    /// # Errors
    /// When it is not there, not the user's, or in use.
    pub fn open(name: &str) -> Result<Self> {
        let make = format!(
            "make it first, for example: ip tuntap add dev {name} mode tap user $USER; ip link set {name} master br0 up"
        );
        // Otherwise root would make one that leads nowhere.
        let there = rustix::net::netdevice::name_to_index(
            &rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?,
            name,
        );
        there.map_err(|_| anyhow!("there is no network interface {name}; {make}"))?;
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                anyhow!("no permission to open {DEVICE}; as root, let everybody: chmod 666 {DEVICE} (taps stay their owners')")
            }
            _ => anyhow!("cannot open {DEVICE}; is the kernel module tun loaded (modprobe tun)? {error}"),
        })?;
        tun::attach(&file, name).map_err(|error| match error {
            Errno::PERM => anyhow!(
                "no permission to use the tap {name}; it must be yours: ip tuntap add dev {name} mode tap user $USER"
            ),
            Errno::BUSY => anyhow!("the tap {name} is in use by another program"),
            Errno::INVAL => anyhow!("{name} is not a tap device; {make}"),
            error => anyhow!("cannot use the tap {name}: {error}"),
        })?;
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        Ok(Self { name: name.into(), file })
    }

    /// Sends a frame now. Gives what the user should know if the kernel takes none.
    pub fn send(&self, frame: &[u8]) -> Option<String> {
        match rustix::io::write(&self.file, frame) {
            Err(Errno::IO) => {
                Some(format!("frames of the guest are lost: the tap {0} is down (ip link set {0} up)", self.name))
            }
            // A full queue, or bytes that are no frame: lost, as on any network.
            _ => None,
        }
    }

    /// Tells the node of every frame; returns why there will be no more.
    pub async fn read_into(self: &Arc<Self>, nic: u8, edge: &Edge) -> String {
        let gone = |error: std::io::Error| format!("the tap {} is gone: {error}", self.name);
        let waiting = match tun::watch(&self.file) {
            Ok(waiting) => waiting,
            Err(error) => return gone(error),
        };
        let mut buffer = vec![0; LONGEST];
        loop {
            let room = edge.room().await.min(BATCH);
            let mut ready = match waiting.readable().await {
                Ok(ready) => ready,
                Err(error) => return gone(error),
            };
            let mut frames = Vec::new();
            while frames.len() < room {
                match rustix::io::read(&self.file, &mut buffer) {
                    Ok(0) => return gone(std::io::ErrorKind::UnexpectedEof.into()),
                    Ok(length) => frames.push(buffer[..length].to_vec()),
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return gone(error.into()),
                }
            }
            edge.arrived(nic, frames);
            tokio::task::yield_now().await;
        }
    }
}
