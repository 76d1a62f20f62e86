import assert from "node:assert/strict";
import { test } from "node:test";
import { type InstanceConfig, type Platform, qemuCommand } from "../src/index.ts";

const MANIFEST = "ab".repeat(32);

function config(platform: Platform, change: Partial<InstanceConfig> = {}): InstanceConfig {
  return {
    image: {
      identity: `sha256:${"12".repeat(32)}`,
      name: "demo:latest",
      directory: "/state/images/1,2",
      shape: "disk",
      cmdline: `quiet panic=-1 loglevel=1 console=null cryptomgr.notests shelter.manifest=${MANIFEST} shelter.root=${"cd".repeat(32)}`,
    },
    platform,
    accelerator: platform === "vtpm" || platform === "none" ? "tcg" : "kvm",
    memory: 256 << 20,
    cpus: 2,
    outbound: false,
    attest: true,
    broker: null,
    args: null,
    env: [],
    tty: false,
    stdin: false,
    mounts: [],
    ports: [],
    remove: false,
    bootTimeout: null,
    ...change,
  };
}

const PATHS = {
  agentSocket: "/run/s/agent",
  monitorSocket: "/run/s/monitor",
  tpmSocket: "/run/s/tpm",
  variables: "/state/i/vars,1",
};
const HOST = {
  qemu: "/usr/bin/qemu-system-x86_64",
  firmware: { ovmfCode: "/fw/CODE.fd", ovmfVars: "/fw/VARS.fd", ovmfAmdSev: "/fw/AMDSEV.fd", ovmfTdx: null },
  cbitPosition: null,
  reducedPhysBits: null,
};

const HEAD =
  "/usr/bin/qemu-system-x86_64 -name shelter-121212121212 -nodefaults -no-user-config -no-reboot " +
  "-display none -serial none -parallel none " +
  "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
const OFF = "smm=off,hpet=off,vmport=off,i8042=off,sata=off,smbus=off,usb=off,graphics=off";
const BOOT =
  "-kernel /state/images/1,2/kernel -initrd /state/images/1,2/initrd -append " +
  `quiet panic=-1 loglevel=1 console=null cryptomgr.notests shelter.manifest=${MANIFEST} shelter.root=${"cd".repeat(32)}`;

function tail(virtio: string): string {
  return (
    "-chardev socket,id=monitor,path=/run/s/monitor -mon chardev=monitor,mode=control " +
    "-chardev socket,id=agent,path=/run/s/agent " +
    `-device virtio-serial-pci,id=serial0,max_ports=2${virtio} ` +
    "-device virtserialport,bus=serial0.0,chardev=agent,name=shelter.0 " +
    "-drive if=none,id=root,format=raw,readonly=on,file=/state/images/1,,2/root.squashfs " +
    `-device virtio-blk-pci,drive=root,serial=shelter-root${virtio} ` +
    "-drive if=none,id=verity,format=raw,readonly=on,file=/state/images/1,,2/root.verity " +
    `-device virtio-blk-pci,drive=verity,serial=shelter-verity${virtio}`
  );
}

const CONFIDENTIAL = ",disable-legacy=on,iommu_platform=on";

/** The whole command line of each platform, written out. */
const EXPECTED: Readonly<Record<Platform, string>> = {
  vtpm:
    `${HEAD} -accel tcg,thread=multi -machine pc-q35-7.2,${OFF} -cpu max,host-phys-bits=off,phys-bits=40 ` +
    "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=256M " +
    "-drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/CODE.fd " +
    `-drive if=pflash,unit=1,format=raw,file=/state/i/vars,,1 ${BOOT} ` +
    "-chardev socket,id=tpm,path=/run/s/tpm -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0 " +
    tail(""),
  none:
    `${HEAD} -accel tcg,thread=multi -machine pc-q35-7.2,${OFF} -cpu max,host-phys-bits=off,phys-bits=40 ` +
    `-smp cpus=2,sockets=1,cores=2,threads=1 -m size=256M ${BOOT} ${tail("")}`,
  snp:
    `${HEAD} -accel kvm -machine q35,${OFF},confidential-guest-support=sev0,memory-backend=ram0 -cpu EPYC-v4 ` +
    "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=256M " +
    "-object memory-backend-memfd,id=ram0,size=256M,share=true,prealloc=false " +
    "-object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000,kernel-hashes=on," +
    `host-data=q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s= -bios /fw/AMDSEV.fd ${BOOT} ${tail(CONFIDENTIAL)}`,
  tdx:
    `${HEAD} -accel kvm -machine q35,${OFF},kernel-irqchip=split,confidential-guest-support=tdx0,memory-backend=ram0 ` +
    "-cpu host -smp cpus=2,sockets=1,cores=2,threads=1 -m size=256M " +
    "-object memory-backend-memfd,id=ram0,size=256M,share=true,prealloc=false " +
    '-object {"qom-type":"tdx-guest","id":"tdx0","mrconfigid":' +
    '"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6sAAAAAAAAAAAAAAAAAAAAA",' +
    '"quote-generation-socket":{"type":"unix","path":"/var/run/tdx-qgs/qgs.socket"}} ' +
    `-bios OVMF.inteltdx.fd ${BOOT} ${tail(CONFIDENTIAL)}`,
  csv:
    `${HEAD} -accel kvm -machine q35,${OFF},confidential-guest-support=csv0 -cpu host ` +
    "-smp cpus=2,sockets=1,cores=2,threads=1 -m size=256M " +
    "-object sev-guest,id=csv0,policy=0x5,cbitpos=47,reduced-phys-bits=5,kernel-hashes=on " +
    `-drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/AMDSEV.fd ${BOOT} ${tail(CONFIDENTIAL)}`,
};

for (const [platform, expected] of Object.entries(EXPECTED) as [Platform, string][]) {
  test(`the command line of ${platform} is exactly this`, () => {
    assert.equal(qemuCommand(config(platform), PATHS, HOST).argv.join(" "), expected);
  });
}

test("a guest with everything in its initrd has no disks", () => {
  const initrd = config("none");
  const { argv } = qemuCommand({ ...initrd, image: { ...initrd.image, shape: "initrd" } }, PATHS, HOST);
  assert.ok(!argv.some((a) => /virtio-blk|root\.|^-drive$/.test(a)));
});

test("a guest without outbound has no network card, and one with it says what it can reach", () => {
  const none = qemuCommand(config("none"), PATHS, HOST);
  assert.ok(!none.argv.some((a) => /netdev|virtio-net|^-nic$/.test(a)));
  assert.deepEqual(none.notices, []);
  const out = qemuCommand(config("none", { outbound: true }), PATHS, HOST);
  assert.deepEqual(out.argv.slice(-4), [
    "-netdev",
    "user,id=net0",
    "-device",
    "virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:12:34:56",
  ]);
  assert.deepEqual(out.notices, [
    "the guest has outbound network; it reaches services on this host's loopback as 10.0.2.2",
  ]);
});

test("the machine depends on CPUs and memory alone: two instances differ only in their own files", () => {
  const a = qemuCommand(config("vtpm"), PATHS, HOST).argv;
  const other = { agentSocket: "/o/a", monitorSocket: "/o/m", tpmSocket: "/o/t", variables: "/o/v" };
  const b = qemuCommand(
    config("vtpm", { args: ["x"], env: ["A=b"], tty: true, stdin: true }),
    other,
    HOST,
  ).argv;
  const differing = a.filter((v, i) => v !== b[i]);
  assert.equal(a.length, b.length);
  assert.ok(
    differing.every((v) => /\/run\/s\/|\/state\/i\//.test(v)),
    differing.join(" "),
  );
});

for (const [what, change, message] of [
  [
    "memory that is no whole number of MiB",
    { memory: (256 << 20) + 1 },
    "memory of 268435457 bytes is not a whole number of MiB",
  ],
  ["too little memory", { memory: 64 << 20 }, "memory of 64 MiB is less than the 96 MiB a guest boots in"],
  ["no CPU", { cpus: 0 }, "0 CPUs are not 1 to 255"],
] as const) {
  test(`refuses ${what}`, () => {
    assert.throws(() => qemuCommand(config("none", change), PATHS, HOST), {
      code: "INSTANCE_CONFIG",
      message,
    });
  });
}
