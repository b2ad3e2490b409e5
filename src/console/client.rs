//! `ftemu console`: follows the guest's console from one server to the other.
//!
//! The client talks to all servers at once and listens to the one that is live. It counts the bytes it has shown and asks
//! the survivor for those after them; what it has typed it keeps until that survives a failover, and types the rest
//! again.

use std::collections::VecDeque;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::protocol::{Encode, FromClient, FromServer, LIMIT, VERSION, read};
use super::terminal::{Raw, Typed, complain, keyboard};
use crate::arguments::ConsoleArguments;
use crate::host;

/// Between attempts to reach a server.
const AGAIN: Duration = Duration::from_millis(100);
/// A user who sees nothing for this long is told why.
const EXPLAIN_AFTER: Duration = Duration::from_secs(1);
/// How long to wait, when the user leaves, for what was typed last to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Typed bytes that may wait for a live server before the keyboard has to.
const UNTAKEN_BYTES: usize = 256 << 10;
/// Typed bytes in one message.
const PIECE_BYTES: usize = LIMIT / 2;

/// Attaches to a guest's console until the guest is off or the user leaves.
///
/// # Errors
/// When no server can be reached for long, or they speak otherwise.
pub fn console(arguments: &ConsoleArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the network's runtime")?;
    let raw = Raw::enter()?;
    let typed = keyboard(raw.is_some())?;
    let outcome = runtime.block_on(Client::new(host::random()?, arguments).run(typed));
    drop(raw);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// News of a server.
enum News {
    Connected(mpsc::UnboundedSender<FromClient>),
    Said(FromServer),
    Lost(String),
}

struct Client<'a> {
    arguments: &'a ConsoleArguments,
    id: u64,
    servers: Vec<Server>,
    /// The server that is live, as far as is known.
    live: Option<usize>,
    /// The highest term of a live server so far: an older one is wrong.
    term: u64,
    /// Bytes of the guest's shown so far.
    position: u64,
    /// Sequence number of the first byte that is not known to survive.
    taken: u64,
    /// What was typed from there on.
    untaken: VecDeque<u8>,
    /// Since when no server could be reached.
    alone_since: Option<Instant>,
}

#[derive(Default)]
struct Server {
    requests: Option<mpsc::UnboundedSender<FromClient>>,
    trouble: String,
}

impl<'a> Client<'a> {
    fn new(id: u64, arguments: &'a ConsoleArguments) -> Self {
        let servers = arguments.servers.iter().map(|_| Server::default()).collect();
        let alone_since = Some(Instant::now());
        let untaken = VecDeque::new();
        Self { arguments, id, servers, live: None, term: 0, position: 0, taken: 0, untaken, alone_since }
    }

    async fn run(mut self, mut typed: mpsc::Receiver<Typed>) -> Result<()> {
        let (sender, mut news) = mpsc::channel(16);
        for (index, address) in self.arguments.servers.iter().enumerate() {
            tokio::spawn(follow(index, address.clone(), self.id, sender.clone()));
        }
        let mut input_ended = false;
        let mut leaving: Option<Instant> = None;
        let mut explain = Some(Instant::now() + EXPLAIN_AFTER);
        while !leaving.is_some_and(|until| self.untaken.is_empty() || Instant::now() >= until) {
            let room = self.untaken.len() < UNTAKEN_BYTES;
            let patience = self.alone_since.map(|since| since + self.arguments.patience);
            tokio::select! {
                Some((index, news)) = news.recv() => if self.hear(index, news)? { return Ok(()) },
                typed = typed.recv(), if room && !input_ended && leaving.is_none() => match typed {
                    Some(Typed::Bytes(bytes)) => self.typed(bytes),
                    Some(Typed::Leave) => leaving = Some(Instant::now() + LAST_WORDS),
                    None => input_ended = true,
                },
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => self.give_up()?,
                () = sleep_until(explain.unwrap_or_else(Instant::now)), if explain.is_some() => {
                    explain = None;
                    self.explain_waiting();
                }
                () = sleep_until(leaving.unwrap_or_else(Instant::now)), if leaving.is_some() => {}
            }
        }
        Ok(())
    }

    /// A user who sees nothing wants to know why.
    fn explain_waiting(&self) {
        let attached = self.servers.iter().any(|server| server.requests.is_some());
        if attached && self.live.is_none() {
            complain("no server here runs the guest yet; its console appears when one does");
        }
    }

    fn give_up(&self) -> Result<()> {
        let named = self.arguments.servers.iter().zip(&self.servers);
        let troubles: Vec<String> = named.map(|(name, server)| format!("{name}: {}", server.trouble)).collect();
        bail!(
            "no server could be reached for {:?} ({}); is one of them running with --console-listen?",
            self.arguments.patience,
            troubles.join("; ")
        )
    }

    /// Takes news of a server. `true`: the guest is off.
    fn hear(&mut self, index: usize, news: News) -> Result<bool> {
        match news {
            News::Connected(requests) => {
                self.servers[index].requests = Some(requests);
                self.alone_since = None;
            }
            News::Lost(trouble) => self.lost(index, trouble),
            News::Said(FromServer::Standing { live, term, typed }) => self.standing(index, live, term, typed),
            News::Said(FromServer::Output { position, bytes }) if self.live == Some(index) => {
                self.show(position, &bytes)?;
            }
            News::Said(FromServer::Taken { sequence }) if self.live == Some(index) => self.forget(sequence),
            News::Said(FromServer::Ended { off: true, reason }) if self.live == Some(index) => {
                complain(&reason);
                return Ok(true);
            }
            News::Said(FromServer::Ended { reason, .. }) => {
                complain(&format!("{}: {reason}", self.arguments.servers[index]));
            }
            // From a server that was live once.
            News::Said(FromServer::Output { .. } | FromServer::Taken { .. }) => {}
            // Answers to what a console does not ask.
            News::Said(
                FromServer::Pressed { .. }
                | FromServer::Screen { .. }
                | FromServer::Dots { .. }
                | FromServer::Offered { .. }
                | FromServer::Unusable { .. },
            ) => {}
        }
        Ok(false)
    }

    fn lost(&mut self, index: usize, trouble: String) {
        self.servers[index] = Server { requests: None, trouble };
        if self.live == Some(index) {
            self.live = None;
        }
        if self.servers.iter().all(|server| server.requests.is_none()) {
            self.alone_since.get_or_insert_with(Instant::now);
        }
    }

    fn standing(&mut self, index: usize, live: bool, term: u64, typed: Option<u64>) {
        if !live || term < self.term {
            if self.live == Some(index) {
                self.live = None;
            }
            return;
        }
        self.term = term;
        self.live = Some(index);
        self.ask(index, FromClient::From { position: self.position });
        // What this server knows is not typed again, but kept until it survives.
        let known = typed.unwrap_or(self.taken).saturating_sub(self.taken);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(self.untaken.len());
        let rest: Vec<u8> = self.untaken.range(known..).copied().collect();
        self.send_typed(index, self.taken + known as u64, &rest);
    }

    fn show(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        if position > self.position {
            complain(&format!("{} console bytes before this are no longer kept", position - self.position));
            self.position = position;
        }
        let known = usize::try_from(self.position - position).unwrap_or(usize::MAX);
        let fresh = bytes.get(known..).unwrap_or_default();
        let mut output = std::io::stdout().lock();
        output.write_all(fresh).and_then(|()| output.flush()).context("cannot write to standard output")?;
        self.position += fresh.len() as u64;
        Ok(())
    }

    fn typed(&mut self, bytes: Vec<u8>) {
        let sequence = self.taken + self.untaken.len() as u64;
        self.untaken.extend(&bytes);
        if let Some(live) = self.live {
            self.send_typed(live, sequence, &bytes);
        }
    }

    fn send_typed(&self, index: usize, sequence: u64, bytes: &[u8]) {
        let mut sequence = sequence;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.ask(index, FromClient::Type { sequence, bytes: piece.to_vec() });
            sequence += piece.len() as u64;
        }
    }

    fn forget(&mut self, sequence: u64) {
        let survives = usize::try_from(sequence.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        let survives = survives.min(self.untaken.len());
        self.untaken.drain(..survives);
        self.taken += survives as u64;
    }

    fn ask(&self, index: usize, request: FromClient) {
        if let Some(requests) = self.servers.get(index).and_then(|server| server.requests.as_ref()) {
            // If the connection has just ended, that is the next news.
            let _ = requests.send(request);
        }
    }
}

/// Keeps a connection to one server and tells of it.
async fn follow(index: usize, address: String, id: u64, news: mpsc::Sender<(usize, News)>) {
    loop {
        let trouble = match converse(index, &address, id, &news).await {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if news.send((index, News::Lost(trouble))).await.is_err() {
            return;
        }
        sleep(AGAIN).await;
    }
}

async fn converse(index: usize, address: &str, id: u64, news: &mpsc::Sender<(usize, News)>) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(&FromClient::Attach { version: VERSION, client: id }.encode()).await?;
    let (requests, mut asked) = mpsc::unbounded_channel::<FromClient>();
    news.send((index, News::Connected(requests))).await?;
    let reading = async {
        loop {
            let (kind, content) = read(&mut reader).await?;
            let message = FromServer::decode(kind, &content).context("this is no console of ftemu")?;
            news.send((index, News::Said(message))).await?;
        }
    };
    let writing = async {
        while let Some(request) = asked.recv().await {
            writer.write_all(&request.encode()).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
