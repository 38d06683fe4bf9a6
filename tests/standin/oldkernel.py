"""System calls that proot 5.1 does not translate are made to fail as on a kernel that lacks them.

statx(2) and faccessat2(2) are younger than proot; through them a program of the board would look at
this machine's files. Where the kernel says ENOSYS, the C library takes the older calls. One seccomp
filter in the board's first process; all others inherit it.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# statx, openat2, faccessat2, fchmodat2
NUMBERS = {"x86_64": (332, 437, 439, 452), "aarch64": (291, 437, 439, 452)}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, FILTER = 22, 2


def pretend() -> None:
    """Filter the calls of this process and of all that it starts; needs root."""
    numbers = NUMBERS[platform.machine()]
    steps = [(LOAD, 0, 0, 0)]  # the call's number
    steps += [(EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps),
                                                      ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
