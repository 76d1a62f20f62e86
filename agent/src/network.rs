//! The guest's network: a loopback always, and QEMU's user network where the manifest grants it. Addresses are
//! fixed: nothing the host says configures anything.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::failure::Failure;
use crate::filter;
use crate::machine::modules::{Modules, Need};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The resolver of QEMU's user network.
pub const RESOLVER: &str = "10.0.2.3";

fn fail(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new("NETWORK_FAILED", format_args!("{what}: {error}"))
}

/// Brings up the loopback device.
pub fn loopback() -> Result<(), Failure> {
    let socket = control()?;
    up(&socket, "lo")
}

/// Brings up the way out, closed to whoever wants in.
pub fn outbound(modules: &mut Modules) -> Result<(), Failure> {
    filter::refuse_inbound().map_err(|e| fail("cannot close the network to the outside", e))?;
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").map_err(|e| fail("cannot turn IPv6 off", e))?;
    modules.load(Need::Network)?;
    let name = device()?;
    let socket = control()?;
    let mut request = request(&name);
    request.ifr_ifru.ifru_addr = address(ADDRESS);
    call(&socket, libc::SIOCSIFADDR, &mut request, "cannot set the address")?;
    request.ifr_ifru.ifru_netmask = address(MASK);
    call(&socket, libc::SIOCSIFNETMASK, &mut request, "cannot set the netmask")?;
    up(&socket, &name)?;
    // SAFETY: rtentry is plain numbers and a null pointer for its device name.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address(GATEWAY);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    call(&socket, libc::SIOCADDRT, &mut route, "cannot set the route")
}

/// The one network device beside the loopback.
fn device() -> Result<String, Failure> {
    let entries = fs::read_dir("/sys/class/net").map_err(|e| fail("cannot list network devices", e))?;
    entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .find(|name| name != "lo")
        .ok_or_else(|| fail("network.outbound is granted", "there is no network device"))
}

fn control() -> Result<OwnedFd, Failure> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| fail("cannot open a socket", e))
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain bytes and numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

fn address(ip: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = ip.octets();
    // SAFETY: sockaddr is plain bytes and numbers.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    address.sa_family = libc::AF_INET as libc::sa_family_t;
    // struct sockaddr_in: two bytes of port, then the address.
    for (place, byte) in address.sa_data.iter_mut().skip(2).zip([a, b, c, d]) {
        *place = byte as libc::c_char;
    }
    address
}

fn up(socket: &OwnedFd, name: &str) -> Result<(), Failure> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(socket, libc::SIOCSIFFLAGS, &mut request, "cannot bring a network device up")
}

fn call<T>(socket: &OwnedFd, code: libc::c_ulong, argument: &mut T, what: &str) -> Result<(), Failure> {
    // SAFETY: each caller pairs the code with the structure it reads, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code, std::ptr::from_mut(argument)) };
    if result < 0 { Err(fail(what, Errno::last().desc())) } else { Ok(()) }
}
