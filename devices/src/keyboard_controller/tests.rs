//! Register-level tests of the 8042, its keyboard and its mouse.

use super::*;
use crate::state::{Random, assert_round_trip};

const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;
const COMMAND: u16 = 0x64;

/// A controller with a clock that goes on by itself.
struct Bench {
    chip: KeyboardController,
    now_ns: u64,
}

impl Bench {
    /// As drivers set it up: translated, both devices on, both interrupts.
    fn new() -> Bench {
        let mut bench = Bench { chip: KeyboardController::default(), now_ns: 0 };
        bench.command(0x60);
        bench.data(0x47);
        bench
    }

    fn command(&mut self, value: u8) {
        self.chip.write(self.now_ns, COMMAND, value);
    }

    fn data(&mut self, value: u8) {
        self.chip.write(self.now_ns, DATA, value);
    }

    /// What comes until nothing more does: from the keyboard, from the mouse.
    fn receive(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (mut keyboard, mut mouse) = (Vec::new(), Vec::new());
        loop {
            let status = self.chip.read(self.now_ns, STATUS);
            if status & OUTPUT_FULL != 0 {
                let source = if status & AUXILIARY_OUTPUT != 0 { &mut mouse } else { &mut keyboard };
                source.push(self.chip.read(self.now_ns, DATA));
                assert_eq!(self.chip.lines(), [false; 2], "a line falls between two bytes");
                continue;
            }
            let Some(deadline) = self.chip.deadline() else { return (keyboard, mouse) };
            assert!(deadline > self.now_ns);
            self.now_ns = deadline;
            self.chip.tick(deadline);
        }
    }

    fn keyboard(&mut self) -> Vec<u8> {
        let (keyboard, mouse) = self.receive();
        assert!(mouse.is_empty());
        keyboard
    }

    fn mouse(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        for byte in bytes {
            self.command(0xd4);
            self.data(*byte);
            let (keyboard, mouse) = self.receive();
            assert!(keyboard.is_empty());
            answers.extend(mouse);
        }
        answers
    }

    fn keys(&mut self, keys: &[(u16, bool)]) -> Vec<u8> {
        keys.iter().for_each(|(code, pressed)| self.chip.key(self.now_ns, *code, *pressed));
        self.keyboard()
    }
}

#[test]
fn self_test_command_byte_and_ram() {
    let mut chip = KeyboardController::default();
    assert_eq!(chip.read(0, STATUS), 0x14);
    chip.write(0, COMMAND, 0xaa);
    assert_eq!(chip.read(0, STATUS), 0x1d);
    assert_eq!(chip.read(0, DATA), 0x55);
    for (command, value) in [(0x60, 0x47), (0x65, 0x99)] {
        chip.write(0, COMMAND, command);
        chip.write(0, DATA, value);
        chip.write(0, COMMAND, command - 0x40);
        assert_eq!(chip.read(0, DATA), value);
        assert_eq!(chip.read(0, STATUS) & OUTPUT_FULL, 0);
        assert_eq!(chip.read(0, DATA), value, "the last byte stays visible");
    }
    for interface_test in [0xa9, 0xab] {
        chip.write(0, COMMAND, interface_test);
        assert_eq!(chip.read(0, DATA), 0);
    }
}

#[test]
fn answers_wait_for_the_output_buffer() {
    let mut bench = Bench::new();
    bench.command(0xaa);
    bench.command(0x20);
    bench.command(0xc0);
    assert_eq!(bench.keyboard(), [0x55, 0x47, 0x80]);
}

#[test]
fn reset_line_and_a20() {
    let mut chip = KeyboardController::default();
    chip.write(0, COMMAND, 0xff);
    assert!(!chip.take_reset());
    chip.write(0, COMMAND, 0xfe);
    assert!(chip.take_reset());
    assert!(!chip.take_reset());
    assert!(chip.a20());
    for (value, open) in [(0xdd, false), (0xdf, true)] {
        chip.write(0, COMMAND, 0xd1);
        chip.write(0, DATA, value);
        assert_eq!(chip.a20(), open);
        chip.write(0, COMMAND, 0xd0);
        assert_eq!(chip.read(0, DATA) & A20 != 0, open);
    }
    chip.write(0, COMMAND, 0xdd);
    assert!(!chip.a20());
    chip.write(0, COMMAND, 0xd1);
    chip.write(0, DATA, 0x02);
    assert!(chip.take_reset());
}

#[test]
fn keys_are_translated_interrupt_and_take_time() {
    let mut bench = Bench::new();
    bench.chip.key(1000, 30, true);
    assert_eq!(bench.chip.lines(), [false; 2]);
    assert_eq!(bench.chip.deadline(), Some(1000 + BYTE_NS));
    bench.chip.tick(1000 + BYTE_NS);
    assert_eq!(bench.chip.lines(), [true, false]);
    assert_eq!(bench.chip.read(1000 + BYTE_NS, DATA), 0x1e);
    assert_eq!(bench.chip.lines(), [false; 2]);
    assert_eq!(bench.keys(&[(30, false), (111, true), (111, false)]), [0x9e, 0xe0, 0x53, 0xe0, 0xd3]);
}

#[test]
fn without_translation_scan_set_2_arrives() {
    let mut bench = Bench::new();
    bench.command(0x60);
    bench.data(0x07);
    assert_eq!(bench.keys(&[(30, true), (30, false)]), [0x1c, 0xf0, 0x1c]);
    bench.data(0xf0);
    bench.data(1);
    assert_eq!(bench.keyboard(), [0xfa, 0xfa]);
    assert_eq!(bench.keys(&[(30, true), (30, false), (103, false)]), [0x1e, 0x9e, 0xe0, 0xc8]);
}

#[test]
fn keyboard_commands() {
    let mut bench = Bench::new();
    for (bytes, answer) in [
        (&[0xff][..], &[0xfa, 0xaa][..]),
        (&[0xf2], &[0xfa, 0xab, 0x41]),
        (&[0xee], &[0xee]),
        (&[0xed, 5], &[0xfa, 0xfa]),
        (&[0xf3, 0x20], &[0xfa, 0xfa]),
        (&[0xf0, 0], &[0xfa, 0xfa, 0x41]),
        (&[0xf0, 3], &[0xfa, 0xfe]),
        (&[0xf5], &[0xfa]),
        (&[0x00], &[0xfe]),
    ] {
        let mut received = Vec::new();
        for byte in bytes {
            bench.data(*byte);
            received.extend(bench.keyboard());
        }
        assert_eq!(received, answer, "{bytes:02x?}");
    }
    assert!(bench.keys(&[(30, true)]).is_empty(), "scanning is off");
    bench.data(0xf4);
    assert_eq!(bench.keyboard(), [0xfa]);
    assert_eq!(bench.keys(&[(30, true)]), [0x1e]);
    bench.data(0xed);
    bench.keyboard();
    bench.data(2);
    bench.keyboard();
    assert_eq!(bench.chip.leds(), 2);
    bench.data(0xfe);
    assert_eq!(bench.keyboard(), [0xfa], "the last byte again");
}

#[test]
fn a_disabled_keyboard_keeps_its_keys() {
    let mut bench = Bench::new();
    bench.command(0xad);
    assert!(bench.keys(&[(30, true)]).is_empty());
    bench.command(0xae);
    assert_eq!(bench.keyboard(), [0x1e]);
}

#[test]
fn a_keyboard_nobody_reads_overruns() {
    let mut bench = Bench::new();
    let keys: Vec<(u16, bool)> = (0..400).map(|index| (30, index % 2 == 0)).collect();
    let received = bench.keys(&keys);
    assert!(received.len() < 256);
    assert_eq!(received.last(), Some(&0xff), "overrun, translated");
}

#[test]
fn loops_of_both_ports_as_drivers_test_them() {
    let mut bench = Bench::new();
    bench.command(0xd3);
    bench.data(0x5a);
    assert_eq!(bench.chip.lines(), [false, true]);
    assert_eq!(bench.receive(), (vec![], vec![0x5a]));
    bench.command(0xd2);
    bench.data(0xa5);
    assert_eq!(bench.chip.lines(), [true, false]);
    assert_eq!(bench.receive(), (vec![0xa5], vec![]));
    bench.command(0xa7);
    bench.command(0x20);
    assert_eq!(bench.keyboard(), [0x67]);
}

#[test]
fn mouse_commands() {
    let mut bench = Bench::new();
    assert_eq!(bench.mouse(&[0xff]), [0xfa, 0xaa, 0x00]);
    assert_eq!(bench.mouse(&[0xf2]), [0xfa, 0]);
    assert_eq!(bench.mouse(&[0xe9]), [0xfa, 0, 2, 100]);
    assert_eq!(bench.mouse(&[0xe8, 3, 0xf3, 40, 0xe7, 0xf4]), [0xfa; 6]);
    assert_eq!(bench.mouse(&[0xe9]), [0xfa, 0x30, 3, 40]);
    assert_eq!(bench.mouse(&[0xe8, 4]), [0xfa, 0xfe]);
    assert_eq!(bench.mouse(&[0xf6, 0xe9]), [0xfa, 0xfa, 0, 2, 100]);
    assert_eq!(bench.mouse(&[0xee, 0x12, 0xec]), [0xfa, 0x12, 0xfa]);
}

#[test]
fn mouse_packets_with_and_without_wheel() {
    let mut bench = Bench::new();
    bench.chip.pointer(0, (5, 5, 0), 0);
    assert_eq!(bench.receive(), (vec![], vec![]), "reporting is off");
    bench.mouse(&[0xf4]);
    bench.chip.pointer(bench.now_ns, (5, 3, 1), 1);
    assert_eq!(bench.receive().1, [0x29, 5, 0xfd]);
    assert_eq!(bench.mouse(&[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2]), [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 3]);
    bench.chip.pointer(bench.now_ns, (-1, -2, -1), 4);
    assert_eq!(bench.receive().1, [0x1c, 0xff, 2, 0xff]);
    bench.chip.pointer(bench.now_ns, (300, 0, 0), 0);
    assert_eq!(bench.receive().1, [0x08, 255, 0, 0, 0x08, 45, 0, 0], "far movement in several packets");
}

#[test]
fn a_click_during_a_packet_is_not_lost() {
    let mut bench = Bench::new();
    bench.mouse(&[0xf4]);
    bench.chip.pointer(bench.now_ns, (1, 0, 0), 0);
    bench.chip.pointer(bench.now_ns, (0, 0, 0), 1);
    bench.chip.pointer(bench.now_ns, (0, 0, 0), 0);
    assert_eq!(bench.receive().1, [8, 1, 0, 9, 0, 0, 8, 0, 0]);
}

#[test]
fn remote_mode_tells_when_asked() {
    let mut bench = Bench::new();
    bench.mouse(&[0xf0, 0xf4]);
    bench.chip.pointer(bench.now_ns, (7, 0, 0), 2);
    assert_eq!(bench.receive(), (vec![], vec![]));
    assert_eq!(bench.mouse(&[0xeb]), [0xfa, 0x0a, 7, 0]);
    assert_eq!(bench.mouse(&[0xeb]), [0xfa, 0x0a, 0, 0]);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x8042);
    let mut chip = KeyboardController::default();
    let mut now_ns = 0;
    for step in 0..100_000 {
        now_ns += random.step(22);
        match random.below(8) {
            0 | 1 => chip.write(now_ns, 0x60, random.next() as u8),
            2 | 3 => chip.write(now_ns, 0x64, random.next() as u8),
            4 => drop(chip.read(now_ns, 0x60 + 4 * random.below(2) as u16)),
            5 => chip.key(now_ns, random.below(200) as u16, random.below(2) == 0),
            6 => {
                let step = random.next();
                chip.pointer(now_ns, (step as i16, (step >> 16) as i16, (step >> 32) as i8), (step >> 40) as u8);
            }
            _ => chip.tick(now_ns),
        }
        if chip.deadline().is_some_and(|deadline| deadline <= now_ns) {
            chip.tick(now_ns);
            assert!(chip.deadline().is_none_or(|deadline| deadline > now_ns));
        }
        if step % 1000 == 0 {
            assert_round_trip(&chip);
        }
    }
}
