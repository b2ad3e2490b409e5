//! A root shell of Debian's on the serial port.

use crate::processes::Client;

/// A shell that waits for commands.
pub struct Login {
    client: Client,
    commands: u32,
}

impl Login {
    /// Logs in as soon as the guest asks.
    pub fn new(mut client: Client) -> Self {
        // On a busy host the guest may be so slow that it gives a login up, and asks anew.
        while next_of(&mut client, &["Password: ", "debian login: "]) == 1 {
            client.type_in("root\n");
        }
        client.type_in("debian\n");
        client.wait_for("# ");
        client.type_in("PS1= exec sh\n");
        client.type_in("stty -echo; echo 'shell ''ready'\n");
        client.wait_for("shell ready\r\n");
        client.shown.clear();
        Self { client, commands: 0 }
    }

    /// Types a command.
    pub fn begin(&mut self, command: &str) {
        self.commands += 1;
        self.client.type_in(&format!("{command}\necho \"<$? of {}>\"\n", self.commands));
    }

    /// Waits until a command shows this.
    pub fn wait_for(&mut self, text: &str) {
        self.client.wait_for(text);
    }

    /// Waits for the end of the command; gives what it said. It must succeed.
    #[track_caller]
    pub fn end(&mut self) -> String {
        self.client.wait_for(&format!(" of {}>\r\n", self.commands));
        let said = String::from_utf8_lossy(&std::mem::take(&mut self.client.shown)).into_owned();
        assert!(said.contains(&format!("<0 of {}>", self.commands)), "the guest says: {said}");
        said
    }

    /// A command from its beginning to its end.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> String {
        self.begin(command);
        self.end()
    }

    /// Shuts the guest down; waits until it is off.
    pub fn power_off(mut self) {
        self.client.type_in("poweroff\n");
        let said = self.client.finish();
        assert!(said.contains("Power down"), "the guest says: {said}");
    }
}

/// Waits for the first of these, which all end in a colon and a space; forgets all up to there.
fn next_of(client: &mut Client, texts: &[&str]) -> usize {
    const END: &str = ": ";
    loop {
        client.wait_for(END);
        let shown = String::from_utf8_lossy(&client.shown).into_owned();
        let (line, rest) = shown.split_once(END).expect("it was waited for");
        let found = texts.iter().position(|text| format!("{line}{END}").ends_with(text));
        client.shown = rest.as_bytes().to_vec();
        if let Some(found) = found {
            return found;
        }
    }
}
