//! How QUIC uses sockets and timers: with as few wake-ups as the link needs.
//!
//! What a pair costs whose guest is idle is what its wake-ups cost. By quinn's own way of using tokio there are more of
//! them than packets: the system says that a socket can be written again, which it does after every packet; a timer that
//! was put off expires all the same, and is set anew; and after the last packet a further one is asked for. Here a socket
//! is watched for packets only, a timer that is put off is forgotten, and fewer packets than were asked for are all
//! there were.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep_until};

/// tokio, used sparingly.
#[derive(Debug)]
pub(crate) struct Sparing;

impl Runtime for Sparing {
    fn new_timer(&self, due: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(sleep_until(due.into()))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket::new(socket)?))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[allow(deprecated, reason = "its successor is unsafe, and a UdpSocket keeps its descriptor for as long as it lives")]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

/// A timer; put off, it is another.
#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, due: Instant) {
        self.0 = Box::pin(sleep_until(due.into()));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.0.as_mut(), context)
    }
}

/// A UDP socket that is watched for packets only.
#[derive(Debug)]
struct Socket {
    state: UdpSocketState,
    io: AsyncFd<UdpSocket>,
    /// The system took no more packets when it was last given one.
    full: AtomicBool,
}

impl Socket {
    fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { state, io: watch(socket, Interest::READABLE)?, full: false.into() })
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let most = buffers.len().min(meta.len());
        loop {
            let mut ready = ready!(self.io.poll_read_ready(context))?;
            let Ok(received) = ready.try_io(|socket| self.state.recv(socket.get_ref().into(), buffers, meta)) else {
                continue;
            };
            if received.as_ref().is_ok_and(|&count| count < most) {
                // What comes from now on is told anew.
                ready.clear_ready();
            }
            return Poll::Ready(received);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the system takes packets again, which is rare: only for that the socket is watched for it.
struct Room {
    socket: Arc<Socket>,
    waiting: Option<Waiting>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            if !self.socket.full.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let watched = watch(self.socket.io.get_ref().try_clone()?, Interest::WRITABLE)?;
            self.waiting = Some(Box::pin(async move { watched.writable().await.map(|_| ()) }));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(context))?;
        }
        self.waiting = None;
        self.socket.full.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Room").field("waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn wrapped() -> (Arc<Socket>, UdpSocket) {
        let [here, there] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        here.set_nonblocking(true).unwrap();
        (Arc::new(Socket::new(here).unwrap()), there)
    }

    async fn receive(socket: &dyn AsyncUdpSocket) -> usize {
        let (mut bytes, mut meta) = ([[0; 1500]; 4], [RecvMeta::default(); 4]);
        poll_fn(|context| {
            socket.poll_recv(context, &mut bytes.each_mut().map(|bytes| IoSliceMut::new(bytes)), &mut meta)
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_more_is_waited_for() {
        let (socket, _there) = wrapped();
        let mut room = Arc::clone(&socket).create_io_poller();
        for _ in 0..2 {
            assert!(poll_fn(|context| Poll::Ready(room.as_mut().poll_writable(context).is_ready())).await);
            // As if it had been: by loopback a packet is gone at once.
            socket.full.store(true, Ordering::Relaxed);
            assert!(!poll_fn(|context| Poll::Ready(room.as_mut().poll_writable(context).is_ready())).await);
            poll_fn(|context| room.as_mut().poll_writable(context)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_comes_after_the_last_packet_is_told() {
        let (socket, there) = wrapped();
        for _ in 0..3 {
            there.send_to(&[1; 20], socket.local_addr().unwrap()).unwrap();
            assert_eq!(receive(&*socket).await, 1);
        }
    }

    #[tokio::test]
    async fn a_timer_put_off_and_put_forward_expires_when_it_is_due() {
        let start = Instant::now();
        let after = |ms| start + std::time::Duration::from_millis(ms);
        let mut timer = Sparing.new_timer(after(5));
        timer.as_mut().reset(after(60_000));
        timer.as_mut().reset(after(30));
        poll_fn(|context| timer.as_mut().poll(context)).await;
        assert!((after(30)..after(30_000)).contains(&Instant::now()));
    }
}
