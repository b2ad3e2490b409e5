//! Writes a guest of the catalogue as files `kernel`, `initrd` and `command-line` into a folder, for use by hand:
//! `cargo run -p ftemu-images --example guest -- debian FOLDER [lines|bench|shell]`, or `lines`, `echo`, `torture`,
//! `disk` of ours.

use std::path::Path;

use ftemu_images::{Catalogue, debian, tiny};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, rest @ ..] = words.as_slice() else {
        return Err("usage: guest NAME FOLDER [MODE]".into());
    };
    let guest = match name.as_str() {
        "debian" => {
            let mode = match rest.first().map(String::as_str) {
                None | Some("lines") => debian::Mode::Lines { lines: 200, seed: 1, pause_us: 2000 },
                Some("bench") => debian::Mode::Bench,
                Some(_) => debian::Mode::Shell,
            };
            Catalogue::user()?.debian(mode, &mut |progress| eprintln!("{progress:?}"))?
        }
        "lines" => tiny::lines(200, 1, 2),
        "echo" => tiny::echo(),
        "torture" => tiny::torture(50, 1),
        "disk" => tiny::disk(100, 2),
        other => return Err(format!("no guest {other}").into()),
    };
    std::fs::create_dir_all(folder)?;
    guest.write_to(Path::new(folder))?;
    std::fs::write(Path::new(folder).join("command-line"), &guest.command_line)?;
    println!("{}: {}", guest.name, guest.command_line);
    Ok(())
}
