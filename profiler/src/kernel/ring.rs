//! The ring buffer, read without blocking.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{KernelError, map_error};

/// The kernel side's records, in the order they were sent on each CPU.
pub struct Ring {
    ready: Option<AsyncFd<Descriptor>>,
    buffer: RingBuf<MapData>,
}

struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Ring {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let map = ebpf.take_map("EVENTS").ok_or(KernelError::MissingField("EVENTS"))?;
        let buffer = RingBuf::try_from(map).map_err(|error| map_error("EVENTS", error))?;
        Ok(Self { ready: None, buffer })
    }

    /// Waits until there is something to read. Needs a tokio runtime.
    pub async fn readable(&mut self) -> io::Result<()> {
        if self.ready.is_none() {
            let descriptor = Descriptor(self.buffer.as_raw_fd());
            // SAFETY: `buffer` owns the descriptor and is dropped after `ready`, which is declared before it.
            let ready = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
            self.ready = Some(ready.map_err(|error| io::Error::other(error.to_string()))?);
        }
        if let Some(ready) = &self.ready {
            ready.readable().await?.clear_ready();
        }
        Ok(())
    }

    /// Hands over every record there is now.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        while let Some(record) = self.buffer.next() {
            take(&record);
        }
    }
}
