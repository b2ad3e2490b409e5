//! A guest of the gallery that runs: looked at whenever the program tells how far it is.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::guests::{Entry, Works, packaged};
use crate::processes::{Client, Folder, Side, run, side_arguments};
use crate::screen::{Letters, Picture};

/// A recorded guest with its console.
pub struct Running {
    pub folder: Folder,
    pub side: Side,
    pub console: String,
    /// Waits for a word on the serial port, where that is wanted.
    serial: Option<JoinHandle<Client>>,
    /// How far it had come when it was to show anew that it works, in seconds of its time.
    since: u64,
    letters: Letters,
}

impl Running {
    pub fn start(entry: &Entry) -> Self {
        let mut running = Self::with(Folder::new(), &entry.arguments());
        if let Works::Serial(word) = entry.works {
            let console = running.console.clone();
            running.serial = Some(wait_for(word, move || Client::start(&[&console])));
        }
        running
    }

    /// Starts a guest with these arguments, in a folder.
    pub fn with(folder: Folder, arguments: &[String]) -> Self {
        let record = folder.path("guest.ftlog").display().to_string();
        let own = ["run", "--no-stdio", "--status-interval", "500ms", "--record", &record].map(str::to_owned);
        let mut side =
            Side::start(own.into_iter().chain(side_arguments(&folder, "a")).chain(arguments.iter().cloned()));
        let console = side.address("console");
        let video_bios = std::fs::read(&packaged("seabios")[1]).expect("a VGA BIOS");
        Self { folder, side, console, serial: None, since: 0, letters: Letters::of(&video_bios) }
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
            let second = status["guest_ns"].as_u64().expect("the guest's time") / 1_000_000_000;
            let (works, shown) = match entry.works {
                Works::Serial(_) => (self.serial.as_ref().is_some_and(JoinHandle::is_finished), String::new()),
                Works::Screen(words) => {
                    let text = self.look().text(&self.letters);
                    (words.iter().all(|word| text.contains(word)), text)
                }
                Works::Window(color) => {
                    let now = self.look();
                    let share = now.percent_of(color);
                    let still = before.as_ref() == Some(&now);
                    before = Some(now);
                    (share > 50 && still, format!("{share} % of the picture in that color"))
                }
            };
            if works {
                self.since = second;
                break;
            }
            let most = self.since + entry.limit;
            assert!(second < most, "{} shows after {second} s of its time:\n{shown}", entry.name);
        }
        if let (Some(serial), Works::Serial(word)) = (self.serial.take(), &entry.works) {
            let mut client = serial.join().expect("the console said what it was to say");
            client.shown.clear();
            self.serial = Some(wait_for(word, move || client));
        }
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
        self.finish()
    }

    /// Waits for its own end: its folder, and its record there.
    pub fn finish(self) -> (Folder, PathBuf) {
        let record = self.folder.path("guest.ftlog");
        let outcome = self.side.finish();
        assert!(outcome.status.success(), "{}", outcome.complaints);
        (self.folder, record)
    }
}

/// Waits for a word on a console, in the background.
fn wait_for(word: &'static str, client: impl FnOnce() -> Client + Send + 'static) -> JoinHandle<Client> {
    std::thread::spawn(move || {
        let mut client = client();
        client.wait_for(word);
        client
    })
}
