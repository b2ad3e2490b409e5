//! The console's server, on each side of a pair: clients may attach to either, and are served by the live one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ftemu_devices::storage::Disc;
use ftemu_lockstep::{Finish, Input};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{Encode, FromClient, FromServer, LIMIT, Press, VERSION, read};
use crate::edge::{Edge, Standing};

/// Clients at a time, at most.
const CLIENTS: usize = 64;
/// How long a new client has to say who it is.
const ATTACH_LIMIT: Duration = Duration::from_secs(5);
/// Console bytes in one message.
const PIECE_BYTES: usize = LIMIT / 2;

/// The clients of one life of a side.
pub struct Clients {
    tasks: JoinSet<()>,
}

impl Clients {
    /// None yet.
    pub fn new() -> Self {
        Self { tasks: JoinSet::new() }
    }

    /// Serves whoever comes; never returns.
    pub async fn accept(&mut self, listener: &TcpListener, edge: &Arc<Edge>) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors or the like: let others end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            while self.tasks.try_join_next().is_some() {}
            if self.tasks.len() < CLIENTS {
                let edge = Arc::clone(edge);
                self.tasks.spawn(async move {
                    // A client that goes away, or talks nonsense, concerns nobody else.
                    let _ = serve(&edge, stream).await;
                });
            }
        }
    }

    /// Lets the clients have the last words.
    pub async fn finish(mut self, limit: Duration) {
        let _ = timeout(limit, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

async fn serve(edge: &Arc<Edge>, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let (kind, content) = timeout(ATTACH_LIMIT, read(&mut reader)).await??;
    let Some(FromClient::Attach { version, client }) = FromClient::decode(kind, &content) else {
        bail!("not a console client");
    };
    let mut session = Session { edge, writer, client, position: None, told: Told::default() };
    if version != VERSION {
        let reason = format!("this server speaks version {VERSION} of the console's protocol, the client {version}");
        return session.send(&FromServer::Ended { off: false, reason }).await;
    }
    let (requests, asked) = mpsc::channel(4);
    let reading = async {
        loop {
            let (kind, content) = read(&mut reader).await?;
            let message = FromClient::decode(kind, &content).context("not a message of a console client")?;
            requests.send(message).await?;
        }
        #[expect(unreachable_code, reason = "says of what type the block is")]
        anyhow::Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = session.run(asked) => ended,
    }
}

/// What a client presses, as the guest gets it.
fn input(edge: &Edge, press: Press) -> Result<Input> {
    Ok(match press {
        Press::Key { code, pressed } => Input::Key { code, pressed },
        Press::Power => Input::PowerButton,
        Press::Reset => Input::Reset,
        Press::Eject(cdrom) => Input::Eject { drive: edge.discs().drive(cdrom)? },
        Press::Insert(cdrom, disc) => {
            edge.discs().open(&disc)?;
            Input::Insert { drive: edge.discs().drive(cdrom)?, disc }
        }
    })
}

/// Makes a file available as a CD; that takes as long as reading it.
async fn offer(edge: &Arc<Edge>, cdrom: u8, path: String) -> Result<Disc> {
    edge.discs().drive(cdrom)?;
    let discs = edge.discs().clone();
    tokio::task::spawn_blocking(move || discs.offer(Path::new(&path))).await?
}

struct Session<'a> {
    edge: &'a Arc<Edge>,
    writer: OwnedWriteHalf,
    client: u64,
    /// What the client wants next, once it has said so.
    position: Option<u64>,
    told: Told,
}

/// What the client knows.
#[derive(Default)]
struct Told {
    standing: Option<Standing>,
    taken: Option<u64>,
}

impl Session<'_> {
    async fn run(&mut self, mut asked: mpsc::Receiver<FromClient>) -> Result<()> {
        let mut news = self.edge.news();
        loop {
            // Whatever changes from here on is news again.
            news.mark_unchanged();
            let finish = self.edge.finish();
            self.tell().await?;
            if let Some(finish) = finish {
                return self.end(&finish, asked).await;
            }
            tokio::select! {
                changed = news.changed() => changed?,
                message = asked.recv() => self.hear(message.context("the client is gone")?).await?,
            }
        }
    }

    async fn hear(&mut self, message: FromClient) -> Result<()> {
        match message {
            FromClient::Attach { .. } => bail!("attached twice"),
            FromClient::From { position } => self.position = Some(position),
            FromClient::Type { sequence, bytes } => {
                // It attaches again and learns what is missing.
                anyhow::ensure!(self.edge.typed(self.client, sequence, &bytes), "typing is missing");
            }
            FromClient::Press(press) => {
                let answer = match input(self.edge, press) {
                    Ok(input) => FromServer::Pressed { taken: self.edge.press(input) },
                    Err(error) => FromServer::Unusable { reason: format!("{error:#}") },
                };
                self.send(&answer).await?;
            }
            FromClient::Offer { cdrom, path } => {
                let answer = match offer(self.edge, cdrom, path).await {
                    Ok(disc) => FromServer::Offered { disc, protected: self.edge.is_protected() },
                    Err(error) => FromServer::Unusable { reason: format!("{error:#}") },
                };
                self.send(&answer).await?;
            }
            FromClient::Look => self.show_screen().await?,
        }
        Ok(())
    }

    async fn show_screen(&mut self) -> Result<()> {
        let Some(image) = self.edge.screen().await else {
            return self.send(&FromServer::Screen { width: 0, height: 0 }).await;
        };
        self.send(&FromServer::Screen { width: image.width, height: image.height }).await?;
        for bytes in image.rgb.chunks(PIECE_BYTES) {
            self.send(&FromServer::Dots { bytes: bytes.to_vec() }).await?;
        }
        Ok(())
    }

    /// Tells the client what it does not know yet.
    async fn tell(&mut self) -> Result<()> {
        let (standing, typed, taken) = self.edge.standing(self.client);
        if self.told.standing != Some(standing) {
            self.told.standing = Some(standing);
            // It asks for what it wants to see when it hears that this side is live.
            self.position = None;
            let Standing { live, term } = standing;
            self.send(&FromServer::Standing { live, term, typed }).await?;
        }
        if standing.live && self.told.taken != taken {
            self.told.taken = taken;
            self.send(&FromServer::Taken { sequence: taken.unwrap_or(0) }).await?;
        }
        self.show().await
    }

    /// Sends the console bytes that were released since.
    async fn show(&mut self) -> Result<()> {
        let Some(from) = self.position else { return Ok(()) };
        let piece = self.edge.console(from);
        let mut position = piece.position;
        for bytes in piece.bytes.chunks(PIECE_BYTES) {
            self.send(&FromServer::Output { position, bytes: bytes.to_vec() }).await?;
            position += bytes.len() as u64;
        }
        self.position = Some(position);
        Ok(())
    }

    /// The last words: all that was released, and why there is no more.
    async fn end(&mut self, finish: &Finish, mut asked: mpsc::Receiver<FromClient>) -> Result<()> {
        // It may have only just heard that this side is the one to ask.
        let asks = *finish == Finish::PoweredOff && self.told.standing.is_some_and(|standing| standing.live);
        while asks && self.position.is_none() {
            self.hear(asked.recv().await.context("the client is gone")?).await?;
        }
        self.show().await?;
        let (off, reason) = match finish {
            Finish::PoweredOff => (true, "the guest switched itself off".to_owned()),
            Finish::Stopped => (false, "this server was stopped".to_owned()),
            Finish::Fenced { .. } => (false, "the other server runs the guest".to_owned()),
            other => (false, format!("this server cannot go on: {other:?}")),
        };
        self.send(&FromServer::Ended { off, reason }).await?;
        Ok(self.writer.shutdown().await?)
    }

    async fn send(&mut self, message: &FromServer) -> Result<()> {
        Ok(self.writer.write_all(&message.encode()).await?)
    }
}
