//! How a link comes about: listening and dialling, the QUIC handshake, the pairing of the tether.
//!
//! Both sides open their three streams and say hello on the first, with a nonce for the tether. A
//! hello proves to the dialler that the listener took its key: in TLS 1.3 the client is ready
//! before the server has looked at the client's certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream};
use quinn::{SendStream, ServerConfig, TransportErrorCode, VarInt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

use crate::datagrams;
use crate::frame::length_field;
use crate::identity::SERVER_NAME;
use crate::link::Shared;
use crate::runtime::Sparing;
use crate::streams::{self, Ended};
use crate::tether::{self, Expected, Nonce};
use crate::tls::{self, ALERT_ACCESS_DENIED, ALERT_NO_APPLICATION_PROTOCOL, Pin};
use crate::{Class, Events, Identity, Link, LinkError, Settings, Trust};

/// The first bytes of a hello; the nonce follows.
const HELLO: &[u8; 16] = b"ftemu link hello";
/// Handshakes that may be going on at once; more are turned away.
const HANDSHAKES: usize = 16;
/// What QUIC keeps for connections that were not accepted yet.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
/// The sockets' buffers; the system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// How long to go on trying after the peer's system said that nobody listens on the TCP port.
const REFUSED_GRACE: Duration = Duration::from_millis(500);

/// Waits for peers on a UDP port, and for their tethers on the TCP port of the same number.
pub struct Listener {
    endpoint: Endpoint,
    links: mpsc::Receiver<Result<(Link, Events), LinkError>>,
    tasks: [AbortHandle; 2],
}

/// What accepting needs to know.
struct Acceptor {
    endpoint: Endpoint,
    identity: Identity,
    trust: Arc<Trust>,
    settings: Settings,
    expected: Arc<Expected>,
}

impl Listener {
    /// Listens on `address`; port 0 chooses a free one.
    ///
    /// # Errors
    /// When the address cannot be used, on UDP or TCP.
    pub fn bind(address: SocketAddr, identity: Identity, trust: Trust, settings: Settings) -> Result<Self, LinkError> {
        let bind_error = |source| LinkError::Bind { address, source };
        let trust = Arc::new(trust);
        let (udp, tcp) = bind_both(address).map_err(bind_error)?;
        let config = server_config(&identity, Pin::new(Arc::clone(&trust)), &settings)?;
        let runtime = Arc::new(Sparing);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), udp, runtime).map_err(bind_error)?;
        let tcp = TcpListener::from_std(tcp).map_err(bind_error)?;
        let expected = Arc::new(Expected::default());
        let (sender, links) = mpsc::channel(HANDSHAKES);
        let tethers = tokio::spawn(tether::accept(tcp, Arc::clone(&expected)));
        let acceptor = Acceptor { endpoint: endpoint.clone(), identity, trust, settings, expected };
        let connections = tokio::spawn(Arc::new(acceptor).run(sender));
        Ok(Self { endpoint, links, tasks: [tethers.abort_handle(), connections.abort_handle()] })
    }

    /// The next peer that came in, or the news that one was turned away and why.
    ///
    /// # Errors
    /// A peer was turned away; the listener goes on. [`LinkError::ListenerClosed`] is the last.
    pub async fn accept(&mut self) -> Result<(Link, Events), LinkError> {
        self.links.recv().await.unwrap_or(Err(LinkError::ListenerClosed))
    }

    /// The address listened on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.endpoint.set_server_config(None);
    }
}

impl Acceptor {
    async fn run(self: Arc<Self>, links: mpsc::Sender<Result<(Link, Events), LinkError>>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        while let Some(incoming) = self.endpoint.accept().await {
            let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (this, links) = (Arc::clone(&self), links.clone());
            tokio::spawn(async move {
                let address = incoming.remote_address();
                let limit = this.settings.handshake_limit;
                let link = timeout(limit, this.accept(incoming)).await;
                let link = link.unwrap_or(Err(LinkError::Unreachable { address }));
                // When nobody takes the news, news of strangers is not kept.
                let _ = links.try_send(link);
                drop(permit);
            });
        }
    }

    async fn accept(&self, incoming: Incoming) -> Result<(Link, Events), LinkError> {
        let address = incoming.remote_address();
        let pin = Pin::new(Arc::clone(&self.trust));
        let failure = Failure { address, pin: Arc::clone(&pin), own: self.identity.fingerprint() };
        let config = server_config(&self.identity, pin, &self.settings)?;
        let connecting = incoming.accept_with(Arc::new(config)).map_err(|error| failure.explain(error))?;
        let connection = connecting.await.map_err(|error| failure.explain(error))?;
        let ours = tether::nonce();
        let arriving = self.expected.expect(ours);
        let greeted = greet(&connection, ours).await.map_err(|ended| failure.of_greeting(&connection, ended));
        let tether = match &greeted {
            Ok(greeted) => timeout(self.settings.tether_limit, async {
                tether::answer(arriving.await.ok()?, &greeted.theirs).await
            })
            .await
            .ok()
            .flatten(),
            Err(_) => None,
        };
        self.expected.take(&ours);
        Ok(start(self.endpoint.clone(), connection, greeted?, tether))
    }
}

/// Connects to the peer that listens on `address`.
///
/// # Errors
/// When it cannot be reached, or one of the two does not trust the other.
pub async fn dial(
    address: SocketAddr,
    identity: &Identity,
    trust: &Trust,
    settings: &Settings,
) -> Result<(Link, Events), LinkError> {
    let unreachable = LinkError::Unreachable { address };
    timeout(settings.handshake_limit, connect(address, identity, trust, settings)).await.unwrap_or(Err(unreachable))
}

async fn connect(
    address: SocketAddr,
    identity: &Identity,
    trust: &Trust,
    settings: &Settings,
) -> Result<(Link, Events), LinkError> {
    let pin = Pin::new(Arc::new(trust.clone()));
    let failure = Failure { address, pin: Arc::clone(&pin), own: identity.fingerprint() };
    let local = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let bind_error = |source| LinkError::Bind { address: local, source };
    let socket = bind_udp(local).map_err(bind_error)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(Sparing));
    let endpoint = endpoint.map_err(bind_error)?;
    let mut config = ClientConfig::new(Arc::new(tls::client(identity, pin)?));
    config.transport_config(settings.quic());
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connecting = connecting.map_err(|error| failure.other(&error))?;
    let mut line = Line::connect(address);
    let connection = tokio::select! {
        connection = connecting => connection.map_err(|error| failure.explain(error))?,
        () = line.refused() => return Err(LinkError::Unreachable { address }),
    };
    let ours = tether::nonce();
    let greeted = greet(&connection, ours).await.map_err(|ended| failure.of_greeting(&connection, ended))?;
    let tether =
        timeout(settings.tether_limit, async { tether::present(line.stream().await?, &greeted.theirs, &ours).await });
    let tether = tether.await.ok().flatten();
    Ok(start(endpoint, connection, greeted, tether))
}

/// A TCP connection to the peer on its way; it becomes the tether.
struct Line {
    connecting: JoinHandle<io::Result<TcpStream>>,
    outcome: Option<io::Result<TcpStream>>,
}

impl Line {
    fn connect(address: SocketAddr) -> Self {
        Self { connecting: tokio::spawn(TcpStream::connect(address)), outcome: None }
    }

    async fn wait(&mut self) {
        if self.outcome.is_none() {
            let outcome = (&mut self.connecting).await;
            self.outcome = Some(outcome.unwrap_or_else(|error| Err(io::Error::other(error))));
        }
    }

    /// Ends some time after the peer's system said that nobody listens; else never.
    async fn refused(&mut self) {
        self.wait().await;
        match &self.outcome {
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => sleep(REFUSED_GRACE).await,
            _ => std::future::pending().await,
        }
    }

    async fn stream(mut self) -> Option<TcpStream> {
        self.wait().await;
        self.outcome?.ok()
    }
}

/// The streams of a connection after both have said hello.
struct Greeted {
    outgoing: [SendStream; 3],
    control: RecvStream,
    theirs: Nonce,
}

async fn greet(connection: &Connection, ours: Nonce) -> Result<Greeted, Ended> {
    let open = || async { connection.open_uni().await.map_err(|_| Ended::Gone) };
    // In this order: stream numbers tell the classes.
    let mut outgoing = [open().await?, open().await?, open().await?];
    let mut hello = length_field(HELLO.len() + ours.len()).to_vec();
    hello.extend_from_slice(HELLO);
    hello.extend_from_slice(&ours);
    outgoing[0].write_all(&hello).await.map_err(|_| Ended::Gone)?;
    let mut control = connection.accept_uni().await.map_err(|_| Ended::Gone)?;
    let answer = streams::read_message(&mut control, HELLO.len() + ours.len()).await?;
    let theirs = answer.strip_prefix(HELLO).and_then(|nonce| nonce.try_into().ok()).ok_or(Ended::Gone)?;
    Ok(Greeted { outgoing, control, theirs })
}

/// Starts the tasks of a new link.
fn start(endpoint: Endpoint, connection: Connection, greeted: Greeted, tether: Option<TcpStream>) -> (Link, Events) {
    let (events, receiver) = mpsc::unbounded_channel();
    let (queues, outgoing): (Vec<_>, Vec<_>) = Class::STREAMS.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let Ok(queues) = queues.try_into() else { unreachable!("one queue a class") };
    let shared = Arc::new(Shared {
        connection,
        endpoint,
        queues,
        echoed: watch::Sender::new(0),
        tethered: AtomicBool::new(tether.is_some()),
        events,
        closed: OnceLock::new(),
    });
    for ((class, queue), stream) in Class::STREAMS.into_iter().zip(outgoing).zip(greeted.outgoing) {
        tokio::spawn(streams::write(Arc::clone(&shared), class, queue, stream));
    }
    tokio::spawn(streams::read_all(Arc::clone(&shared), greeted.control));
    tokio::spawn(datagrams::listen(Arc::clone(&shared)));
    tokio::spawn(Arc::clone(&shared).watch_close());
    if let Some(tether) = tether {
        tokio::spawn(tether::watch(Arc::clone(&shared), tether));
    }
    (Link::new(shared), Events { receiver })
}

fn server_config(identity: &Identity, pin: Arc<Pin>, settings: &Settings) -> Result<ServerConfig, LinkError> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls::server(identity, pin)?));
    config
        .transport_config(settings.quic())
        .migration(false)
        .max_incoming(HANDSHAKES)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * 4);
    Ok(config)
}

/// Turns the ways a connection can fail into what the user should know.
struct Failure {
    address: SocketAddr,
    pin: Arc<Pin>,
    own: crate::Fingerprint,
}

impl Failure {
    fn explain(&self, error: ConnectionError) -> LinkError {
        let address = self.address;
        if let Some(offered) = self.pin.refused() {
            return LinkError::Untrusted { address, offered, trust: self.pin.source() };
        }
        let code = match &error {
            ConnectionError::ConnectionClosed(close) => close.error_code,
            ConnectionError::TransportError(error) => error.code,
            ConnectionError::VersionMismatch => return LinkError::OtherProtocol { address },
            ConnectionError::TimedOut => return LinkError::Unreachable { address },
            _ => return self.other(&error),
        };
        if code == TransportErrorCode::crypto(ALERT_ACCESS_DENIED) {
            LinkError::Refused { address, own: self.own }
        } else if code == TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL) {
            LinkError::OtherProtocol { address }
        } else {
            self.other(&error)
        }
    }

    fn of_greeting(&self, connection: &Connection, ended: Ended) -> LinkError {
        match (connection.close_reason(), ended) {
            (Some(error), _) => self.explain(error),
            (None, Ended::TooLong(_) | Ended::Gone) => {
                connection.close(VarInt::from_u32(1), b"no hello");
                LinkError::OtherProtocol { address: self.address }
            }
        }
    }

    fn other(&self, error: &dyn std::error::Error) -> LinkError {
        LinkError::Failed { address: self.address, reason: error.to_string() }
    }
}

/// UDP and TCP on one port. A free UDP port may be taken on TCP, so port 0 gets some attempts.
fn bind_both(address: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let attempts = if address.port() == 0 { 16 } else { 1 };
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..attempts {
        result = bind_udp(address).and_then(|udp| {
            let tcp = bind_tcp(udp.local_addr()?)?;
            Ok((udp, tcp))
        });
        if result.is_ok() {
            break;
        }
    }
    result
}

fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(128)?;
    Ok(socket.into())
}
