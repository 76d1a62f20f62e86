"""Lists a directory, one JSON line a name, for comparing what two independent tools unpacked."""

import hashlib, json, os, stat, sys

root = os.fsencode(sys.argv[1])
names = [b"."]
for parent, dirs, files in os.walk(root):
    for name in dirs + files:
        names.append(os.path.relpath(os.path.join(parent, name), root))
first = {}
for name in sorted(names):
    path = os.path.join(root, name)
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    line = {
        "name": name.decode("latin1"),
        "mode": oct(st.st_mode),
        "owner": [st.st_uid, st.st_gid],
        "mtime": int(st.st_mtime),
        "xattrs": {k: os.getxattr(path, k, follow_symlinks=False).hex()
                   for k in sorted(os.listxattr(path, follow_symlinks=False)) if k != "security.selinux"},
        "inode": first.setdefault(st.st_ino, name.decode("latin1")),
    }
    if kind == stat.S_IFLNK:
        line["target"] = os.fsencode(os.readlink(path)).decode("latin1")
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        line["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    if kind == stat.S_IFREG:
        with open(path, "rb") as f:
            line["sha256"] = hashlib.sha256(f.read()).hexdigest()
    print(json.dumps(line, sort_keys=True))
