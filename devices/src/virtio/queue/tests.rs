//! The ring by its rules, and by drivers that break them.

use super::*;
use crate::state::{Random, Saved, assert_round_trip};

const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const SIZE: u16 = 8;
const PLAIN: Rules = Rules { indirect: false, event_index: false };
const ALL: Rules = Rules { indirect: true, event_index: true };

struct Ring {
    memory: Memory,
    queue: Queue,
    made: u16,
}

impl Ring {
    fn new() -> Ring {
        let mut queue = Queue::new(SIZE);
        (queue.descriptors, queue.available, queue.used, queue.enabled) = (TABLE, AVAILABLE, USED, true);
        Ring { memory: Memory::new(2 << 20).expect("2 MiB"), queue, made: 0 }
    }

    fn describe(&mut self, table: u64, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.memory.store(table + 16 * u64::from(index), &bytes);
    }

    fn offer(&mut self, head: u16) {
        self.memory.store(AVAILABLE + 4 + 2 * u64::from(self.made % SIZE), &head.to_le_bytes());
        self.made = self.made.wrapping_add(1);
        self.memory.store(AVAILABLE + 2, &self.made.to_le_bytes());
    }

    fn pop(&mut self, rules: Rules) -> Result<Option<Chain>, Broken> {
        self.queue.pop(&mut self.memory, rules)
    }

    fn word(&self, address: u64) -> u16 {
        read_u16(&self.memory, address, 0).expect("RAM")
    }
}

fn pieces(buffer: &Buffer) -> u64 {
    buffer.length()
}

#[test]
fn a_chain_is_followed_and_given_back() {
    let mut ring = Ring::new();
    assert_eq!(ring.pop(PLAIN), Ok(None));
    ring.describe(TABLE, 3, 0x8000, 16, NEXT, 5);
    ring.describe(TABLE, 5, 0x9000, 512, NEXT | WRITE, 1);
    ring.describe(TABLE, 1, 0xa000, 1, WRITE, 99);
    ring.offer(3);
    let chain = ring.pop(PLAIN).expect("whole").expect("one");
    assert_eq!((chain.head, pieces(&chain.readable), pieces(&chain.writable)), (3, 16, 513));
    assert_eq!(ring.pop(PLAIN), Ok(None));
    assert_eq!(ring.queue.push(&mut ring.memory, PLAIN, 3, 513), Ok(true));
    assert_eq!(ring.word(USED + 2), 1);
    assert_eq!((ring.word(USED + 4), ring.word(USED + 8)), (3, 513));
    ring.memory.store(AVAILABLE, &NO_INTERRUPT.to_le_bytes());
    assert_eq!(ring.queue.push(&mut ring.memory, PLAIN, 3, 0), Ok(false));
    assert_round_trip(&ring.queue);
}

#[test]
fn indices_wrap_at_65536() {
    let mut ring = Ring::new();
    for head in 0..SIZE {
        ring.describe(TABLE, head, 0x8000, 4, WRITE, 0);
    }
    for round in 0..70_000u32 {
        let head = (round % u32::from(SIZE)) as u16;
        ring.offer(head);
        assert_eq!(ring.pop(ALL).expect("whole").map(|chain| chain.head), Some(head));
        ring.queue.push(&mut ring.memory, ALL, head, 4).expect("RAM");
    }
    assert_eq!(ring.word(USED + 2), 70_000u32 as u16);
}

#[test]
fn event_indices_say_when_to_tell() {
    let mut ring = Ring::new();
    ring.describe(TABLE, 0, 0x8000, 4, WRITE, 0);
    (0..3).for_each(|_| ring.offer(0));
    let used_event = AVAILABLE + 4 + 2 * u64::from(SIZE);
    ring.memory.store(used_event, &1u16.to_le_bytes());
    let told = (0..3).map(|_| {
        ring.pop(ALL).expect("whole");
        ring.queue.push(&mut ring.memory, ALL, 0, 0).expect("RAM")
    });
    assert_eq!(told.collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(ring.pop(ALL), Ok(None));
    assert_eq!(ring.word(USED + 4 + 8 * u64::from(SIZE)), 3, "avail_event: tell me about the next one");
}

#[test]
fn indirect_tables_follow_direct_descriptors() {
    let mut ring = Ring::new();
    ring.describe(TABLE, 0, 0x8000, 16, NEXT, 1);
    ring.describe(TABLE, 1, 0x4000, 32, INDIRECT, 0);
    ring.describe(0x4000, 0, 0x9000, 100, NEXT, 1);
    ring.describe(0x4000, 1, 0xa000, 7, WRITE, 0);
    ring.offer(0);
    assert_eq!(ring.clone_of().pop(PLAIN), Err(Broken::Indirect), "not negotiated");
    let chain = ring.pop(ALL).expect("whole").expect("one");
    assert_eq!((pieces(&chain.readable), pieces(&chain.writable)), (116, 7));
}

impl Ring {
    fn clone_of(&self) -> Ring {
        let mut memory = Memory::new(2 << 20).expect("2 MiB");
        for page in 0..16 {
            memory.store(page * 4096, self.memory.page(page as usize));
        }
        Ring { memory, queue: self.queue.clone(), made: self.made }
    }
}

/// What a driver may put in descriptor 0, and what it is told.
#[test]
fn hostile_chains_are_found_out() {
    type Case = (&'static str, fn(&mut Ring), Broken);
    let cases: [Case; 8] = [
        ("a loop of one", |ring| ring.describe(TABLE, 0, 0x8000, 1, NEXT, 0), Broken::Loop),
        ("next is no descriptor", |ring| ring.describe(TABLE, 0, 0x8000, 1, NEXT, SIZE), Broken::Descriptor),
        (
            "an indirect table of half a descriptor",
            |ring| ring.describe(TABLE, 0, 0x4000, 8, INDIRECT, 0),
            Broken::Indirect,
        ),
        ("an empty indirect table", |ring| ring.describe(TABLE, 0, 0x4000, 0, INDIRECT, 0), Broken::Descriptor),
        (
            "an indirect table that goes on",
            |ring| ring.describe(TABLE, 0, 0x4000, 16, INDIRECT | NEXT, 1),
            Broken::Indirect,
        ),
        (
            "indirect in indirect",
            |ring| {
                ring.describe(TABLE, 0, 0x4000, 16, INDIRECT, 0);
                ring.describe(0x4000, 0, 0x4000, 16, INDIRECT, 0);
            },
            Broken::Indirect,
        ),
        (
            "an indirect table past the end",
            |ring| ring.describe(TABLE, 0, u64::MAX - 15, 64, INDIRECT, 0),
            Broken::Memory,
        ),
        (
            "readable after writable",
            |ring| {
                ring.describe(TABLE, 0, 0x8000, 1, NEXT | WRITE, 1);
                ring.describe(TABLE, 1, 0x8000, 1, 0, 0);
            },
            Broken::Order,
        ),
    ];
    for (name, make, expected) in cases {
        let mut ring = Ring::new();
        make(&mut ring);
        ring.offer(0);
        assert_eq!(ring.pop(ALL), Err(expected), "{name}");
    }
}

#[test]
fn hostile_rings_are_found_out() {
    let mut ring = Ring::new();
    ring.offer(SIZE);
    assert_eq!(ring.pop(ALL), Err(Broken::Descriptor), "a head that is no descriptor");

    let mut ring = Ring::new();
    ring.memory.store(AVAILABLE + 2, &(SIZE + 1).to_le_bytes());
    assert_eq!(ring.pop(ALL), Err(Broken::Index), "the index jumps");

    for nowhere in [0xa_0000, 0x20_0000, 1 << 40, u64::MAX, u64::MAX - 3] {
        for place in 0..3 {
            let mut ring = Ring::new();
            ring.describe(TABLE, 0, 0x8000, 1, 0, 0);
            ring.offer(0);
            *[&mut ring.queue.descriptors, &mut ring.queue.available, &mut ring.queue.used][place] = nowhere;
            let taken = ring.pop(ALL).and_then(|_| ring.queue.push(&mut ring.memory, ALL, 0, 0));
            assert_eq!(taken, Err(Broken::Memory), "{place} at {nowhere:#x}");
        }
    }
}

#[test]
fn lengths_that_overflow_are_only_numbers() {
    let mut ring = Ring::new();
    for index in 0..SIZE {
        let flags = WRITE | if index + 1 < SIZE { NEXT } else { 0 };
        ring.describe(TABLE, index, u64::MAX - 1, u32::MAX, flags, index + 1);
    }
    ring.offer(0);
    let chain = ring.pop(ALL).expect("whole").expect("one");
    assert_eq!(chain.writable.length(), u64::from(SIZE) * u64::from(u32::MAX));
    assert_eq!(chain.writable.take(&ring.memory, 1 << 20), None);
    assert!(!chain.writable.write(&mut ring.memory, &[1; 100]));
}

#[test]
fn sizes_are_powers_of_two_up_to_the_maximum() {
    let mut queue = Queue::new(256);
    for (asked, size) in [(0, 256), (3, 256), (512, 256), (64, 64), (1, 1)] {
        queue.set_size(asked);
        assert_eq!(queue.size, size);
    }
    queue.set_size(256);
    queue.set_legacy_address(0x10);
    assert_eq!((queue.descriptors, queue.available, queue.used), (0x1_0000, 0x1_1000, 0x1_2000));
    queue.size = 0;
    let mut saved = Vec::new();
    queue.save(&mut saved);
    assert!(!Queue::load(&mut &saved[..]).expect("bytes").is_plausible());
}

#[test]
fn random_memory_never_hurts() {
    let mut random = Random(0x5917);
    for _ in 0..3000 {
        let mut ring = Ring::new();
        for index in 0..64 {
            let (table, index) = if index < 32 { (TABLE, index) } else { (0x4000, index - 32) };
            let address = [0x4000, 0x8000, random.next(), 0x9_fff0][random.below(4) as usize];
            let length = [16, 64, random.next() as u32][random.below(3) as usize];
            ring.describe(table, index, address, length, random.below(8) as u16, random.below(9) as u16);
        }
        (0..random.below(10)).for_each(|_| ring.offer(random.below(9) as u16));
        while let Ok(Some(chain)) = ring.pop(ALL) {
            chain.writable.slice(random.step(40), random.step(20)).write(&mut ring.memory, &[0; 600]);
            if ring.queue.push(&mut ring.memory, ALL, chain.head, random.next() as u32).is_err() {
                break;
            }
        }
    }
}
