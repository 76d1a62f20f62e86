//! Refuses connections from outside: a BPF program on the root cgroup drops every TCP segment that would open
//! one, unless it came over the loopback device. Answers to what the guest opened pass.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_SKB: u32 = 8;
const ATTACH_INET_INGRESS: u32 = 0;
const LOAD_BYTES: i32 = 26;
/// Offset of ifindex in struct __sk_buff; the loopback device is always number 1.
const IFINDEX: i16 = 40;
const LOOPBACK: i32 = 1;
const TCP: i32 = 6;
const SYN: i32 = 0x02;
const SYN_ACK: i32 = 0x12;

/// One instruction: code, registers (source in the high half), offset, immediate.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn op(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset, immediate }
}

const MOVE: u8 = 0xBF;
const MOVE_NUMBER: u8 = 0xB7;
const ADD_NUMBER: u8 = 0x07;
const AND_NUMBER: u8 = 0x57;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const LOAD_WORD: u8 = 0x61;
const LOAD_BYTE: u8 = 0x71;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_OTHER: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

fn program() -> [Instruction; 32] {
    [
        op(MOVE, 6, 1, 0, 0),
        op(LOAD_WORD, 2, 6, IFINDEX, 0),
        op(JUMP_EQUAL, 2, 0, 25, LOOPBACK), // -> allow (28)
        // The IPv4 header to the stack.
        op(MOVE, 1, 6, 0, 0),
        op(MOVE_NUMBER, 2, 0, 0, 0),
        op(MOVE, 3, 10, 0, 0),
        op(ADD_NUMBER, 3, 0, 0, -24),
        op(MOVE_NUMBER, 4, 0, 0, 20),
        op(CALL, 0, 0, 0, LOAD_BYTES),
        op(JUMP_OTHER, 0, 0, 20, 0), // -> drop (30)
        op(LOAD_BYTE, 7, 10, -24, 0),
        op(MOVE, 8, 7, 0, 0),
        op(SHIFT_RIGHT, 8, 0, 0, 4),
        op(JUMP_OTHER, 8, 0, 16, 4), // not IPv4 -> drop
        op(AND_NUMBER, 7, 0, 0, 15),
        op(SHIFT_LEFT, 7, 0, 0, 2),
        op(LOAD_BYTE, 2, 10, -15, 0),
        op(JUMP_OTHER, 2, 0, 10, TCP), // -> allow (28)
        // The byte of the TCP flags.
        op(MOVE, 1, 6, 0, 0),
        op(MOVE, 2, 7, 0, 0),
        op(ADD_NUMBER, 2, 0, 0, 13),
        op(MOVE, 3, 10, 0, 0),
        op(ADD_NUMBER, 3, 0, 0, -8),
        op(MOVE_NUMBER, 4, 0, 0, 1),
        op(CALL, 0, 0, 0, LOAD_BYTES),
        op(LOAD_BYTE, 2, 10, -8, 0),
        op(AND_NUMBER, 2, 0, 0, SYN_ACK),
        op(JUMP_EQUAL, 2, 0, 2, SYN), // -> drop (30)
        op(MOVE_NUMBER, 0, 0, 0, 1),
        op(EXIT, 0, 0, 0, 0),
        op(MOVE_NUMBER, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]
}

/// The part of union bpf_attr that loading takes.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    rest: [u64; 3],
}

/// The part that attaching takes.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Closes the guest to connections from outside. The program stays while the cgroup does, that is, for good.
pub fn refuse_inbound() -> io::Result<()> {
    let code = program();
    let load = LoadAttributes {
        kind: TYPE_CGROUP_SKB,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        rest: [0; 3],
    };
    let program = bpf(PROG_LOAD, &load)?;
    // SAFETY: the call above made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let cgroup = File::open("/sys/fs/cgroup")?;
    let attach = AttachAttributes {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_INET_INGRESS,
        flags: 0,
    };
    bpf(PROG_ATTACH, &attach).map(|_| ())
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the structure is the beginning of union bpf_attr for the command, as long as said; what it points
    // at outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, std::mem::size_of::<T>()) };
    if result < 0 { Err(Errno::last().into()) } else { Ok(result as i32) }
}
