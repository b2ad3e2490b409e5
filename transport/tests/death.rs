//! What is seen of a peer that dies or stands still: a real process, killed or stopped.
//!
//! The test starts itself again as the peer: `peer` does nothing unless asked by a variable.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{closed, next_message};
use ftemu_transport::{Class, Closed, Event, Events, Identity, Link, Listener, Settings, Trust, dial};

/// Names the folder of identities; set in the peer's process only.
const ASKED: &str = "FTEMU_TEST_PEER";

/// The peer's process: listens, tells its address, answers every message.
#[test]
fn peer() {
    let Some(folder) = std::env::var_os(ASKED).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(&folder));
}

async fn serve(folder: &Path) {
    let identity = Identity::load_or_create(&folder.join("peer")).unwrap();
    let ours = Identity::load_or_create(&folder.join("ours")).unwrap();
    let trust = Trust::of([ours.fingerprint()]);
    let mut listener = Listener::bind(common::loopback(), identity, trust, Settings::default()).unwrap();
    println!("\naddress {}", listener.local_address().unwrap());
    let (link, mut events) = listener.accept().await.unwrap();
    while let Some(event) = events.recv().await {
        if let Event::Message(message) = event {
            link.send(message.class, message.bytes).unwrap();
        }
    }
}

/// A running peer and the link to it.
struct Peer {
    child: Running,
    link: Link,
    events: Events,
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let ours = Identity::load_or_create(&path.join("ours")).unwrap();
        let theirs = Identity::load_or_create(&path.join("peer")).unwrap();
        let mut child = Running(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "peer", "--nocapture", "--test-threads=1"])
                .env(ASKED, path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let address = address_of(&mut child.0);
        let trust = Trust::of([theirs.fingerprint()]);
        let (link, mut events) = dial(address, &ours, &trust, &Settings::default()).await.unwrap();
        link.send(Class::Log, b"hello".to_vec()).unwrap();
        assert_eq!(next_message(&mut events).await, (Class::Log, b"hello".to_vec()));
        Self { child, link, events }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

fn address_of(child: &mut Child) -> SocketAddr {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut words = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("address ")?.parse().ok());
    words.next().expect("the peer tells its address")
}

#[tokio::test]
async fn a_killed_process_is_noticed_at_once() {
    let mut peer = Peer::start().await;
    assert!(peer.link.tethered());
    let killed = Instant::now();
    peer.child.0.kill().unwrap();
    assert_eq!(closed(&mut peer.events).await, Closed::ProcessDied);
    let noticed = killed.elapsed();
    println!("the death was noticed after {noticed:?}");
    // Well before silence could have shown anything.
    assert!(noticed < Duration::from_millis(125), "{noticed:?}");
}

#[tokio::test]
async fn a_stopped_process_is_not_dead() {
    let mut peer = Peer::start().await;
    peer.signal("-STOP");
    let news = tokio::time::timeout(Duration::from_millis(500), peer.events.recv()).await;
    assert!(news.is_err(), "{news:?}");
    peer.signal("-CONT");
    peer.link.send(Class::Log, b"back".to_vec()).unwrap();
    assert_eq!(next_message(&mut peer.events).await.1, b"back");
}
