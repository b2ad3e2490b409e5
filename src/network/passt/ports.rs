//! Ports of the host that shall lead to the guest. passt says nothing of one that it cannot have (that of Debian 12 does
//! not), so they are tried before it starts.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::network::arguments::Forward;

/// The passt of a guest that has just ended needs a moment to let its ports go.
const TRIES: usize = 10;
const AGAIN: Duration = Duration::from_millis(50);

/// Makes sure that passt can have these ports.
///
/// # Errors
/// One is given twice, in use, or not for this user; says which.
pub fn check(forwards: &[Forward]) -> Result<()> {
    for (at, Forward { host, guest }) in forwards.iter().enumerate() {
        let twice = forwards[..at].iter().any(|other| other.host == *host);
        ensure!(
            !twice,
            "--forward {host}:{guest}: port {host} of this server already leads to another port of the guest"
        );
        let Some(error) = trouble(*host) else { continue };
        match error {
            ErrorKind::AddrInUse => {
                bail!(
                    "--forward {host}:{guest}: port {host} of this server is in use by another program; choose another one"
                )
            }
            ErrorKind::PermissionDenied => bail!(
                "--forward {host}:{guest}: no permission to use port {host} of this server; ports from 1024 on are for everybody"
            ),
            // passt knows best.
            _ => {}
        }
    }
    Ok(())
}

/// Why nobody could listen on this port of all addresses.
fn trouble(port: u16) -> Option<ErrorKind> {
    let listen = || TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).err().map(|error| error.kind());
    for _ in 0..TRIES {
        match listen() {
            Some(ErrorKind::AddrInUse) => sleep(AGAIN),
            other => return other,
        }
    }
    listen()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_cannot_be_had_are_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = taken.local_addr().unwrap().port();
        let told = |forwards: &[Forward]| check(forwards).unwrap_err().to_string();
        let said = told(&[Forward { host, guest: 22 }]);
        assert!(said.contains(&format!("{host}:22")) && said.contains("in use"), "{said}");
        let twice = [Forward { host: 0, guest: 22 }, Forward { host: 0, guest: 80 }];
        assert!(told(&twice).contains("already leads"));
        check(&twice[..1]).unwrap();
    }
}
