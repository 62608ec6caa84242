#!/bin/sh
# Run xpnn on another instruction set: an arm64 Python with NumPy, emulated, on x86-64 Debian.
#   sh ci/arm64.sh [Python arguments]
# Without arguments it says what it runs on, and holds NumPy to the canonical runs, the weights'
# hashes as well as the logs, and to the hashes of examples/same_bits.py with two kernels of the
# BLAS. The first run, as root, gets Debian's
# emulator and its arm64 Python, and the wheels of xpnn's dependencies with the pip of PYTHON
# (python3 if not set), into .venv-arm64; only the emulator is installed in the system. After that,
# .venv-arm64/bin/python is an interpreter like any other, for subprocesses too. The emulated CPU has
# everything qemu knows; QEMU_CPU=cortex-a57 is one with neither SVE nor half precision, and
# OPENBLAS_CORETYPE chooses the BLAS kernel.
set -eu
cd "$(dirname "$0")/.."
environment=$PWD/.venv-arm64
root=$environment/root
stamp=$environment/ready-$({ pwd; cat pyproject.toml ci/arm64.sh; } | cksum | tr ' ' '-')

if ! command -v qemu-aarch64 > /dev/null; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq --no-install-recommends install qemu-user > /dev/null
fi

if [ ! -e "$stamp" ]; then
    rm -rf "$environment"
    mkdir -p "$root" "$environment/bin" "$environment/apt/lists/partial" \
        "$environment/apt/archives/partial"

    # An apt that knows arm64 alone and believes nothing is installed: it finds every dependency,
    # and neither reads nor changes the system's own lists and packages.
    : > "$environment/apt/status"
    arm64_apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
            -o APT::Sandbox::User=root -o Debug::NoLocking=true -o "Dir::State=$environment/apt" \
            -o "Dir::State::status=$environment/apt/status" -o "Dir::Cache=$environment/apt" "$@"
    }
    arm64_apt update
    arm64_apt --no-install-recommends --download-only install python3 libstdc++6 > /dev/null
    for package in "$environment"/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
    rm -r "$environment/apt"
    # where /lib is a link to /usr/lib, it belongs to a package that nothing depends on
    [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"

    # A virtual environment by hand, whose interpreter is a script: sys.executable starts it again.
    python=$(readlink "$root/usr/bin/python3")
    site=$environment/lib/$python/site-packages
    mkdir -p "$site"
    echo "home = $root/usr/bin" > "$environment/pyvenv.cfg"
    cat > "$environment/bin/python" << EOF
#!/bin/sh
exec qemu-aarch64 -L "$root" -0 "\$0" "$root/usr/bin/$python" "\$@"
EOF
    chmod +x "$environment/bin/python"

    "$environment/bin/python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")' \
        > "$environment/requirements.txt"
    "${PYTHON:-python3}" -m pip install -qq --disable-pip-version-check --target "$site" \
        --only-binary :all: --implementation cp --python-version "${python#python}" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 --requirement "$environment/requirements.txt"
    touch "$stamp"
fi

export PYTHONPATH="$PWD"
if [ $# -eq 0 ]; then
    "$environment/bin/python" -c 'import platform, numpy
print(platform.machine(), "NumPy", numpy.__version__)
assert platform.machine() == "aarch64"'
    for kernel in ARMV8 NEOVERSEN1; do
        echo "examples/same_bits.py, OPENBLAS_CORETYPE=$kernel"
        OPENBLAS_CORETYPE=$kernel "$environment/bin/python" examples/same_bits.py --libraries numpy
    done
    set -- -m xpnn verify --canonical --backends numpy
fi
exec "$environment/bin/python" "$@"
