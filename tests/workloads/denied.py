"""Becomes a command that may not open perf events, and with them watchpoints: as in a container with the usual filter.

    denied.py COMMAND...
"""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD_NUMBER, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
PERF_EVENT_OPEN, NOT_PERMITTED, ALLOW = 298, 0x00050001, 0x7FFF0000

instructions = [
    (LOAD_NUMBER, 0, 0, 0),
    (IF_EQUAL, 0, 1, PERF_EVENT_OPEN),
    (RETURN, 0, 0, NOT_PERMITTED),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)):
    if libc.prctl(*map(ctypes.c_ulong, arguments)) != 0:
        sys.exit(f"prctl{arguments}: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
