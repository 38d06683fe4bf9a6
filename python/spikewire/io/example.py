"""The public example recording: fetched once, checked, cached, never shipped.

64 channels over vastus lateralis, 32.5 s at 2048 Hz, one ramp-hold-ramp to 26 % MVC, with the
decomposition that OTBiolab+ made of it. It lies in the source package of openhdemg 0.1.2.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from spikewire.durable import write_durably
from spikewire.signals import InputError

PACKAGE = "openhdemg==0.1.2"
MEMBER = "openhdemg-0.1.2/openhdemg/library/decomposed_test_files/otb_testfile.mat"
SHA256 = "060bca2886c1393e74ad69b7f4af1fa8e7a271e359fb247768d73f8daa0fc84e"
HOLD_OUT_S = (18.0, 24.0)


def checked(content: bytes) -> bool:
    """Whether these are the bytes that every figure in the documentation was measured on."""
    return hashlib.sha256(content).hexdigest() == SHA256


def fetch(cache: Path, timeout_s: float = 180) -> Path:
    """Path of the recording in `cache`, downloaded from the Python package index if need be.

    Raises
    ------
    InputError
        It cannot be fetched, or it is not the file that was expected.
    """
    path = cache / "vastus_lateralis.mat"
    if path.is_file() and checked(path.read_bytes()):
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--no-binary",
                   "openhdemg", "--dest", folder, "--quiet", "--disable-pip-version-check"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
            reason = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            reason = [f"no answer in {timeout_s:g} s"]
        archives = sorted(Path(folder).glob("openhdemg-*.tar.gz"))
        if reason or not archives:
            raise InputError(
                f"the example recording cannot be fetched ({' '.join(reason) or 'no archive'}); "
                "use your own: make demo REC=your.npz"
            )
        content = read_member(archives[0])
    if not checked(content):
        raise InputError("the example recording is not the expected file (sha256 differs); use "
                         "your own: make demo REC=your.npz")
    write_durably(path, lambda file: file.write(content))
    return path


def read_member(archive: Path) -> bytes:
    """Read the one file in memory; nothing of the archive is unpacked."""
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(MEMBER)
            if file:
                return file.read()
    except KeyError:
        pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{archive.name} is damaged ({error}); try again") from None
    raise InputError(f"{archive.name} holds no {MEMBER}")
