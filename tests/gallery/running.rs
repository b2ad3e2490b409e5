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
    /// Who reads the serial port, where a word there shows that the guest works.
    reader: Option<Client>,
    /// How far it had come when it was to show anew that it works, in seconds of its time.
    since: u64,
    letters: Letters,
}

impl Running {
    pub fn start(entry: &Entry) -> Self {
        let mut running = Self::with(Folder::new(), &entry.arguments());
        if let Works::Serial(_) = entry.works {
            running.reader = Some(Client::start(&[&running.console]));
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
        Self { folder, side, console, reader: None, since: 0, letters: Letters::of(&video_bios) }
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
        let serial = self.reader.take().map(|reader| wait_for(entry, reader));
        loop {
            let status = self.side.wait_for("status");
            let second = status["guest_ns"].as_u64().expect("the guest's time") / 1_000_000_000;
            let (works, shown) = match entry.works {
                Works::Serial(_) => (serial.as_ref().is_some_and(JoinHandle::is_finished), String::new()),
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
                eprintln!("{}: works after {} s of its time", entry.name, second - self.since);
                self.since = second;
                break;
            }
            let most = self.since + entry.limit;
            assert!(second < most, "{} shows after {second} s of its time:\n{shown}", entry.name);
        }
        if let Some(serial) = serial {
            let mut reader = serial.join().expect("the console said what it was to say");
            reader.shown.clear();
            self.reader = Some(reader);
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

/// Waits in the background for what a guest says on the serial port when it works.
fn wait_for(entry: &Entry, mut reader: Client) -> JoinHandle<Client> {
    let Works::Serial(word) = entry.works else { panic!("{} shows it on the screen", entry.name) };
    std::thread::spawn(move || {
        reader.wait_for(word);
        reader
    })
}
