//! What kind of processor this is.

use std::arch::x86_64::__cpuid;

/// The leaf where a hypervisor introduces itself, and QEMU's emulator as it does.
const HYPERVISOR: u32 = 0x4000_0000;
const EMULATOR: [u8; 12] = *b"TCGTCGTCGTCG";

/// Whether instructions are emulated one by one, which makes the wide ones slower than plain code. The host could
/// lie; it would only slow its guest down.
pub fn is_emulated() -> bool {
    let leaf = __cpuid(HYPERVISOR);
    [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|word| word.to_le_bytes()).eq(EMULATOR)
}
