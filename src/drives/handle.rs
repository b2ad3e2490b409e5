//! A drive as a machine has it.

use std::sync::Arc;

use ftemu_devices::storage::{Disc, Request, Storage, StorageFault};

use super::worker::Queue;

/// Requests of one machine to one drive. The next machine's handle makes this one useless, so that a guest that
/// should be gone writes nothing any more.
pub struct Handle {
    pub(super) queue: Arc<Queue>,
    pub(super) number: u64,
    pub(super) sectors: u64,
}

impl Storage for Handle {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        self.queue.submit(self.number, ticket, request.clone());
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        self.queue.finish(self.number, ticket)
    }

    fn change(&mut self, disc: &Disc) {
        self.sectors = disc.sectors;
        self.queue.change(self.number, disc);
    }
}
