//! A guest of the gallery that runs: looked at whenever the program tells how far it is.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::guests::{Entry, Works, packaged};
use crate::processes::{Client, Folder, Outcome, Side, run, side_arguments};
use crate::screen::{Letters, Picture};

/// A recorded guest with its console.
pub struct Running {
    pub folder: Folder,
    pub side: Side,
    pub console: String,
    /// Waits for a word on the serial port, where that is wanted.
    serial: Option<JoinHandle<()>>,
    letters: Letters,
}

impl Running {
    pub fn start(entry: &Entry) -> Self {
        let mut running = Self::with(&entry.arguments());
        if let Works::Serial(word) = entry.works {
            running.expect_serial(word);
        }
        running
    }

    /// Starts a guest with these arguments.
    pub fn with(arguments: &[String]) -> Self {
        let folder = Folder::new();
        let record = folder.path("guest.ftlog").display().to_string();
        let own = ["run", "--no-stdio", "--status-interval", "500ms", "--record", &record].map(str::to_owned);
        let mut side =
            Side::start(own.into_iter().chain(side_arguments(&folder, "a")).chain(arguments.iter().cloned()));
        let console = side.address("console");
        let video_bios = std::fs::read(&packaged("seabios")[1]).expect("a VGA BIOS");
        Self { folder, side, console, serial: None, letters: Letters::of(&video_bios) }
    }

    /// From now on, waits for this on the serial port.
    pub fn expect_serial(&mut self, word: &'static str) {
        let console = self.console.clone();
        self.serial = Some(std::thread::spawn(move || Client::start(&[&console]).wait_for(word)));
    }

    /// What is on the screen now.
    pub fn look(&self) -> Picture {
        let path = self.folder.path("screen.png");
        let outcome = run(["screenshot", &self.console, &path.display().to_string()]);
        assert!(outcome.status.success(), "{}", outcome.complaints);
        Picture::read(&path)
    }

    /// Looks at it every now and then until it works.
    pub fn wait_until_it_works(&mut self, entry: &Entry) {
        let mut before = None;
        loop {
            let status = self.side.wait_for("status");
            let count = status["count"].as_u64().expect("a count") / 1_000_000;
            let (works, shown) = match entry.works {
                Works::Serial(_) => (self.serial.as_ref().is_some_and(JoinHandle::is_finished), String::new()),
                Works::Screen(words) => {
                    let text = self.look().text(&self.letters);
                    (words.iter().all(|word| text.contains(word)), text)
                }
                Works::Picture(width, height, colors) => {
                    let now = self.look();
                    let right = (now.width, now.height) == (width as usize, height as usize) && now.colors() >= colors;
                    let shown = format!("{} x {} in {} colors", now.width, now.height, now.colors());
                    let still = before.as_ref() == Some(&now);
                    before = Some(now);
                    (right && still, shown)
                }
            };
            if works {
                eprintln!("{}: works after {count} million instructions, {status}", entry.name);
                break;
            }
            assert!(count < entry.limit, "{} shows after {count} million instructions:\n{shown}", entry.name);
        }
        if let Some(serial) = self.serial.take() {
            serial.join().expect("the console said what it was to say");
        }
    }

    /// Waits until what was expected on the serial port has come.
    pub fn serial(&mut self) {
        self.serial.take().expect("something expected").join().expect("the console said what it was to say");
    }

    pub fn keep_picture(&self, folder: &Path, name: &str) {
        self.look();
        std::fs::create_dir_all(folder).expect("a folder for pictures");
        std::fs::copy(self.folder.path("screen.png"), folder.join(format!("{name}.png"))).expect("room for a picture");
    }

    /// Presses a button or sends keys.
    pub fn command(&self, name: &str, what: &str) {
        let outcome = run([name, &self.console, what]);
        assert!(outcome.status.success(), "{}", outcome.complaints);
    }

    /// Stops it by a signal: its folder, and its record there.
    pub fn stop(self) -> (Folder, PathBuf) {
        self.side.signal("-TERM");
        let record = self.folder.path("guest.ftlog");
        let outcome = self.side.finish();
        assert!(outcome.status.success(), "{}", outcome.complaints);
        (self.folder, record)
    }

    /// Waits for its own end: its folder, its record there, and what it said.
    pub fn finish(self) -> (Folder, PathBuf, Outcome) {
        let record = self.folder.path("guest.ftlog");
        (self.folder, record, self.side.finish())
    }
}
