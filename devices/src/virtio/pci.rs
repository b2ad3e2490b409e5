//! A virtio device as a PCI function: its windows, the capabilities that tell where the registers of 1.0 are
//! (Virtio 1.2 §4.1.4), and the one that reaches them through configuration space (§4.1.4.9).

use super::rings::{DRIVER_OK, FEATURES_OK, NEEDS_RESET, Rings};
use super::{DeviceType, TRANSPORT_FEATURES, VERSION_1};
use crate::context::Context;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::state::Saved;

/// The vendor of all virtio devices.
const VENDOR: u16 = 0x1af4;
/// Base addresses: the registers of before 1.0, and those of 1.0.
const LEGACY_BAR: u8 = 0;
const MODERN_BAR: u8 = 4;
const LEGACY_BYTES: u64 = 128;
const MODERN_BYTES: u64 = 0x4000;

/// Where the structures lie behind the memory BAR, a page each.
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const STRUCTURE_BYTES: u64 = 0x1000;
/// Bytes between the doorbells of two queues.
pub(super) const NOTIFY_MULTIPLIER: u64 = 4;

/// Types of capabilities (§4.1.4).
const CAP_VENDOR: u8 = 9;
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;
const CAP_PCI: u8 = 5;
/// Where things are in the last one: bar, offset, length, data.
const PCI_BAR: u8 = 4;
const PCI_OFFSET: u8 = 8;
const PCI_LENGTH: u8 = 12;
const PCI_DATA: u8 = 16;

/// One virtio device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtio<D> {
    function: Function,
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    pub(super) queue_select: u16,
    /// What the driver has set up.
    pub(super) rings: Rings,
    /// The device type.
    pub(super) device: D,
}

impl<D: DeviceType> Saved for Virtio<D> {
    fn save(&self, out: &mut Vec<u8>) {
        let Virtio { function, device_feature_select, driver_feature_select, queue_select, rings, device } = self;
        function.save(out);
        device_feature_select.save(out);
        driver_feature_select.save(out);
        queue_select.save(out);
        rings.save(out);
        device.save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let function = Saved::load(bytes)?;
        let (device_feature_select, driver_feature_select) = (Saved::load(bytes)?, Saved::load(bytes)?);
        let (queue_select, rings, device) = (Saved::load(bytes)?, Rings::load(bytes)?, Saved::load(bytes)?);
        rings.is_plausible(D::QUEUES).then_some(Virtio {
            function,
            device_feature_select,
            driver_feature_select,
            queue_select,
            rings,
            device,
        })
    }
}

fn function<D: DeviceType>() -> Function {
    let capability = |kind: u8, offset: u64, length: u64, more: &[u8]| {
        let mut body = vec![16 + more.len() as u8, kind, MODERN_BAR, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend((length as u32).to_le_bytes());
        body.extend(more);
        body
    };
    let mut window = capability(CAP_PCI, 0, 0, &[0; 4]);
    window[2] = 0;
    let window_mask = [&[0, 0, 0xff, 0, 0, 0][..], &[0xff; 12]].concat();
    Function::new(&Identity {
        vendor: VENDOR,
        device: D::DEVICE_ID,
        class: D::CLASS,
        subsystem_vendor: VENDOR,
        subsystem: D::SUBSYSTEM_ID,
        interrupt_pin: 1,
        ..Identity::default()
    })
    .with_io_bar(LEGACY_BAR, LEGACY_BYTES)
    .with_memory_bar(MODERN_BAR, MODERN_BYTES, false)
    .with_capability(CAP_VENDOR, &capability(CAP_COMMON, COMMON, STRUCTURE_BYTES, &[]), &[])
    .with_capability(CAP_VENDOR, &capability(CAP_ISR, ISR, STRUCTURE_BYTES, &[]), &[])
    .with_capability(CAP_VENDOR, &capability(CAP_DEVICE, DEVICE, STRUCTURE_BYTES, &[]), &[])
    .with_capability(
        CAP_VENDOR,
        &capability(CAP_NOTIFY, NOTIFY, STRUCTURE_BYTES, &(NOTIFY_MULTIPLIER as u32).to_le_bytes()),
        &[],
    )
    .with_capability(CAP_VENDOR, &window, &window_mask)
}

impl<D: DeviceType> Virtio<D> {
    /// A device of this type after power-on.
    pub fn new(device: D) -> Virtio<D> {
        let rings = Rings::new(D::QUEUES);
        let (device_feature_select, driver_feature_select, queue_select) = (0, 0, 0);
        let function = function::<D>();
        Virtio { function, device_feature_select, driver_feature_select, queue_select, rings, device }
    }

    /// The device type.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Feature bits on offer.
    pub(super) fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    /// Something happens to the device from outside.
    pub(crate) fn with(&mut self, act: impl FnOnce(&mut D, &mut Rings)) {
        self.rings.master = self.function.bus_master();
        act(&mut self.device, &mut self.rings);
        self.settle();
    }

    fn settle(&mut self) {
        self.function.set_interrupt_status(self.rings.isr != 0);
    }

    /// The driver writes the device status (§2.1, §3.1.1). Bits are only ever added, until 0 resets everything.
    pub(super) fn set_status(&mut self, value: u8, context: &mut Context) {
        if value == 0 {
            self.rings.reset();
            self.device.reset();
            (self.device_feature_select, self.driver_feature_select, self.queue_select) = (0, 0, 0);
            return;
        }
        let before = self.rings.status;
        let mut status = before | value & !NEEDS_RESET;
        let negotiated = self.rings.features & !self.offered() == 0 && self.rings.has(VERSION_1);
        if before & FEATURES_OK == 0 && !negotiated {
            status &= !FEATURES_OK;
        }
        self.rings.status = status;
        if status & !before & DRIVER_OK != 0 {
            (0u16..).zip(D::QUEUES).for_each(|(queue, _)| self.notify(queue, context));
        }
    }

    /// A doorbell rings.
    pub(super) fn notify(&mut self, queue: u16, context: &mut Context) {
        if self.rings.is_ready(queue) {
            self.device.notified(queue, &mut self.rings, context);
        }
    }

    /// Bytes of the device configuration from `offset` on; zeros beyond.
    pub(super) fn read_configuration(&self, offset: u64, size: u8) -> u64 {
        pick(&self.device.configuration(), offset, size)
    }

    fn read_window(&mut self, bar: u8, offset: u64, size: u8) -> u64 {
        if bar == LEGACY_BAR {
            return self.read_legacy(offset, size);
        }
        let at = offset % STRUCTURE_BYTES;
        match offset - at {
            COMMON => self.read_common(at, size),
            ISR if at == 0 => u64::from(self.rings.take_isr()),
            DEVICE => self.read_configuration(at, size),
            _ => 0,
        }
    }

    fn write_window(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == LEGACY_BAR {
            return self.write_legacy(context, offset, size, value);
        }
        let at = offset % STRUCTURE_BYTES;
        match offset - at {
            COMMON => self.write_common(context, at, size, value),
            NOTIFY => self.notify((at / NOTIFY_MULTIPLIER) as u16, context),
            _ => {}
        }
    }

    /// What the capability for access through configuration space points at: window, offset, size. `None`: it makes
    /// no sense, or this access is not one to its data.
    fn pointed_at(&self, register: u8, size: u8) -> Option<(u8, u64, u8)> {
        let capability = self.function.last_capability();
        let field = |offset: u8| self.function.read(capability.wrapping_add(offset), 4);
        let (bar, offset, length) = (field(PCI_BAR) as u8, u64::from(field(PCI_OFFSET)), field(PCI_LENGTH));
        let whole = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(u64::from(length));
        let inside = matches!(bar, LEGACY_BAR | MODERN_BAR) && offset < self.function.bar_length(bar);
        let asked = register == capability.wrapping_add(PCI_DATA) && u32::from(size) >= length;
        (whole && inside && asked).then_some((bar, offset, length as u8))
    }
}

/// `size` bytes of a structure from `offset` on, little-endian; zeros beyond.
pub(super) fn pick(bytes: &[u8], offset: u64, size: u8) -> u64 {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let picked = bytes.iter().skip(start).take(usize::from(size.min(8)));
    picked.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl<D: DeviceType> PciDevice for Virtio<D> {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read(&mut self, _context: &mut Context, bar: u8, offset: u64, size: u8) -> u64 {
        let value = self.read_window(bar, offset, size);
        self.settle();
        value
    }

    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        self.rings.master = self.function.bus_master();
        self.write_window(context, bar, offset, size, value);
        self.settle();
    }

    fn line(&self) -> bool {
        self.rings.isr != 0 && !self.function.interrupt_disabled()
    }

    fn deadline(&self) -> Option<u64> {
        self.device.deadline()
    }

    fn tick(&mut self, context: &mut Context) {
        self.with(|device, rings| device.tick(rings, context));
    }

    fn configure(&mut self, register: u8, size: u8, value: u32, context: &mut Context) {
        self.function.write(register, size, value);
        if let Some((bar, offset, size)) = self.pointed_at(register, size) {
            let mask = u64::MAX >> (64 - 8 * u32::from(size));
            PciDevice::write(self, context, bar, offset, size, u64::from(value) & mask);
        }
    }

    fn inspect(&mut self, register: u8, size: u8, _context: &mut Context) -> u32 {
        if let Some((bar, offset, length)) = self.pointed_at(register, size) {
            let value = self.read_window(bar, offset, length) as u32;
            self.function.set(usize::from(register), &value.to_le_bytes());
            self.settle();
        }
        self.function.read(register, size)
    }
}
