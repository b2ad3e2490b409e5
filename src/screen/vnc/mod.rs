//! A VNC server (RFC 6143, The Remote Framebuffer Protocol): enough for TigerVNC, noVNC and their kin.
//!
//! It is our own because it is small, and because the servers that other crates offer listen on every address. Encodings
//! are ZRLE and raw; a viewer that knows DesktopSize follows the guest's resolution, one that knows the extended key
//! event sends places of keys instead of characters, so that its keyboard's layout does not matter.
//!
//! The guest's mouse is a PS/2 mouse, which tells movement. A viewer that knows pointer type changes sends movement; of
//! others, which send positions, the differences are taken, and a pointer pushed to an edge of the screen pushes the
//! guest's pointer there, too, so that both meet again.

mod format;
mod picture;
mod pointer;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::arguments::VncArguments;
use crate::edge::Edge;

/// Viewers at a time, at most.
const VIEWERS: usize = 16;

/// Opens the socket for viewers, if there shall be one.
///
/// # Errors
/// When it cannot be had, or others could reach it and the user has not said that this is wanted.
pub async fn bind(arguments: &VncArguments) -> Result<Option<TcpListener>> {
    let Some(address) = arguments.vnc else { return Ok(None) };
    ensure!(
        is_private(address) || arguments.vnc_insecure,
        "--vnc {address}: whoever reaches that address could use the guest's keyboard, because VNC here has no password \
         and no encryption; listen on 127.0.0.1 and reach it through SSH, or add --vnc-insecure"
    );
    let bound = TcpListener::bind(address).await;
    let bound = bound.with_context(|| format!("cannot serve VNC on {address}; choose another port or address"))?;
    Ok(Some(bound))
}

fn is_private(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Serves whoever comes; never returns. Viewers are gone when it is dropped.
pub async fn serve(listener: &TcpListener, edge: &Arc<Edge>) {
    let mut viewers = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors or the like: let others end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        while viewers.try_join_next().is_some() {}
        if viewers.len() < VIEWERS {
            let edge = Arc::clone(edge);
            viewers.spawn(async move {
                // A viewer that goes away, or talks nonsense, concerns nobody else.
                let _ = session::serve(edge, stream).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn other_machines_are_kept_out_unless_wanted() {
        for (address, vnc_insecure, served) in
            [("127.0.0.1:0", false, true), ("[::ffff:127.0.0.1]:0", false, true), ("0.0.0.0:0", false, false)]
        {
            let vnc = Some(address.parse().expect("an address"));
            let bound = bind(&VncArguments { vnc, vnc_insecure }).await;
            assert_eq!(bound.is_ok(), served, "{address}");
        }
    }
}
