import { FuseServer, MountSource } from "../src/index.ts";

/** One reply: errno (positive) and what follows the header. */
export interface Reply {
  readonly errno: number;
  readonly body: Buffer;
}

/** A guest that speaks FUSE by the bytes of linux/fuse.h, and need not be Linux. */
export class FusePeer {
  readonly server: FuseServer;
  readonly source: MountSource;
  readonly replies: Buffer[] = [];
  #unique = 1n;

  constructor(path: string, readOnly = false) {
    this.source = new MountSource(path, readOnly);
    this.server = new FuseServer(this.source, (reply) => this.replies.push(reply));
  }

  /** Sends a request as it is, without its length. */
  raw(request: Buffer): void {
    this.server.handle(request);
  }

  header(opcode: number, node: bigint, unique: bigint): Buffer {
    const header = Buffer.alloc(36);
    header.writeUInt32LE(opcode, 0);
    header.writeBigUInt64LE(unique, 4);
    header.writeBigUInt64LE(node, 12);
    header.writeUInt32LE(process.getuid?.() ?? 0, 20);
    header.writeUInt32LE(process.getgid?.() ?? 0, 24);
    return header;
  }

  call(opcode: number, node: bigint, ...body: Buffer[]): Reply {
    const unique = this.#unique++;
    const before = this.replies.length;
    this.raw(Buffer.concat([this.header(opcode, node, unique), ...body]));
    const reply = this.replies[before];
    if (reply === undefined) throw new Error(`no reply to operation ${opcode}`);
    if (reply.readUInt32LE(0) !== reply.length || reply.readBigUInt64LE(8) !== unique)
      throw new Error("a wrong reply");
    return { errno: 0 - reply.readInt32LE(4), body: reply.subarray(16) };
  }

  init(): Reply {
    return this.call(26, 0n, u32(7, 36, 131072, 0xffffffff), Buffer.alloc(48));
  }

  /** Number of a name in a directory, or the errno as a negative number. */
  lookup(parent: bigint, name: string): bigint {
    const { errno, body } = this.call(1, parent, text(name));
    return errno === 0 ? body.readBigUInt64LE(0) : BigInt(-errno);
  }

  close(): void {
    this.server.close();
    this.source.close();
  }
}

/** Little-endian numbers of 32 bits. */
export function u32(...values: number[]): Buffer {
  const b = Buffer.alloc(values.length * 4);
  for (const [i, v] of values.entries()) b.writeUInt32LE(v, i * 4);
  return b;
}

/** Little-endian numbers of 64 bits. */
export function u64(...values: (number | bigint)[]): Buffer {
  const b = Buffer.alloc(values.length * 8);
  for (const [i, v] of values.entries()) b.writeBigUInt64LE(BigInt(v), i * 8);
  return b;
}

/** A name with its NUL. */
export function text(value: string): Buffer {
  return Buffer.from(`${value}\0`, "latin1");
}
