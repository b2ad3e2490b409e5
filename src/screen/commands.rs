//! `ftemu screenshot`, `ftemu sendkey` and `ftemu press`: one look at a guest, or one push of its buttons.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ftemu_devices::vga::Image;

use super::arguments::{Button, PressArguments, ScreenshotArguments, SendkeyArguments};
use super::keys::{Chord, Typing};
use super::talk::Talk;
use crate::console::protocol::Press;

/// Between chords, so that guests which look only now and then see each.
const BETWEEN_CHORDS: Duration = Duration::from_millis(30);

/// Writes a picture of the guest's screen.
///
/// # Errors
/// When no server that runs the guest can be reached, it has no screen, or the file cannot be written.
pub fn screenshot(arguments: &ScreenshotArguments) -> Result<ExitCode> {
    run(async {
        let mut talk = Talk::with_live(&arguments.at).await?;
        let image = talk.look().await?;
        write(&image, &arguments.file)
    })
}

/// Presses keys, chord after chord.
///
/// # Errors
/// When no server that runs the guest can be reached.
pub fn sendkey(arguments: &SendkeyArguments) -> Result<ExitCode> {
    run(async {
        let mut talk = Talk::with_live(&arguments.at).await?;
        let typed = arguments.text.iter().flat_map(|Typing(chords)| chords);
        for Chord(keys) in arguments.chords.iter().chain(typed) {
            let down = keys.iter().map(|code| Press::Key { code: *code, pressed: true });
            let up = keys.iter().rev().map(|code| Press::Key { code: *code, pressed: false });
            talk.press(down.chain(up)).await?;
            tokio::time::sleep(BETWEEN_CHORDS).await;
        }
        Ok(())
    })
}

/// Presses a button of the machine.
///
/// # Errors
/// When no server that runs the guest can be reached.
pub fn press(arguments: &PressArguments) -> Result<ExitCode> {
    let press = match arguments.button {
        Button::Power => Press::Power,
        Button::Reset => Press::Reset,
    };
    run(async { Talk::with_live(&arguments.at).await?.press([press]).await })
}

pub(super) fn run(command: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the network's runtime")?.block_on(command)?;
    Ok(ExitCode::SUCCESS)
}

fn write(image: &Image, path: &Path) -> Result<()> {
    if path == Path::new("-") {
        return encode(image, std::io::stdout().lock()).context("cannot write the picture to standard output");
    }
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    encode(image, BufWriter::new(file)).with_context(|| format!("cannot write {}", path.display()))
}

fn encode(image: &Image, mut target: impl Write) -> Result<()> {
    let mut encoder = png::Encoder::new(&mut target, image.width, image.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.rgb)?;
    writer.finish()?;
    Ok(target.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_png_files() {
        let image = Image { width: 2, height: 1, rgb: vec![255, 0, 0, 0, 0, 255] };
        let mut bytes = Vec::new();
        encode(&image, &mut bytes).expect("a picture");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().expect("a picture");
        let mut rgb = vec![0; 6];
        let info = reader.next_frame(&mut rgb).expect("a picture");
        assert_eq!((info.width, info.height, rgb), (2, 1, image.rgb));
    }
}
