//! The link between the two servers of a pair: QUIC (RFC 9000) with mutual TLS 1.3 and pinned keys.
//!
//! What goes over the link is none of this crate's business: it moves byte messages of three
//! classes, each an ordered stream of its own, and tells its user what became of the peer.
//!
//! * [`Identity`]: this server's key and certificate, kept in a directory.
//! * [`Fingerprint`], [`Trust`]: which other keys may talk to us. Nobody else gets a byte in.
//! * [`Listener`], [`dial`]: the two ways to get a [`Link`].
//! * [`Link`], [`Events`]: send messages; receive messages and news of the peer.
//!
//! Reading order: `fingerprint`, `identity`, `trust`, `tls`, `settings`, `frame`, `runtime`, `endpoint`,
//! `link`, `streams`, `datagrams`, `tether`.

mod datagrams;
mod endpoint;
mod error;
mod fingerprint;
mod frame;
mod identity;
mod link;
mod runtime;
mod settings;
mod streams;
mod tether;
mod tls;
mod trust;

pub use endpoint::{Listener, dial};
pub use error::{IdentityError, LinkError, SendError, TrustError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use frame::Class;
pub use identity::Identity;
pub use link::{Closed, Event, Events, Link, Message, Traffic};
pub use settings::Settings;
pub use trust::Trust;
