//! The TUN device: opening it with its addresses, and packets in and out.
//!
//! One queue, no packet information, no offload: with an MTU of 65,535 the kernel hands
//! over 64 KiB segments anyway. No default route: only our prefixes lead here.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tun_rs::{AsyncDevice, DeviceBuilder};

use super::TunError;
use super::limits::{MTU_FALLBACK, PACKET_BYTES_MAX};
use super::plan::Addresses;
use super::stack::Transmit;

/// Packets that the kernel may queue for us: 128 MiB at the largest, in practice bounded by the flows' windows.
const QUEUE_LEN: u32 = 2_000;

thread_local! {
    /// Where a packet is put together before it is written: one per thread, so that flows need none of their own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; PACKET_BYTES_MAX]);
}

/// The open device; clones are the same one.
#[derive(Clone)]
pub struct Device {
    device: Arc<AsyncDevice>,
    failed: Arc<AtomicU64>,
}

/// What was opened.
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Its MTU, bytes.
    pub mtu: u16,
}

impl Device {
    /// Opens the device `name`, gives it its IPv4 address and brings it up; IPv6 follows by
    /// [`super::routes::Routes::settle_link`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`TunError::NotPermitted`] without the capability or the device node; [`TunError::Device`] otherwise.
    pub fn open(name: &str, mtu: u16, addresses: &Addresses) -> Result<Opened, TunError> {
        let (v4, _) = addresses.ours();
        let device = DeviceBuilder::new()
            .name(name)
            .ipv4(v4, addresses.ipv4.len, None)
            .build_async()
            .map_err(TunError::from_device)?;
        Self::settle(device, mtu)
    }

    /// Takes over the device that an earlier run parked: it is there still, with all that hangs from it.
    ///
    /// # Errors
    /// The descriptor is no TUN device of ours: another thing, another name, gone, or not framed as we do it.
    pub fn adopt(parked: OwnedFd, name: &str, mtu: u16) -> Result<Opened, TunError> {
        if !is_tun(&parked).map_err(TunError::from_device)? {
            return Err(TunError::Device("what was parked is no TUN device".into()));
        }
        // SAFETY: the descriptor is open and ours alone, and passes to the device. We parked it, so it was
        // opened without packet information; the call refuses one with other framing that can be told.
        #[allow(unsafe_code)]
        let device = unsafe { AsyncDevice::from_fd(parked.into_raw_fd()) }.map_err(TunError::from_device)?;
        let found = device.name().map_err(TunError::from_device)?;
        if found != name {
            return Err(TunError::Device(format!("the parked device is {found}")));
        }
        // Gone from this network although its descriptor lives on: another namespace, or deleted.
        device.if_index().map_err(TunError::from_device)?;
        Self::settle(device, mtu)
    }

    /// The device behind a descriptor that was handed over, as it is: to read and write packets, no more.
    ///
    /// # Errors
    /// It is no TUN device.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        if !is_tun(&descriptor)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the descriptor is open and ours alone, and passes to the device.
        #[allow(unsafe_code)]
        let device = unsafe { AsyncDevice::from_fd(descriptor.into_raw_fd()) }?;
        Ok(Self { device: Arc::new(device), failed: Arc::default() })
    }

    /// What is set alike on a new device and on one that was taken over.
    fn settle(device: AsyncDevice, mtu: u16) -> Result<Opened, TunError> {
        device.enabled(true).map_err(TunError::from_device)?;
        // Inside a user namespace the kernel keeps its own length, which is enough to work with.
        if let Err(error) = device.set_tx_queue_len(QUEUE_LEN) {
            tracing::debug!(%error, "the TUN device keeps its queue length");
        }
        let mtu = match device.set_mtu(mtu) {
            Ok(()) => mtu,
            Err(error) if mtu > MTU_FALLBACK => {
                tracing::warn!(%error, mtu, fallback = MTU_FALLBACK, "the TUN device does not take this MTU");
                device.set_mtu(MTU_FALLBACK).map_err(TunError::from_device)?;
                MTU_FALLBACK
            }
            Err(error) => return Err(TunError::from_device(error)),
        };
        Ok(Opened { device: Self { device: Arc::new(device), failed: Arc::default() }, mtu })
    }

    /// The descriptor, to park it.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        let number = self.device.as_raw_fd();
        // SAFETY: the device is open for as long as it is borrowed here.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(number)
        }
    }

    /// The next packet. Cancel-safe.
    ///
    /// # Errors
    /// The device is gone.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer).await
    }

    /// The next packet if one is there.
    ///
    /// # Errors
    /// `WouldBlock` when none is; else the device is gone.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.try_recv(buffer)
    }

    /// Sends a packet that is complete.
    pub fn send(&self, packet: &[u8]) {
        if self.device.try_send(packet).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Packets that the kernel did not take.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Whether a descriptor is a TUN device's (not a TAP device's): `TUNGETIFF`, linux/if_tun.h.
fn is_tun(descriptor: &OwnedFd) -> io::Result<bool> {
    // SAFETY: `ifreq` is plain old data, of which all zeroes is a value.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills an `ifreq`, which this is; a descriptor of another kind gives an error.
    #[allow(unsafe_code)]
    let done = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful call has set the flags.
    #[allow(unsafe_code)]
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok(flags & libc::IFF_TUN != 0)
}

impl Transmit for Device {
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            let filled = fill(&mut scratch[..length]);
            self.send(&scratch[..length]);
            filled
        })
    }
}
