//! One viewer: it asks for the screen, and is sent what has changed when something has; its keys and its mouse go to
//! the guest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ftemu_devices::Input;
use ftemu_devices::vga::Image;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

use super::picture::Picture;
use super::pointer::Pointer;
use super::wire::{self, Message};
use crate::edge::Edge;
use crate::screen::keys;

/// How long a viewer has to come to terms.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at the screen while it changes, and while it does not.
const BRISK: Duration = Duration::from_millis(40);
const CALM: Duration = Duration::from_millis(100);
/// Looks without a change until the screen counts as calm.
const UNCHANGED: u32 = 10;
/// What viewers show in their title.
const NAME: &str = "ftemu";

/// Serves a viewer until it goes away.
///
/// # Errors
/// When it does, or when it talks nonsense.
pub async fn serve(edge: Arc<Edge>, mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    timeout(GREETING_LIMIT, wire::greet(&mut stream)).await.context("it takes too long")??;
    let image = edge.screen().await.unwrap_or_else(|| Arc::new(Image::dark()));
    let picture = Picture::new(image.width, image.height);
    let (width, height) = picture.size();
    wire::introduce(&mut stream, width, height, NAME).await?;
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (sender, messages) = mpsc::channel(64);
    let reading = async {
        loop {
            sender.send(wire::read(&mut reader).await?).await?;
        }
        #[expect(unreachable_code, reason = "says of what type the block is")]
        anyhow::Ok(())
    };
    let mut session = Session::new(edge, writer, picture);
    let ended = tokio::select! {
        ended = reading => ended,
        ended = session.run(messages) => ended,
    };
    session.release();
    ended
}

struct Session {
    edge: Arc<Edge>,
    writer: OwnedWriteHalf,
    /// Away while it is being worked on.
    picture: Option<Picture>,
    size: (u16, u16),
    pointer: Pointer,
    keys: BTreeSet<u16>,
    /// Capitals lock is on, as far as this viewer knows.
    capitals: bool,
    /// The viewer wants to see something; `true`: everything.
    wanted: Option<bool>,
    look_at: Instant,
    unchanged: u32,
}

impl Session {
    fn new(edge: Arc<Edge>, writer: OwnedWriteHalf, picture: Picture) -> Session {
        let size = picture.size();
        Session {
            edge,
            writer,
            picture: Some(picture),
            size,
            pointer: Pointer::default(),
            keys: BTreeSet::new(),
            capitals: false,
            wanted: None,
            look_at: Instant::now(),
            unchanged: 0,
        }
    }

    async fn run(&mut self, mut messages: mpsc::Receiver<Message>) -> Result<()> {
        loop {
            tokio::select! {
                message = messages.recv() => self.hear(message.context("it is gone")?),
                () = sleep_until(self.look_at), if self.wanted.is_some() => self.look().await?,
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Format(format) => {
                if let Some(picture) = &mut self.picture {
                    picture.format = format;
                }
            }
            Message::Skills(skills) => {
                self.pointer.relative = skills.pointer_type;
                if let Some(picture) = &mut self.picture {
                    picture.skills = skills;
                }
            }
            Message::Update { incremental } => self.want(!incremental),
            Message::Key { down, keysym, place } => self.key(down, keysym, place),
            Message::Pointer { buttons, x, y } => {
                let input = self.pointer.moved((x, y), buttons, self.size);
                self.press(input);
            }
            Message::Nothing => {}
        }
    }

    fn want(&mut self, all: bool) {
        self.wanted = Some(all || self.wanted == Some(true));
    }

    fn key(&mut self, down: bool, keysym: u32, place: Option<u32>) {
        let by_place = place.filter(|place| *place != 0).and_then(keys::by_place);
        let Some(code) = by_place.or_else(|| keys::by_keysym(keysym)) else { return };
        let shifts = if down && by_place.is_none() { self.wrong_shifts(keysym) } else { Vec::new() };
        match down {
            true => self.keys.insert(code),
            false => self.keys.remove(&code),
        };
        self.capitals ^= down && code == keys::CAPITALS;
        let right = shifts.iter().map(|(code, held)| Input::Key { code: *code, pressed: !held });
        let back = shifts.iter().map(|(code, held)| Input::Key { code: *code, pressed: *held });
        let inputs: Vec<Input> = right.chain([Input::Key { code, pressed: down }]).chain(back).collect();
        self.press(inputs);
    }

    /// Shift keys that must be the other way round for the guest's key to write this, and how they are. So a viewer
    /// that does not send shift, or has it elsewhere, still writes what it means.
    fn wrong_shifts(&self, keysym: u32) -> Vec<(u16, bool)> {
        let Some(needed) = keys::needs_shift(keysym) else { return Vec::new() };
        let letter = char::from_u32(keysym).is_some_and(|character| character.is_ascii_alphabetic());
        let held: Vec<(u16, bool)> = keys::SHIFTS.into_iter().map(|code| (code, self.keys.contains(&code))).collect();
        let holds = held.iter().any(|(_, held)| *held);
        match needed {
            // The guest has capitals lock, too.
            _ if letter && self.capitals || holds == needed => Vec::new(),
            true => vec![(keys::SHIFTS[0], false)],
            false => held.into_iter().filter(|(_, held)| *held).collect(),
        }
    }

    /// Nothing stays pressed when the viewer has gone.
    fn release(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        let up = keys.into_iter().rev().map(|code| Input::Key { code, pressed: false });
        let inputs: Vec<Input> = up.chain(self.pointer.release()).collect();
        self.press(inputs);
    }

    fn press(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut pressed = false;
        for input in inputs {
            self.edge.press(input);
            pressed = true;
        }
        if pressed {
            self.unchanged = 0;
            self.look_at = self.look_at.min(Instant::now() + BRISK);
        }
    }

    /// Looks at the screen and sends what the viewer does not have yet.
    async fn look(&mut self) -> Result<()> {
        let Some(image) = self.edge.screen().await else {
            // A guest without a screen, or one that has ended: what was there last stays.
            self.look_at = Instant::now() + CALM;
            return Ok(());
        };
        let all = self.wanted == Some(true);
        let mut picture = self.picture.take().context("the picture is away")?;
        let (picture, update) = spawn_blocking(move || {
            let update = picture.update(&image, all);
            (picture, update)
        })
        .await?;
        self.size = picture.size();
        self.picture = Some(picture);
        match update {
            Some(update) => {
                self.wanted = None;
                self.unchanged = 0;
                self.writer.write_all(&update).await?;
            }
            None => self.unchanged = self.unchanged.saturating_add(1),
        }
        self.look_at = Instant::now() + if self.unchanged < UNCHANGED { BRISK } else { CALM };
        Ok(())
    }
}
