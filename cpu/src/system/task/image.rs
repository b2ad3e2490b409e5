//! A task as a TSS holds it: 16-bit (APM vol. 2 §12.2.3, a 286's) and 32-bit (§12.2.4).

use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::Access;
use crate::state::Segment;

/// Bytes that a task needs in a 32-bit TSS.
pub const WIDE_BYTES: u64 = 0x68;
/// Bytes that a task needs in a 16-bit TSS.
pub const SMALL_BYTES: u64 = 0x2c;

/// Where a TSS keeps what. Registers stand in encoding order, `size` bytes apart.
struct Layout {
    size: usize,
    rip: u64,
    flags: u64,
    gpr: u64,
    segments: u64,
    segment_count: usize,
    ldt: u64,
}

const WIDE: Layout = Layout { size: 4, rip: 0x20, flags: 0x24, gpr: 0x28, segments: 0x48, segment_count: 6, ldt: 0x60 };
const SMALL: Layout =
    Layout { size: 2, rip: 0x0e, flags: 0x10, gpr: 0x12, segments: 0x22, segment_count: 4, ldt: 0x2a };
const CR3: u64 = 0x1c;
const TRAP: u64 = 0x64;

/// What a task starts with.
pub struct Image {
    /// From a 32-bit TSS.
    pub wide: bool,
    pub cr3: u64,
    pub rip: u64,
    pub flags: u64,
    pub gpr: [u64; 8],
    /// ES CS SS DS FS GS.
    pub segments: [u16; 6],
    pub ldt: u16,
    /// T: #DB as soon as the task is entered.
    pub traps: bool,
}

fn is_wide(task: &Segment) -> bool {
    task.attributes & 8 != 0
}

fn layout(task: &Segment) -> &'static Layout {
    if is_wide(task) { &WIDE } else { &SMALL }
}

fn at(task: &Segment, offset: u64) -> u64 {
    task.base.wrapping_add(offset) & 0xffff_ffff
}

impl Image {
    /// Reads the task of a TSS. The upper halves that a 16-bit one does not have are all ones, as in hardware.
    pub fn read(x: &mut Execution, task: &Segment) -> Result<Image, Exception> {
        let (wide, layout) = (is_wide(task), layout(task));
        let mut word = |offset| x.read_system(at(task, offset), layout.size);
        let mut image = Image {
            wide,
            cr3: 0,
            rip: word(layout.rip)?,
            flags: word(layout.flags)?,
            gpr: [0; 8],
            segments: [0; 6],
            ldt: word(layout.ldt)? as u16,
            traps: false,
        };
        for (index, register) in image.gpr.iter_mut().enumerate() {
            let value = word(layout.gpr + (index * layout.size) as u64)?;
            *register = if wide { value } else { value | 0xffff_0000 };
        }
        for (index, selector) in image.segments.iter_mut().take(layout.segment_count).enumerate() {
            *selector = word(layout.segments + (index * layout.size) as u64)? as u16;
        }
        if wide {
            image.cr3 = word(CR3)?;
            image.traps = word(TRAP)? & 1 != 0;
        }
        Ok(image)
    }

    /// Writes the running task to its TSS; CR3, LDT and the stacks of inner levels are the system's to write.
    pub fn save(x: &mut Execution, task: &Segment, rip: u64, flags: u64) -> Result<(), Exception> {
        let layout = layout(task);
        let length = layout.ldt - layout.rip;
        x.probe(at(task, layout.rip), length as usize, Access::write(false))?;
        let mut words = vec![(layout.rip, rip), (layout.flags, flags)];
        for (index, &value) in x.state.gpr[..8].iter().enumerate() {
            words.push((layout.gpr + (index * layout.size) as u64, value));
        }
        for (offset, value) in words {
            x.write_system(at(task, offset), layout.size, value)?;
        }
        for index in 0..layout.segment_count {
            let selector = x.state.segments[index].selector;
            let offset = layout.segments + (index * layout.size) as u64;
            x.write_system(at(task, offset), 2, u64::from(selector))?;
        }
        Ok(())
    }
}
