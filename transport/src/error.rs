//! Every way in which getting or using a link can fail, in words a user can act on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::{Class, Fingerprint};

/// This server's identity cannot be read or made.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file or folder of the identity cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the identity has other contents than it should.
    #[error(
        "{path} is damaged ({reason}); delete it and its neighbours in that folder to get a new identity, then tell the other server the new key"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Anybody on this machine could read the private key.
    #[error("{path} can be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    Exposed {
        /// The private key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The cryptographic library refused.
    #[error("cannot make a key: {0}")]
    Generate(String),
}

/// The list of trusted keys cannot be used.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error(
        "cannot read the trust file {path}: {source}; put the line into it that `ftemu identity` prints on the other server"
    )]
    File {
        /// The trust file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no key.
    #[error("{path}, line {line}: this is no key; {reason}")]
    Line {
        /// The trust file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What a key looks like.
        reason: String,
    },
    /// The file holds no key at all.
    #[error(
        "the trust file {path} names no key; put the line into it that `ftemu identity` prints on the other server"
    )]
    Empty {
        /// The trust file.
        path: PathBuf,
    },
}

/// No link came about.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The local address cannot be used.
    #[error("cannot listen on {address}: {source}{}", in_use_hint(source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("no answer from {address}; is the other server running and is UDP port {} open on the way?", address.port())]
    Unreachable {
        /// The peer's address.
        address: SocketAddr,
    },
    /// The peer showed a key that we do not trust.
    #[error(
        "the peer at {address} offered key {offered}, which is not in {trust}; if this is your server, add that line to it"
    )]
    Untrusted {
        /// The peer's address.
        address: SocketAddr,
        /// The key it showed.
        offered: Fingerprint,
        /// Where trusted keys come from.
        trust: String,
    },
    /// The peer does not trust our key.
    #[error("the peer at {address} refused our key {own}; if this is your server, add that line to its trust file")]
    Refused {
        /// The peer's address.
        address: SocketAddr,
        /// Our own key.
        own: Fingerprint,
    },
    /// The peer talks another version of the link protocol, or something else altogether.
    #[error(
        "the server at {address} does not speak this version of the ftemu link; run the same build on both servers"
    )]
    OtherProtocol {
        /// The peer's address.
        address: SocketAddr,
    },
    /// The connection failed before it was a link.
    #[error("the connection to {address} failed: {reason}")]
    Failed {
        /// The peer's address.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The cryptographic library does not accept our own key.
    #[error("this server's key cannot be used: {0}")]
    Key(String),
    /// The listener was shut down.
    #[error("the listener is closed")]
    ListenerClosed,
}

/// A message could not be taken for sending.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// The link has ended; [`crate::Event::Closed`] says why.
    #[error("the link is closed")]
    Closed,
    /// The message is longer than the peer would take.
    #[error("a {class:?} message of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// The message's class.
        class: Class,
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
}

fn in_use_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another program has that port, choose another one",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need more rights, choose a higher one",
        _ => "",
    }
}
