//! The TUN device: opening it with its addresses, and packets in and out.
//!
//! One queue, no packet information. With an MTU of 65,535 the kernel hands over 64 KiB segments as it is;
//! only checksums are left out by either side (`IFF_VNET_HDR`, `TUN_F_CSUM`): both ends of a packet are this
//! machine's memory. Where the kernel passes a packet on to another device, it adds its checksum.
//! No default route: only our prefixes lead here.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::uio::{readv, writev};
use tokio::io::unix::AsyncFd;
use tun_rs::DeviceBuilder;

use super::TunError;
use super::limits::PACKET_BYTES_MAX;
use super::plan::Addresses;
use super::stack::{Transmit, partial_checksum};

/// What stands before each packet (`virtio_net_hdr`, linux/virtio_net.h): flags, kind of offload, lengths of the
/// headers and of a segment, where the checksum begins and where it goes. Numbers in the machine's own order.
const VNET_HEADER_LEN: usize = 10;
/// Flag: the checksum is the receiver's to finish, from the start that is given (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CHECKSUM: u8 = 1;
/// Where the checksum's start and place stand in the header.
const CHECKSUM_START_AT: usize = 6;

thread_local! {
    /// Where a packet is put together before it is written: one per thread, so that flows need none of their own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; PACKET_BYTES_MAX]);
}

/// The open device; clones are the same one.
#[derive(Clone)]
pub struct Device {
    descriptor: Arc<AsyncFd<OwnedFd>>,
    failed: Arc<AtomicU64>,
}

impl Device {
    /// Opens the device `name` and gives it its IPv4 address; the rest follows by
    /// [`super::routes::Routes::settle_link`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`TunError::NotPermitted`] without the capability or the device node; [`TunError::Device`] otherwise.
    pub fn open(name: &str, addresses: &Addresses) -> Result<Self, TunError> {
        let (v4, _) = addresses.ours();
        let device = DeviceBuilder::new()
            .name(name)
            .ipv4(v4, addresses.ipv4.len, None)
            .offload(true)
            .build_sync()
            .map_err(TunError::from_device)?;
        device.set_nonblocking(true).map_err(TunError::from_device)?;
        // SAFETY: the descriptor is open, and its owner has just given it up.
        #[allow(unsafe_code)]
        let descriptor = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
        Self::of(descriptor).map_err(TunError::from_device)
    }

    /// Takes over the device that an earlier run parked: it is there still, with all that hangs from it.
    ///
    /// # Errors
    /// The descriptor is no TUN device of ours: another thing, another name, gone, or not framed as we do it.
    pub fn adopt(parked: OwnedFd, name: &str) -> Result<Self, TunError> {
        let (found, _) = described(&parked).map_err(TunError::from_device)?;
        if found != name {
            return Err(TunError::Device(format!("the parked device is {found}")));
        }
        // Gone from this network although its descriptor lives on: another namespace, or deleted.
        nix::net::if_::if_nametoindex(name).map_err(|error| TunError::from_device(error.into()))?;
        Self::of(parked).map_err(TunError::from_device)
    }

    /// The device behind a descriptor that does not block, framed as we do it: to read and write packets, no more.
    ///
    /// # Errors
    /// It is no such TUN device.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        let (_, flags) = described(&descriptor)?;
        let framing = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if flags & framing != framing {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no TUN device that is framed as ours"));
        }
        // Whole segments with their checksums left out, and nothing that would have to be cut up.
        // SAFETY: the call takes a plain number.
        #[allow(unsafe_code)]
        let set =
            unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(libc::TUN_F_CSUM)) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: an owned descriptor stays open for as long as it is registered, and is always the same one.
        #[allow(unsafe_code)]
        let descriptor = unsafe { AsyncFd::register(descriptor) }?;
        Ok(Self { descriptor: Arc::new(descriptor), failed: Arc::default() })
    }

    /// The descriptor, to park it.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The next packet. Cancel-safe.
    ///
    /// # Errors
    /// The device is gone.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            if let Ok(received) = ready.try_io(|descriptor| receive(descriptor.get_ref(), buffer)) {
                return received;
            }
        }
    }

    /// Waits for packets and hands on those that are there, at most `most`. Whether that were all. Cancel-safe.
    ///
    /// # Errors
    /// The device is gone.
    pub async fn recv_each(&self, buffer: &mut [u8], most: usize, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut ready = self.descriptor.readable().await?;
        for _ in 0..most {
            match ready.try_io(|descriptor| receive(descriptor.get_ref(), buffer)) {
                Ok(Ok(length)) => each(buffer.get(..length).unwrap_or_default()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Sends a packet that is complete.
    pub fn send(&self, packet: &[u8]) {
        self.send_after([0; VNET_HEADER_LEN], packet);
    }

    /// Sends a packet after this header.
    fn send_after(&self, header: [u8; VNET_HEADER_LEN], packet: &[u8]) {
        if writev(self.descriptor.get_ref(), &[IoSlice::new(&header), IoSlice::new(packet)]).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Packets that the kernel did not take.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Reads a packet; 0 bytes is one that is too short to be one.
fn receive(descriptor: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut header = [0; VNET_HEADER_LEN];
    let length = readv(descriptor, &mut [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)])?;
    Ok(length.saturating_sub(VNET_HEADER_LEN))
}

/// Name and flags of a descriptor's TUN device: `TUNGETIFF`, linux/if_tun.h.
fn described(descriptor: &OwnedFd) -> io::Result<(String, libc::c_int)> {
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
    let name = request.ifr_name.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
    Ok((String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned(), flags))
}

impl Transmit for Device {
    fn transmit_with<R>(&self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            let packet = &mut scratch[..length];
            let filled = fill(packet);
            let mut header = [0; VNET_HEADER_LEN];
            if let Some((start, place)) = partial_checksum(packet) {
                header[0] = NEEDS_CHECKSUM;
                header[CHECKSUM_START_AT..][..2].copy_from_slice(&start.to_ne_bytes());
                header[CHECKSUM_START_AT + 2..].copy_from_slice(&place.to_ne_bytes());
            }
            self.send_after(header, packet);
            filled
        })
    }
}
