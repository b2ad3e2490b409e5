//! What viewers say (RFC 6143 §7.1-§7.5), byte for byte, and nothing longer than it needs to be.

use std::io;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::format::{self, NATURAL, PixelFormat};

/// Encodings and pseudo-encodings (RFC 6143 §7.7, §7.8; the last three are QEMU's).
pub mod encoding {
    /// Pixels as they are.
    pub const RAW: i32 = 0;
    /// Tiles with palettes, compressed.
    pub const ZRLE: i32 = 16;
    /// The screen has another size.
    pub const DESKTOP_SIZE: i32 = -223;
    /// The viewer sends movement instead of positions.
    pub const POINTER_TYPE: i32 = -257;
    /// Key events have the key's place.
    pub const EXTENDED_KEY: i32 = -258;
}

const VERSION: &[u8; 12] = b"RFB 003.008\n";
const SECURITY_NONE: u8 = 1;
/// The longest text a viewer may want to paste; the guest has nowhere to paste it to.
const LONGEST_TEXT: u32 = 1 << 20;
/// The longest list of encodings that is looked at.
const MOST_ENCODINGS: usize = 256;

/// What a viewer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skills {
    /// ZRLE.
    pub zrle: bool,
    /// DesktopSize.
    pub desktop_size: bool,
    /// Pointer type changes.
    pub pointer_type: bool,
    /// Extended key events.
    pub extended_key: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// How it wants its pixels.
    Format(PixelFormat),
    /// What it knows.
    Skills(Skills),
    /// It wants to see what has changed, or all.
    Update {
        /// Only what has changed.
        incremental: bool,
    },
    /// A key, by its keysym.
    Key {
        /// It goes down.
        down: bool,
        /// X keysym.
        keysym: u32,
        /// Where the key is, if the viewer says so.
        place: Option<u32>,
    },
    /// The mouse.
    Pointer {
        /// Left, middle, right, wheel up, wheel down, from bit 0.
        buttons: u8,
        /// From the left.
        x: u16,
        /// From the top.
        y: u16,
    },
    /// Something that does not matter here.
    Nothing,
}

/// Comes to terms with a viewer, up to its being ready for the screen's size.
///
/// # Errors
/// When it goes away or is no viewer.
pub async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    stream.write_all(VERSION).await?;
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    ensure!(version.starts_with(b"RFB 003.") && version[11] == b'\n', "no viewer");
    match &version[8..11] {
        b"008" | b"007" => {
            stream.write_all(&[1, SECURITY_NONE]).await?;
            ensure!(stream.read_u8().await? == SECURITY_NONE, "it wants security that was not offered");
            if &version[8..11] == b"008" {
                stream.write_u32(0).await?;
            }
        }
        // Versions that were never published count as 3.3.
        _ => stream.write_u32(u32::from(SECURITY_NONE)).await?,
    }
    // Whether it would share the screen with others: it does.
    stream.read_u8().await?;
    Ok(())
}

/// Tells a viewer the screen's size, the natural pixel format, and a name.
///
/// # Errors
/// When it goes away.
pub async fn introduce(stream: &mut (impl AsyncWrite + Unpin), width: u16, height: u16, name: &str) -> io::Result<()> {
    let length = u32::try_from(name.len()).unwrap_or(0);
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let message = [&size[..], &NATURAL.encode(), &length.to_be_bytes(), name.as_bytes()].concat();
    stream.write_all(&message).await
}

/// Reads one message.
///
/// # Errors
/// When the viewer goes away or talks nonsense.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Message> {
    match stream.read_u8().await? {
        0 => {
            skip(stream, 3).await?;
            let mut bytes = [0; format::LENGTH];
            stream.read_exact(&mut bytes).await?;
            let format = PixelFormat::decode(&bytes).context("a pixel format that cannot be served")?;
            Ok(Message::Format(format))
        }
        2 => read_skills(stream).await.map(Message::Skills),
        3 => {
            let incremental = stream.read_u8().await? != 0;
            skip(stream, 8).await?;
            Ok(Message::Update { incremental })
        }
        4 => {
            let down = stream.read_u8().await? != 0;
            skip(stream, 2).await?;
            Ok(Message::Key { down, keysym: stream.read_u32().await?, place: None })
        }
        5 => {
            let buttons = stream.read_u8().await?;
            Ok(Message::Pointer { buttons, x: stream.read_u16().await?, y: stream.read_u16().await? })
        }
        6 => {
            skip(stream, 3).await?;
            let length = stream.read_u32().await?;
            ensure!(length <= LONGEST_TEXT, "a text of {length} bytes");
            skip(stream, length).await?;
            Ok(Message::Nothing)
        }
        255 => {
            ensure!(stream.read_u8().await? == 0, "a message of QEMU's that was not offered");
            let down = stream.read_u16().await? != 0;
            let keysym = stream.read_u32().await?;
            Ok(Message::Key { down, keysym, place: Some(stream.read_u32().await?) })
        }
        kind => bail!("a message of kind {kind}"),
    }
}

async fn read_skills(stream: &mut (impl AsyncRead + Unpin)) -> Result<Skills> {
    skip(stream, 1).await?;
    let mut skills = Skills::default();
    for index in 0..stream.read_u16().await?.into() {
        let number = stream.read_i32().await?;
        match number {
            _ if index >= MOST_ENCODINGS => {}
            encoding::ZRLE => skills.zrle = true,
            encoding::DESKTOP_SIZE => skills.desktop_size = true,
            encoding::POINTER_TYPE => skills.pointer_type = true,
            encoding::EXTENDED_KEY => skills.extended_key = true,
            _ => {}
        }
    }
    Ok(skills)
}

async fn skip(stream: &mut (impl AsyncRead + Unpin), length: u32) -> Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(u64::from(length)), &mut tokio::io::sink()).await?;
    ensure!(skipped == u64::from(length), "it went away");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> (Vec<Message>, bool) {
        let (mut stream, mut messages) = (bytes, Vec::new());
        while !stream.is_empty() {
            match read(&mut stream).await {
                Ok(message) => messages.push(message),
                Err(_) => return (messages, false),
            }
        }
        (messages, true)
    }

    #[tokio::test]
    async fn messages_are_read() {
        let bytes = [
            &[2, 0, 0, 3][..],
            &[0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21, 0x12, 0x34, 0x56, 0x78],
            &[3, 1, 0, 0, 0, 0, 0, 9, 0, 9],
            &[4, 1, 0, 0, 0, 0, 0, 0x61],
            &[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e],
            &[5, 4, 1, 2, 3, 4],
            &[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'],
            &[0, 0, 0, 0],
            &NATURAL.encode(),
        ];
        let expected = [
            Message::Skills(Skills { zrle: true, desktop_size: true, ..Skills::default() }),
            Message::Update { incremental: true },
            Message::Key { down: true, keysym: 0x61, place: None },
            Message::Key { down: true, keysym: 0x61, place: Some(0x1e) },
            Message::Pointer { buttons: 4, x: 0x102, y: 0x304 },
            Message::Nothing,
            Message::Format(NATURAL),
        ];
        assert_eq!(read_all(&bytes.concat()).await, (expected.to_vec(), true));
    }

    #[tokio::test]
    async fn hostile_viewers_get_nowhere() {
        for bytes in [
            &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
            &[6, 0, 0, 0, 0, 0, 0, 9, 1],
            &[0; 20],
            &[1],
            &[99],
            &[255, 1],
            &[2, 0, 0xff, 0xff, 1, 2],
        ] {
            assert_eq!(read_all(bytes).await, (vec![], false), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn old_and_new_viewers_are_greeted() {
        for (version, answer, expected) in [
            (b"RFB 003.003\n", &[][..], &[0, 0, 0, 1][..]),
            (b"RFB 003.007\n", &[1], &[1, 1]),
            (b"RFB 003.008\n", &[1], &[1, 1, 0, 0, 0, 0]),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(256);
            theirs.write_all(&[&version[..], answer, &[1]].concat()).await.expect("room");
            greet(&mut ours).await.expect("a viewer");
            drop(ours);
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).await.expect("an end");
            assert_eq!(said, [&VERSION[..], expected].concat());
        }
        for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"RFB 004.000\n", b"RFB 003.008\n\x02", b"RFB"] {
            let (mut ours, mut theirs) = tokio::io::duplex(256);
            theirs.write_all(nonsense).await.expect("room");
            theirs.shutdown().await.expect("an end");
            assert!(greet(&mut ours).await.is_err());
        }
    }
}
