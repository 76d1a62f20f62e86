# 64 KiB of BIOS at F000:0000. Enters long mode with paging, uses SSE2 and 64-bit arithmetic, and
# reports 1 through the debug-exit port (QEMU then exits with status 3).
.code16
.org 0
start:
  cli
  mov $0xf000, %ax
  mov %ax, %ds
  xor %ax, %ax
  mov %ax, %es
  mov $0x1000, %di
  mov $0x1800, %cx
  rep stosw
  movw $0x2003, %es:0x1000
  movw $0x3003, %es:0x2000
  movw $0x0083, %es:0x3000
  lgdtl gdtr
  mov $0x1000, %eax
  mov %eax, %cr3
  mov $0x620, %eax
  mov %eax, %cr4
  mov $0xc0000080, %ecx
  rdmsr
  or $0x100, %eax
  wrmsr
  mov $0x80000003, %eax
  mov %eax, %cr0
  ljmpl $8, $(0xf0000 + long)
.code64
long:
  mov $16, %eax
  mov %eax, %ds
  mov %eax, %ss
  mov $0x7000, %rsp
  mov $0x100000001, %rax
  movq %rax, %xmm0
  paddq %xmm0, %xmm0
  movq %xmm0, %rbx
  mov $0x200000002, %rcx
  cmp %rbx, %rcx
  jne fail
  mov $1, %al
  jmp report
fail:
  mov $2, %al
report:
  mov $0xf4, %dx
  out %al, %dx
halt:
  hlt
  jmp halt
.balign 8
gdt:
  .quad 0
  .quad 0x00af9b000000ffff
  .quad 0x00cf93000000ffff
gdtr:
  .word gdtr - gdt - 1
  .long 0xf0000 + gdt
.org 0xfff0
.code16
  ljmp $0xf000, $start
.org 0x10000
