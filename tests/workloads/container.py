"""Becomes a program in a root of its own, as a container's runtime would start it.

    unshare [--user --map-root-user] --mount --pid --fork python container.py SYSTEM ROOT KIND CHANGE FILE PROGRAM [ARGUMENT...]

SYSTEM is a folder with unpacked packages, ROOT an empty folder that the root is made in. KIND is `tmpfs` (the packages'
folders are bound into it) or `overlay` (they are the lowest layer). CHANGE is `pivot`
(pivot_root: nothing of the host's root is left) or `chroot`. FILE is copied to /srv/app in the new root.
"""

import ctypes
import os
import shutil
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PIVOT_ROOT = 155  # system call of x86-64


def checked(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source, target, kind=None, flags=0, options=None):
    encoded = [os.fsencode(word) if word else None for word in (source, target, kind, options)]
    checked(LIBC.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]))


def bound(system, root):
    """The packages' folders in an empty root; what is a link there stays one."""
    mount("tmpfs", root, "tmpfs")
    for name in ("usr", "lib", "lib64", "etc"):
        source, target = os.path.join(system, name), os.path.join(root, name)
        if os.path.isdir(source):
            os.mkdir(target)
            mount(source, target, flags=MS_BIND | MS_REC)
        else:
            os.symlink(os.path.join("usr", name), target)


def layer(folder, system, path, inode):
    """A filesystem with one file of the packages', of this inode number."""
    os.mkdir(folder)
    mount("tmpfs", folder, "tmpfs")
    target = os.path.join(folder, path)
    os.makedirs(os.path.dirname(target))
    number, filler = 0, os.path.join(folder, "filler")
    while number != inode - 1:
        open(filler, "w").close()
        number = os.stat(filler).st_ino
        os.unlink(filler)
    shutil.copy(os.path.join(system, path), target)
    assert os.stat(target).st_ino == inode


def overlaid(system, root, program):
    """Layers of four filesystems in one. The program and the C library have the same inode number, in two of them, and
    /proc/PID/maps shows both under one device."""
    mount("tmpfs", root, "tmpfs")
    upper, work, merged = (os.path.join(root, name) for name in ("upper", "work", "merged"))
    for folder in (upper, work, merged):
        os.mkdir(folder)
    layers = [os.path.join(root, name) for name in ("one", "two")]
    layer(layers[0], system, program.lstrip("/"), 20)
    layer(layers[1], system, "usr/lib/x86_64-linux-gnu/libc.so.6", 20)
    lower = ":".join([*layers, system])
    mount("overlay", merged, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    for name in ("lib", "lib64"):
        if not os.path.isdir(os.path.join(merged, name)):
            os.symlink(os.path.join("usr", name), os.path.join(merged, name))
    return merged


def main(system, root, kind, change, file, *command):
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    if kind == "overlay":
        root = overlaid(system, root, command[0])
    else:
        bound(system, root)
    for name in ("proc", "dev", "tmp", "srv/app"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    mount("proc", os.path.join(root, "proc"), "proc")
    open(os.path.join(root, "dev/null"), "w").close()
    mount("/dev/null", os.path.join(root, "dev/null"), flags=MS_BIND)
    shutil.copy(file, os.path.join(root, "srv/app"))
    os.chdir(root)
    if change == "pivot":
        checked(LIBC.syscall(PIVOT_ROOT, b".", b"."))
        checked(LIBC.umount2(b".", MNT_DETACH))
    else:
        os.chroot(".")
    os.chdir("/")
    os.environ.update(PATH="/usr/bin", HOME="/", TMPDIR="/tmp")
    os.execv(command[0], command)


main(*sys.argv[1:])
