//! A pair of servers on loopback.
#![allow(dead_code)] // each test file uses its part

use std::net::SocketAddr;
use std::time::Duration;

use ftemu_transport::{Class, Closed, Event, Events, Identity, Link, Listener, Settings, Trust, dial};
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Two identities that trust each other, and a listener of the first's.
pub fn listener(settings: &Settings) -> (Listener, Identity, Trust) {
    let [here, there] = [0; 2].map(|_| Identity::ephemeral().unwrap());
    let trust_there = Trust::of([here.fingerprint()]);
    let trust_here = Trust::of([there.fingerprint()]);
    let listener = Listener::bind(loopback(), here, trust_here, settings.clone()).unwrap();
    (listener, there, trust_there)
}

/// A connected pair: the listener's side, the dialler's side.
pub async fn pair(settings: &Settings) -> (Listener, (Link, Events), (Link, Events)) {
    let (mut listener, identity, trust) = listener(settings);
    let address = listener.local_address().unwrap();
    let (accepted, dialled) = tokio::join!(listener.accept(), dial(address, &identity, &trust, settings));
    (listener, accepted.unwrap(), dialled.unwrap())
}

pub async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("the link tells its end")
}

pub async fn next_message(events: &mut Events) -> (Class, Vec<u8>) {
    match next(events).await {
        Event::Message(message) => (message.class, message.bytes),
        other => panic!("{other:?}"),
    }
}

pub async fn closed(events: &mut Events) -> Closed {
    loop {
        if let Event::Closed(reason) = next(events).await {
            return reason;
        }
    }
}
