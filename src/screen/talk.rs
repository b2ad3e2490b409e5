//! Talking to the server that runs the guest, in the console's protocol (`docs/CONSOLE.md`).

use anyhow::{Context, Result, bail, ensure};
use ftemu_devices::storage::Disc;
use ftemu_devices::vga::Image;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep, timeout};

use super::arguments::ServerArguments;
use crate::console::protocol::{Encode, FromClient, FromServer, Press, VERSION, read};
use crate::host;

/// Between attempts to find the server that runs the guest.
const AGAIN: Duration = Duration::from_millis(100);
/// How long a server may take to say how it stands.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// How long a server may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The largest picture, in dots: more than any screen has.
const DOTS: u64 = 1 << 24;

/// A conversation with the server that runs the guest.
pub struct Talk {
    stream: TcpStream,
}

impl Talk {
    /// Finds that server.
    ///
    /// # Errors
    /// When none says for long that it runs the guest.
    pub async fn with_live(at: &ServerArguments) -> Result<Talk> {
        let mut troubles = Vec::new();
        let search = async {
            loop {
                troubles.clear();
                for address in &at.servers.0 {
                    match Talk::with(address).await {
                        Ok(Some(talk)) => return talk,
                        Ok(None) => troubles.push(format!("{address}: it does not run the guest")),
                        Err(error) => troubles.push(format!("{address}: {error:#}")),
                    }
                }
                sleep(AGAIN).await;
            }
        };
        let found = timeout(at.patience, search).await;
        found.map_err(|_| {
            anyhow::anyhow!(
                "no server that runs the guest could be reached for {:?} ({}); is one of them running with \
                 --console-listen?",
                at.patience,
                troubles.join("; ")
            )
        })
    }

    /// `None`: that server does not run the guest.
    async fn with(address: &str) -> Result<Option<Talk>> {
        let (talk, live) = timeout(GREETING_LIMIT, Talk::to(address)).await.context("it says nothing")??;
        Ok(live.then_some(talk))
    }

    /// With a server, whether it runs the guest (then: true) or not.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn to(address: &str) -> Result<(Talk, bool)> {
        let mut talk = Talk { stream: TcpStream::connect(address).await? };
        talk.stream.set_nodelay(true)?;
        talk.say(&FromClient::Attach { version: VERSION, client: host::random()? }).await?;
        loop {
            match talk.hear().await? {
                FromServer::Standing { live, .. } => return Ok((talk, live)),
                FromServer::Ended { reason, .. } => bail!("{reason}"),
                _ => {}
            }
        }
    }

    async fn say(&mut self, message: &FromClient) -> Result<()> {
        Ok(self.stream.write_all(&message.encode()).await?)
    }

    async fn hear(&mut self) -> Result<FromServer> {
        let (kind, content) = read(&mut self.stream).await.context("the server has closed the connection")?;
        FromServer::decode(kind, &content).context("this is no server of ftemu")
    }

    /// The next message that is no news of the console.
    async fn answer(&mut self) -> Result<FromServer> {
        let answer = timeout(ANSWER_LIMIT, async {
            loop {
                match self.hear().await? {
                    FromServer::Ended { reason, .. } | FromServer::Unusable { reason } => bail!("{reason}"),
                    FromServer::Standing { .. } | FromServer::Output { .. } | FromServer::Taken { .. } => {}
                    answer => return Ok(answer),
                }
            }
        });
        answer.await.context("the server does not answer")?
    }

    /// The guest's screen.
    ///
    /// # Errors
    /// When it has none, or the server is gone.
    pub async fn look(&mut self) -> Result<Image> {
        self.say(&FromClient::Look).await?;
        let FromServer::Screen { width, height } = self.answer().await? else { bail!("this is no server of ftemu") };
        ensure!(width != 0 && height != 0, "this guest has no screen; it was started without a VGA");
        let dots = u64::from(width) * u64::from(height);
        ensure!(dots <= DOTS, "the server says that the screen has {width} x {height} dots");
        let length = 3 * usize::try_from(dots)?;
        let mut rgb = Vec::with_capacity(length);
        while rgb.len() < length {
            let FromServer::Dots { bytes } = self.answer().await? else { bail!("this is no server of ftemu") };
            ensure!(!bytes.is_empty() && rgb.len() + bytes.len() <= length, "the server sends too much of the screen");
            rgb.extend(bytes);
        }
        Ok(Image { width, height, rgb })
    }

    /// Makes a file of the server's host available as a CD: what is on it, and whether both servers have the guest.
    ///
    /// # Errors
    /// When it cannot be used, or the guest has no drive for it.
    pub async fn offer(&mut self, cdrom: u8, path: &str) -> Result<(Disc, bool)> {
        self.say(&FromClient::Offer { cdrom, path: path.to_owned() }).await?;
        loop {
            // Reading a whole DVD takes its time.
            match self.hear().await? {
                FromServer::Offered { disc, protected } => return Ok((disc, protected)),
                FromServer::Ended { reason, .. } | FromServer::Unusable { reason } => bail!("{reason}"),
                _ => {}
            }
        }
    }

    /// Presses keys and buttons, in this order.
    ///
    /// # Errors
    /// When that server no longer runs the guest.
    pub async fn press(&mut self, presses: impl IntoIterator<Item = Press>) -> Result<()> {
        for press in presses {
            self.say(&FromClient::Press(press)).await?;
            let FromServer::Pressed { taken } = self.answer().await? else { bail!("this is no server of ftemu") };
            ensure!(taken, "this server does not run the guest any more; ask the other one");
        }
        Ok(())
    }
}
