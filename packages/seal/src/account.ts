import { SealError } from "./errors.ts";
import type { User } from "./manifest.ts";

/** What `/etc/passwd` and `/etc/group` of an image say of a user. */
export type Account = User & { readonly home: string };

type PasswdEntry = { name: string; uid: number; gid: number; home: string };
type GroupEntry = { name: string; gid: number; members: readonly string[] };

const MAX_ID = 0xfffffffe; // 2³²-1 means "leave as it is" to the kernel
const MAX_LINES = 65536;
const MAX_GROUPS = 256;

/**
 * Resolves `USER[:GROUP]` as Docker does: names before numbers; a number needs no entry; supplementary groups
 * are those that list the user, unless a group is given.
 */
export function resolveUser(spec: string, passwd: string, group: string): Account {
  const users = parsePasswd(passwd);
  const groups = parseGroup(group);
  const [userPart = "", groupPart] = spec.split(":", 2);
  const wanted = userPart === "" ? "0" : userPart;
  const user = users.find((u) => u.name === wanted) ?? users.find((u) => String(u.uid) === wanted);
  const uid = user?.uid ?? parseId(wanted);
  if (uid === undefined) {
    throw new SealError(
      "USER_UNKNOWN",
      "usage",
      `the image has no user ${JSON.stringify(wanted.slice(0, 80))}`,
      {
        hint: "name a user of the image's /etc/passwd, or a number, in process.user of shelter.yaml",
      },
    );
  }
  const home = user?.home ?? "/";
  if (groupPart !== undefined && groupPart !== "") {
    const found = groups.find((g) => g.name === groupPart) ?? groups.find((g) => String(g.gid) === groupPart);
    const gid = found?.gid ?? parseId(groupPart);
    if (gid === undefined) {
      throw new SealError(
        "USER_UNKNOWN",
        "usage",
        `the image has no group ${JSON.stringify(groupPart.slice(0, 80))}`,
        {
          hint: "name a group of the image's /etc/group, or a number, in process.user of shelter.yaml",
        },
      );
    }
    return { uid, gid, groups: [], home };
  }
  const gid = user?.gid ?? 0;
  const member = user === undefined ? [] : groups.filter((g) => g.members.includes(user.name));
  const extra = [...new Set(member.map((g) => g.gid))].filter((g) => g !== gid).sort((a, b) => a - b);
  if (extra.length > MAX_GROUPS) {
    throw new SealError(
      "USER_UNKNOWN",
      "malformed",
      `user ${wanted} is in ${extra.length} groups, more than ${MAX_GROUPS}`,
    );
  }
  return { uid, gid, groups: extra, home };
}

function parseId(text: string): number | undefined {
  if (!/^(?:0|[1-9][0-9]{0,9})$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

/** passwd(5); lines that are not entries are passed over, as libc does. */
function parsePasswd(text: string): PasswdEntry[] {
  return lines(text).flatMap(([name = "", , uidText = "", gidText = "", , home = ""]) => {
    const uid = parseId(uidText);
    const gid = parseId(gidText);
    if (name === "" || uid === undefined || gid === undefined) return [];
    return [{ name, uid, gid, home: home.startsWith("/") ? home : "/" }];
  });
}

/** group(5). */
function parseGroup(text: string): GroupEntry[] {
  return lines(text).flatMap(([name = "", , gidText = "", members = ""]) => {
    const gid = parseId(gidText);
    if (name === "" || gid === undefined) return [];
    return [{ name, gid, members: members.split(",").filter((m) => m !== "") }];
  });
}

function lines(text: string): string[][] {
  return text
    .split("\n", MAX_LINES)
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.trimEnd().split(":"));
}
