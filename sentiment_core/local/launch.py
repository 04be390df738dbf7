"""Become the program of a component: drop root where it must not be root, die with the parent where asked.

Run as a script (`python -I -S launch.py [--tethered] [--user UID:GID] [--reach] PROGRAM ARGS...`), standard library
only, because it runs between fork and the program: a preexec function in a threaded supervisor could deadlock.

PostgreSQL refuses to run as root. As another user it could not reach a data directory below /root or any other
closed folder; `--reach` keeps the one capability that opens paths (Linux ambient capabilities), nothing else.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 4
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Apply the options, then turn into the program; keeps the process id."""
    tethered = reach = False
    user: tuple[int, int] | None = None
    while arguments and arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option == "--tethered":
            tethered = True
        elif option == "--reach":
            reach = True
        elif option == "--user":
            uid, gid = arguments.pop(0).split(":")
            user = (int(uid), int(gid))
    if user is not None:
        become(user, reach=reach)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background inherits it ignored
    if tethered and sys.platform == "linux":
        parent = os.getppid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it died before the tether was tied
            sys.exit(1)
    os.execv(arguments[0], arguments)  # noqa: S606  # no shell is wanted


def become(user: tuple[int, int], *, reach: bool) -> None:
    """Give up root for `user` (uid, gid), keeping the capability to open paths when `reach` is set."""
    if reach:
        # initdb asks access(2) about its neighbour, which looks at capabilities only under this bit
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(user[1])
    os.setuid(user[0])
    if reach:
        _keep_only(_CAP_DAC_OVERRIDE)
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def _keep_only(capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    # effective, permitted, inheritable; low words first
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if _libc().capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)][:4]
    if _libc().prctl(ctypes.c_int(option), *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1:])
