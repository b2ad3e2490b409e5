//! What clients have typed: so that after a failover nothing typed is lost and nothing is typed twice.
//!
//! The log is what both sides agree on, so the ledger is written there: in front of every typed input stands a *note*,
//! serial input for a port that no machine has, with the client and its sequence number after these bytes. Note and
//! bytes are two inputs that follow each other. Either side reads the notes off the inputs it hands to its guest, so
//! the survivor knows exactly what of a client's typing has reached the guest, and asks the client for the rest.

use std::collections::{BTreeMap, VecDeque};

use ftemu_lockstep::Input;

/// The port of notes. Machines ignore bytes for ports they do not have.
const NOTE_PORT: u8 = 0xff;
/// The port of the console: COM1.
pub const CONSOLE_PORT: u8 = 0;
/// Clients remembered; beyond that the one that has not typed for longest is forgotten.
const CLIENTS: usize = 64;

/// The typing of all clients.
#[derive(Debug, Default)]
pub struct Ledger {
    clients: BTreeMap<u64, Client>,
    /// The note before the bytes that come next.
    noted: Option<(u64, u64)>,
    /// Typing that has reached the guest and is not known to survive yet: records needed, client, sequence.
    pending: VecDeque<(u64, u64, u64)>,
    age: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Client {
    /// Given to the node, which hands it on.
    queued: u64,
    /// Has reached the guest.
    applied: u64,
    /// Survives this side.
    taken: u64,
    used: u64,
}

impl Ledger {
    /// Takes what a client typed and gives the inputs for it; nothing that was taken before. `None`: bytes are missing
    /// before these.
    pub fn typed(&mut self, client: u64, sequence: u64, bytes: &[u8]) -> Option<Vec<Input>> {
        let first = Client { queued: sequence, applied: sequence, taken: sequence, used: 0 };
        let age = self.next_age();
        let known = self.clients.entry(client).or_insert(first);
        known.used = age;
        let repeated = usize::try_from(known.queued.checked_sub(sequence)?).unwrap_or(usize::MAX);
        let fresh = bytes.get(repeated..).unwrap_or_default();
        if fresh.is_empty() {
            return Some(Vec::new());
        }
        known.queued += fresh.len() as u64;
        let note = note(client, known.queued);
        self.forget_oldest();
        Some(vec![note, Input::Serial { port: CONSOLE_PORT, bytes: fresh.to_vec() }])
    }

    /// An input is handed to the guest; the log has `records` records with it.
    pub fn applied(&mut self, input: &Input, records: u64) {
        let Input::Serial { port, bytes } = input else { return };
        if *port == NOTE_PORT {
            self.noted = read_note(bytes);
        } else if let Some((client, sequence)) = self.noted.take() {
            let age = self.next_age();
            let known = self.clients.entry(client).or_default();
            known.used = age;
            known.applied = sequence;
            known.queued = known.queued.max(sequence);
            self.pending.push_back((records, client, sequence));
            self.forget_oldest();
        }
    }

    /// So many records of the log survive this side. Says whether that is news for somebody.
    pub fn survives(&mut self, records: u64) -> bool {
        let mut news = false;
        while let Some(&(needed, client, sequence)) = self.pending.front() {
            if needed > records {
                break;
            }
            self.pending.pop_front();
            if let Some(known) = self.clients.get_mut(&client) {
                known.taken = sequence;
                news = true;
            }
        }
        news
    }

    /// This side becomes live: what was given to another node counts only if it has reached the guest.
    pub fn go_live(&mut self) {
        self.noted = None;
        self.clients.values_mut().for_each(|client| client.queued = client.applied);
    }

    /// What of a client's typing has reached the guest.
    pub fn typed_by(&self, client: u64) -> Option<u64> {
        self.clients.get(&client).map(|client| client.queued)
    }

    /// What of a client's typing survives this side.
    pub fn taken_from(&self, client: u64) -> Option<u64> {
        self.clients.get(&client).map(|client| client.taken)
    }

    fn next_age(&mut self) -> u64 {
        self.age += 1;
        self.age
    }

    fn forget_oldest(&mut self) {
        if self.clients.len() > CLIENTS {
            let oldest = self.clients.iter().min_by_key(|(_, client)| client.used).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.clients.remove(&oldest));
        }
    }
}

fn note(client: u64, sequence: u64) -> Input {
    let bytes = [client.to_le_bytes(), sequence.to_le_bytes()].concat();
    Input::Serial { port: NOTE_PORT, bytes }
}

fn read_note(bytes: &[u8]) -> Option<(u64, u64)> {
    let (client, rest) = bytes.split_first_chunk()?;
    let sequence = rest.try_into().ok()?;
    Some((u64::from_le_bytes(*client), u64::from_le_bytes(sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(inputs: &[Input]) -> Vec<u8> {
        let bytes = |input: &Input| match input {
            Input::Serial { port: CONSOLE_PORT, bytes } => bytes.clone(),
            _ => Vec::new(),
        };
        inputs.iter().flat_map(bytes).collect()
    }

    #[test]
    fn repeated_typing_is_dropped_and_gaps_are_refused() {
        let mut ledger = Ledger::default();
        assert_eq!(bytes_of(&ledger.typed(1, 0, b"abc").unwrap()), b"abc");
        assert_eq!(bytes_of(&ledger.typed(1, 0, b"abcde").unwrap()), b"de");
        assert_eq!(ledger.typed(1, 2, b"cde").unwrap(), []);
        assert_eq!(ledger.typed(1, 6, b"g"), None);
        assert_eq!(bytes_of(&ledger.typed(2, 100, b"xyz").unwrap()), b"xyz");
    }

    /// Whatever part of the log the survivor has, the client's typing reaches the guest exactly once.
    #[test]
    fn a_failover_at_any_input_types_everything_once() {
        let typed = [&b"one "[..], b"two ", b"three"];
        let mut primary = Ledger::default();
        let mut inputs = Vec::new();
        let mut sequence = 0;
        for bytes in typed {
            inputs.extend(primary.typed(9, sequence, bytes).unwrap());
            sequence += bytes.len() as u64;
        }
        for survived in 0..=inputs.len() {
            let mut survivor = Ledger::default();
            inputs[..survived].iter().for_each(|input| survivor.applied(input, 1));
            survivor.go_live();
            let known = survivor.typed_by(9).unwrap_or(0) as usize;
            let rest = survivor.typed(9, known as u64, &typed.concat()[known..]).unwrap();
            let guest = [bytes_of(&inputs[..survived]), bytes_of(&rest)].concat();
            assert_eq!(guest, typed.concat(), "{survived} inputs survived");
        }
    }

    #[test]
    fn typing_is_taken_when_its_records_survive() {
        let mut ledger = Ledger::default();
        for (records, input) in (5..).zip(ledger.typed(1, 0, b"x").unwrap()) {
            ledger.applied(&input, records);
        }
        assert!(!ledger.survives(5));
        assert_eq!(ledger.taken_from(1), Some(0));
        assert!(ledger.survives(6));
        assert_eq!(ledger.taken_from(1), Some(1));
    }

    #[test]
    fn inputs_without_a_note_are_nobodys() {
        let mut ledger = Ledger::default();
        ledger.applied(&Input::Serial { port: CONSOLE_PORT, bytes: b"stdio".to_vec() }, 1);
        ledger.applied(&Input::Serial { port: NOTE_PORT, bytes: b"short".to_vec() }, 2);
        ledger.applied(&Input::Serial { port: CONSOLE_PORT, bytes: b"stdio".to_vec() }, 3);
        assert!(!ledger.survives(9));
    }
}
