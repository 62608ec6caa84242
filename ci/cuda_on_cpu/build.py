"""Build the stand-ins for CUDA's libraries, for the CuPy that is installed."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from patch import Refused, digest_of, extension, package, runtime_library

HERE = Path(__file__).resolve().parent
# for kernels and the precompiled headers before them
KERNEL_FLAGS = "-std=gnu++17 -O2 -mfma -fPIC -fvisibility=hidden -w -fpermissive"
# wheels that this was tried with: the distribution, its CUDA, its first version and the one after
WHEELS = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}
VERSIONS = ((13, 4), (15, 0))
# a jump to an absolute address takes 12 bytes, with an argument before it 22
JUMP, JUMP_WITH_ARGUMENT = 12, 22


def wheel() -> tuple[str, str, int]:
    """Return the distribution of CuPy that is installed, its version and its CUDA's."""
    found = []
    for name, cuda in WHEELS.items():
        try:
            found.append((name, importlib.metadata.version(name), cuda))
        except importlib.metadata.PackageNotFoundError:
            continue
    known = " or ".join(WHEELS)
    low, high = (".".join(map(str, version)) for version in VERSIONS)
    if len(found) != 1:
        got = " and ".join(name for name, *_ in found) or "none"
        raise Refused(f"needs one wheel of {known}, {low} to below {high}; found {got}")
    name, version, cuda = found[0]
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
    if not VERSIONS[0] <= numbers < VERSIONS[1]:
        raise Refused(f"knows {known} {low} to below {high}, not {name} {version}")
    return name, version, cuda


def check_processor() -> None:
    """Refuse what isn't x86-64 Linux with fused multiply-add."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Refused(f"runs on x86-64 Linux, not on {system} {machine}")
    if " fma " not in Path("/proc/cpuinfo").read_text():
        raise Refused("needs an x86-64 processor with fused multiply-add (Haswell, Zen or newer)")


def blas() -> Path:
    """Return the OpenBLAS that NumPy's wheel brings."""
    folder = package("numpy").with_name("numpy.libs")
    for library in folder.glob("libscipy_openblas64_*.so"):
        return library
    raise Refused(f"needs NumPy 2 from a wheel, which has its OpenBLAS in {folder}")


def _run(*words: object) -> str:
    try:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"needs {words[0]}, which is not installed") from None
    if done.returncode:
        raise Refused(f"{words[0]} failed:\n{done.stderr.rstrip()}")
    return done.stdout


def sources() -> list[Path]:
    """Return the files that the libraries are made of."""
    return [HERE / "build.py", *sorted([*HERE.glob("src/*"), *HERE.glob("include/*")])]


@functools.cache
def folder() -> Path:
    """Return where the libraries for this CuPy are, or will be."""
    check_processor()
    name, version, _ = wheel()
    digest = hashlib.sha256(f"{name} {version} {_run('g++', '--version')}".encode())
    for path in (*sources(), runtime_library()):
        digest.update(path.read_bytes())
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = Path(os.environ.get("CUDA_ON_CPU_CACHE") or caches / "cuda-on-cpu")
    return base.expanduser().absolute() / f"{name}-{version}-{digest.hexdigest()[:16]}"


def patches(driver: Path) -> dict[str, tuple[int, str | None]]:
    """Return, for each function of the CUDA runtime in CuPy, where it is and what replaces it.

    ``name: (offset in the library, our function or None)``. The wheel isn't stripped, so its own
    symbols tell; with per-thread default streams a function has a suffix.
    """
    ours = {line.split()[-1] for line in _run("nm", "-D", "--defined-only", driver).splitlines()}
    found: dict[str, tuple[int, str | None]] = {}
    for line in _run("nm", "-S", "--defined-only", runtime_library()).splitlines():
        words = line.split()
        if len(words) != 4 or words[2] not in "tT" or not words[3].startswith("cuda"):
            continue
        address, size, name = int(words[0], 16), int(words[1], 16), words[3]
        own = f"coc_{name.removesuffix('_ptsz').removesuffix('_ptds')}"
        target = own if own in ours else None
        if size >= (JUMP_WITH_ARGUMENT if target is None else JUMP):
            found[name] = (address, target)
        elif target is not None:
            raise Refused(f"{name} of this CuPy is too short to be replaced")
    missing = {"cudaMalloc", "cudaMemcpyAsync", "cudaGetDeviceCount"} - found.keys()
    if missing:
        raise Refused(f"found no {min(missing)} in {runtime_library()}")
    return found


def _cublas_stubs(own: str) -> str:
    """Return functions that say that they are missing, for all that CuPy links to."""
    library = extension(package("cupy_backends") / "cuda" / "libs", "cublas")
    wanted = [
        line.split()[-1].partition("@")[0]
        for line in _run("nm", "-D", "--undefined-only", library).splitlines()
    ]
    here = {line.split()[-1] for line in own.splitlines()}
    lines = [
        f'int {name}() {{ fprintf(stderr, "cuda-on-cpu: {name} is missing\\n"); return 15; }}'
        for name in wanted
        if name.startswith("cublas") and name not in here
    ]
    return "\n".join(["#include <cstdio>", 'extern "C" {', *lines, "}"])


def _build(target: Path) -> None:
    _, _, cuda = wheel()
    source, defines = HERE / "src", [f"-DCOC_CUDA={cuda}"]
    shared = ["g++", "-std=gnu++17", "-O2", "-Wall", "-shared", "-fPIC", *defines]
    shared += [f"-I{HERE / 'include'}"]

    for header in HERE.glob("include/*"):
        shutil.copy(header, target)
    # most of a kernel's compilation would be that of these
    include = package("cupy") / "_core" / "include"
    folders = [f"-I{path}" for path in (target, *include.glob("cupy/_cccl/*/"), include)]
    for name in ("device.h", "device_and_cupy.h"):
        _run("g++", *KERNEL_FLAGS.split(), "-ffp-contract=fast", *folders, "-x", "c++-header",
             target / name, "-o", target / f"{name}.gch")  # fmt: skip

    # Where CuPy looks for CUDA's headers: otherwise it asks a process of its own, and on a busy
    # machine it gives that up. Kernels have device.h instead.
    (target / "include").mkdir()
    (target / "include" / "cuda_runtime.h").write_text("// see device.h\n")

    driver = target / "libcuda.so.1"
    _run(*shared, "-Wl,-soname,libcuda.so.1", source / "driver.cpp", source / "runtime.cpp",
         "-o", driver, "-ldl")  # fmt: skip
    flags = [f'-DCOC_FLAGS="{KERNEL_FLAGS}"', f'-DCOC_VERSION="{folder().name}"']
    name = f"libnvrtc.so.{cuda}"
    _run(*shared, *flags, f"-Wl,-soname,{name}", source / "nvrtc.cpp", "-o", target / name)

    # CuPy asks for cuBLAS's functions by a version, which is the library's name
    name, versions = f"libcublas.so.{cuda}", target / "cublas.map"
    versions.write_text(f"{name} {{ global: cublas*; local: *; }};\n")
    own = target / "cublas.o"
    _run(*shared[:-1], "-c", source / "cublas.cpp", "-o", own)
    stubs = target / "cublas_missing.cpp"
    stubs.write_text(_cublas_stubs(_run("nm", "--defined-only", own)))
    _run(*shared, f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}", own, stubs,
         "-o", target / name, "-ldl")  # fmt: skip
    name = f"libcublasLt.so.{cuda}"
    _run(*shared, f"-Wl,-soname,{name}", source / "cublaslt.cpp", "-o", target / name)
    for made in (own, stubs, versions):
        made.unlink()

    table = {"cuda": cuda, "runtime": digest_of(runtime_library()), "patches": patches(driver)}
    (target / "patches.json").write_text(json.dumps(table, indent=1))


def build() -> Path:
    """Return the folder with the libraries, built if they aren't there yet."""
    target = folder()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            _build(made)
            try:
                made.rename(target)
            except OSError:  # somebody else was faster
                if not target.exists():
                    raise
    return target


def environment(target: Path) -> dict[str, str]:
    """Return the environment in which CuPy runs on the emulated device."""
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "CUDA_ON_CPU": str(target),
        "CUDA_ON_CPU_BLAS": str(blas()),
        "PYTHONPATH": os.pathsep.join([str(HERE / "site"), *([path] if path else [])]),
        "CUDA_PATH": str(target),
        "CUPY_CACHE_DIR": str(target / "kernels"),
        "CUPY_ACCELERATORS": "",  # CUB and cuTENSOR are compiled for cards
    }
