"""Put the stand-ins in the place of CUDA's libraries, in this process."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import struct
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
READ, WRITE, EXECUTE = 1, 2, 4


class Refused(Exception):
    """What is here is not what the emulator knows; the message is one line."""


def package(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Refused(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


def extension(folder: Path, name: str) -> Path:
    """Return the shared library of an extension module."""
    return next(folder.glob(f"{name}.*.so"))


def runtime_library() -> Path:
    """Return CuPy's extension module that the CUDA runtime is linked into."""
    return extension(package("cupy_backends") / "cuda" / "api", "runtime")


def digest_of(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _base(library: Path) -> int:
    """Return where a library that is loaded begins in memory."""
    own = os.path.realpath(library)
    with open("/proc/self/maps") as maps:
        starts = [line.partition("-")[0] for line in maps if line.rstrip().endswith(own)]
    return min(int(start, 16) for start in starts)


def _address(function: object) -> int:
    found = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert found is not None
    return found


def _jump(target: int, argument: int | None = None) -> bytes:
    """Return machine code that goes on at an address, with a first argument of its own or not."""
    jump = b"\x48\xb8" + struct.pack("<Q", target) + b"\xff\xe0"  # mov rax, target; jmp rax
    if argument is None:
        return jump
    return b"\x48\xbf" + struct.pack("<Q", argument) + jump  # mov rdi, argument


def _write(address: int, code: bytes) -> None:
    """Overwrite code, which the system maps read-only."""
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    start = address & -PAGE
    span = ctypes.c_void_p(start), ctypes.c_size_t(address + len(code) - start)
    if protect(*span, READ | WRITE | EXECUTE):
        raise OSError(ctypes.get_errno(), "mprotect: code can't be overwritten here")
    ctypes.memmove(address, code, len(code))
    protect(*span, READ | EXECUTE)


def install(target: Path) -> list[object]:
    """Load the libraries in `target` and replace the CUDA runtime that CuPy was linked with.

    CuPy opens libcuda, libnvrtc and libcublas by their names, and takes those that are there
    already. The runtime is linked into one of its extension modules, so there each function
    gets a jump to ours at its beginning. Must run before CuPy is imported.

    Returns
    -------
    kept
        What the code that was written refers to, and so must not be freed.

    Raises
    ------
    ImportError
        If the libraries were built for another CuPy than the one that is installed here.
    """
    table = json.loads((target / "patches.json").read_text())
    library = runtime_library()
    if digest_of(library) != table["runtime"]:
        raise ImportError(f"cuda-on-cpu: {target} was built for another CuPy")
    driver = ctypes.CDLL(str(target / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    for name in ("nvrtc", "cublasLt", "cublas"):
        ctypes.CDLL(str(target / f"lib{name}.so.{table['cuda']}"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library))
    base, missing = _base(library), _address(driver.coc_missing)
    kept: list[object] = []
    for name, (offset, own) in table["patches"].items():
        if own is None:
            text = ctypes.create_string_buffer(name.encode())
            kept.append(text)
            code = _jump(missing, ctypes.addressof(text))
        else:
            code = _jump(_address(getattr(driver, own)))
        _write(base + offset, code)
    return kept
