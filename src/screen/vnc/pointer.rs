//! From what a viewer says of its pointer to what a PS/2 mouse says.

use ftemu_devices::Input;

/// Where movement is nothing, for viewers that send movement.
const STILL: i32 = 0x7fff;
/// A push to an edge: farther than any screen is wide.
const PUSH: i16 = 4096;

/// The pointer of one viewer.
#[derive(Debug, Default)]
pub struct Pointer {
    /// The viewer sends movement.
    pub relative: bool,
    last: Option<(u16, u16)>,
    buttons: u8,
}

impl Pointer {
    /// What the mouse does when the viewer says this; `size` is the screen's. `None`: nothing new.
    pub fn moved(&mut self, (x, y): (u16, u16), buttons: u8, size: (u16, u16)) -> Option<Input> {
        let (dx, dy) = match (self.relative, self.last) {
            (true, _) => (step(i32::from(x) - STILL), step(i32::from(y) - STILL)),
            (false, None) => (0, 0),
            (false, Some((last_x, last_y))) => (along(last_x, x, size.0), along(last_y, y, size.1)),
        };
        self.last = Some((x, y));
        let pressed = buttons & !self.buttons;
        let wheel = i8::from(pressed & 0x10 != 0) - i8::from(pressed & 8 != 0);
        let changed = (buttons ^ self.buttons) & 7 != 0;
        self.buttons = buttons;
        (changed || (dx, dy, wheel) != (0, 0, 0)).then(|| Input::Pointer { dx, dy, wheel, buttons: mouse(buttons) })
    }

    /// What lets go of the buttons that are down; `None`: there are none.
    pub fn release(&mut self) -> Option<Input> {
        let down = std::mem::take(&mut self.buttons) & 7 != 0;
        down.then_some(Input::Pointer { dx: 0, dy: 0, wheel: 0, buttons: 0 })
    }
}

/// The viewer counts left, middle, right; the mouse left, right, middle.
fn mouse(buttons: u8) -> u8 {
    buttons & 1 | buttons >> 1 & 2 | (buttons & 2) << 1
}

fn step(distance: i32) -> i16 {
    distance.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// From one position to the next, and past the edge if it is there.
fn along(from: u16, to: u16, length: u16) -> i16 {
    match to {
        0 if from != 0 => -PUSH,
        _ if to != from && to.saturating_add(1) >= length => PUSH,
        _ => step(i32::from(to) - i32::from(from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u16, u16) = (640, 480);

    #[test]
    fn positions_become_movement_and_edges_pushes() {
        let mut pointer = Pointer::default();
        assert_eq!(pointer.moved((100, 100), 0, SIZE), None);
        let moved = |dx, dy| Some(Input::Pointer { dx, dy, wheel: 0, buttons: 0 });
        assert_eq!(pointer.moved((103, 98), 0, SIZE), moved(3, -2));
        assert_eq!(pointer.moved((103, 98), 0, SIZE), None);
        assert_eq!(pointer.moved((0, 98), 0, SIZE), moved(-PUSH, 0));
        assert_eq!(pointer.moved((0, 479), 0, SIZE), moved(0, PUSH));
        assert_eq!(pointer.moved((u16::MAX, 0), 0, SIZE), moved(PUSH, -PUSH));
    }

    #[test]
    fn movement_buttons_and_wheel() {
        let mut pointer = Pointer { relative: true, ..Pointer::default() };
        let said = |dx, dy, wheel, buttons| Some(Input::Pointer { dx, dy, wheel, buttons });
        assert_eq!(pointer.moved((0x7fff + 5, 0x7fff - 5), 0, SIZE), said(5, -5, 0, 0));
        assert_eq!(pointer.moved((0x7fff, 0x7fff), 0b110, SIZE), said(0, 0, 0, 0b110));
        assert_eq!(pointer.moved((0x7fff, 0x7fff), 0b1_0100, SIZE), said(0, 0, 1, 0b10));
        assert_eq!(pointer.moved((0x7fff, 0x7fff), 0b0100, SIZE), None, "the wheel is told once");
        assert_eq!(pointer.moved((0x7fff, 0x7fff), 0b1100, SIZE), said(0, 0, -1, 0b10));
        assert_eq!(pointer.release(), said(0, 0, 0, 0));
        assert_eq!(pointer.release(), None);
    }
}
