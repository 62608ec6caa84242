#!/bin/sh
# Prove xpnn on a CUDA machine without a network, in parts.
#   sh ci/gpu.sh [tests | train | verify | bench | all] [-- options]
# Options after -- go to pytest, or to scripts/bench/epochs.py.
#   tests   the test suite: CuPy on the card, PyTorch and JAX too where they see it
#   train   the article's h-swish run in float64 and float32, the first compared with its log
#   verify  the canonical runs, whose hashes the card must reproduce
#   bench   xpnn's epochs beside those by hand; reproducible steps beside native ones
#   all     all four, if nothing is asked for
# The machine has Python with NumPy, CuPy, PyTorch, JAX and pytest. What else it lacks is carried as
# wheels; get them beforehand, where there is a network, with
#   pip download --no-deps --dest wheels array-api-compat array-api-strict tqdm safetensors threadpoolctl \
#       hypothesis sortedcontainers mpmath
# and --only-binary :all: --python-version 3.12 (say) if the machine's Python isn't this pip's. The
# tests also need matplotlib, scikit-learn and onnx; what the machine lacks of them is
# carried with all that it needs itself. Tests of other libraries that aren't there are skipped, but
# not those of a backend.
# These variables change what it does:
#   OUT      folder for the results, gpu-report in the checkout if not set: at most eight files
#   WHEELS   folder of the wheels, wheels in the checkout if not set
#   PYTHON   the interpreter, python3 if not set
#   LIMIT    seconds after which a command is interrupted; what it found by then is in its file
#   WORKERS  processes of pytest, where pytest-xdist is installed; by cores and memory if not set
#   SMALL=1  a little of everything, to try the script itself:
#            SMALL=1 python ci/cuda_on_cpu sh ci/gpu.sh
# The exit status is 0 if all of it held, 1 if not, 2 if something is missing.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-gpu-report}
small=${SMALL:-}

usage() {
    echo "usage: sh ci/gpu.sh [tests | train | verify | bench | all] [-- options]" >&2
    exit 2
}

fail() {
    echo "gpu.sh: $*" >&2
    exit 2
}

parts="tests train verify bench"
case ${1:-all} in
    all) [ $# -eq 0 ] || shift ;;
    tests | train | verify | bench) parts=$1; shift ;;
    *) usage ;;
esac
if [ $# -gt 0 ]; then
    [ "$1" = -- ] || usage
    shift
    case $parts in tests | bench) ;; *) usage ;; esac
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$out" "$scratch/site"
# programs that keep things at home find a place in any case
[ -w "${HOME:-/nowhere}" ] || export HOME="$scratch"
# what is on the path already stays on it: carried packages, or the emulator
export PYTHONPATH="$PWD:$scratch/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export HYPOTHESIS_STORAGE_DIRECTORY="$scratch/hypothesis"
# JAX would take three quarters of the card's memory, in each of its processes
export XLA_PYTHON_CLIENT_PREALLOCATE=false

# Print the carried wheels of what isn't installed.
lacking() {
    "$python" - "${WHEELS:-wheels}" << 'END'
import importlib.metadata, pathlib, sys
for wheel in sorted(pathlib.Path(sys.argv[1]).glob("*.whl")):
    try:
        importlib.metadata.version(wheel.name.partition("-")[0])
    except importlib.metadata.PackageNotFoundError:
        print(wheel)
END
}

# Run a command with its output in a file, and show the end of that.
step() {
    file=$out/$1
    shift
    begun=$(date +%s) code=0
    printf '$ %s\n' "$*" >> "$file"
    before=$(wc -l < "$file")
    timeout --foreground --signal=INT --kill-after=30 "${LIMIT:-0}" "$@" >> "$file" 2>&1 ||
        code=$?
    tail -n +"$before" "$file" | tail -n 40
    echo "exit status $code after $(($(date +%s) - begun)) s: $*" | tee -a "$out/machine.txt"
    return $code
}

machine() {
    date -u '+%Y-%m-%d %H:%M UTC'
    git describe --always --dirty 2> /dev/null || echo "not a git checkout"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null ||
        echo "no nvidia-smi"
    "$python" - << 'END'
import cupy
runtime = cupy.cuda.runtime
for i in range(runtime.getDeviceCount()):
    about = runtime.getDeviceProperties(i)
    print(f"CuPy's card {i}: {about['name'].decode()}, {about['totalGlobalMem'] >> 20} MiB,",
          f"compute capability {about['major']}.{about['minor']}")
print(f"CUDA by the driver {runtime.driverGetVersion()}, by CuPy {runtime.runtimeGetVersion()}")
END
    echo "$cores cores; $("$python" --version)"
    "$python" -m xpnn backends
    echo "on the card: $on_card"
}

lacking | while read -r wheel; do
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$scratch/site" \
        "$wheel" >&2 || :
done
modules="numpy cupy array_api_compat tqdm safetensors threadpoolctl"
case $parts in
    tests*)
        modules="$modules pytest array_api_strict sortedcontainers hypothesis mpmath"
        modules="$modules matplotlib sklearn onnx"
        ;;
esac
for module in $modules; do
    "$python" -c "import $module" || fail "$module is needed: see above, and the head of ci/gpu.sh"
done
cores=$("$python" -c 'from xpnn.study.machine import cores; print(cores())')
on_card=$("$python" -c 'from xpnn.backends import describe
print(",".join(info.name for info in describe() if info.cards))')
case $on_card in cupy*) ;; *) "$python" -m xpnn backends; fail "CuPy has no card" ;; esac
# what can't be told here is no reason to stop
machine > "$out/machine.txt" 2>&1 || :
cat "$out/machine.txt"

run_tests() {
    # Plugins that happen to be here stay out: pytest-benchmark warns, and warnings are failures.
    # Nor is it a failure if versions newer than CI's deprecate something.
    set -- -p no:cacheprovider -W default::DeprecationWarning -W default::FutureWarning \
        -W default::PendingDeprecationWarning "$@"
    if "$python" -c "import xdist" 2> /dev/null; then
        workers=${WORKERS:-$("$python" -c 'import sys, cupy
free, _ = cupy.cuda.Device(0).mem_info
print(max(1, min(int(sys.argv[1]), free >> 31, 8)))' "$cores")}
        set -- -p xdist --numprocesses "$workers" "$@"
    fi
    [ -z "$small" ] || set -- tests/test_activations.py tests/backends/test_backends.py "$@"

    # one device for both: where only one of PyTorch and JAX sees the card, the other is skipped
    require=numpy,strict,cupy,torch,jax
    if [ "$on_card" != cupy ]; then
        require=numpy,strict,$on_card
        export XPNN_DEVICE=cuda:0
    fi
    step tests.txt env PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
        XPNN_REQUIRE=$require "$python" -m pytest "$@" || status=1
}

run_train() {
    epochs=50
    [ -z "$small" ] || epochs=1
    for dtype in float64 float32; do
        step train.txt "$python" -m xpnn train data/mnist --init he_normal --activation h_swish:n=6 \
            --dtype $dtype --backend cupy --device cuda:0 --epochs $epochs \
            --log "$out/h_swish-$dtype.csv" || status=1
    done
    # a small run is too short to be compared, and this says so
    step train.txt "$python" scripts/compare/article.py --log h_swish "$out/h_swish-float64.csv" ||
        [ -n "$small" ] || status=1
}

run_verify() {
    data=data/mnist
    [ -z "$small" ] || data=
    step verify.txt "$python" -m xpnn verify $data --canonical --backends "$on_card" \
        --device cuda:0 || status=1
}

run_bench() {
    # torch.compile needs a compiler, and half a minute for each network
    set -- --device cuda --only xpnn-cupy xpnn-torch xpnn-jax cupy torch jax floor \
        --network article wide --activation relu --json "$out/bench.json" "$@"
    rounds=5 few=
    [ -z "$small" ] || rounds=1 few="--samples 1000"
    step bench.md "$python" scripts/bench/epochs.py data/mnist --rounds $rounds $few "$@" || status=1
    [ -z "$small" ] || few="$few --only relu-float32"
    step bench.md "$python" scripts/bench/reproducible.py data/mnist --backend cupy \
        --rounds $rounds $few || status=1
}

status=0
for part in $parts; do
    case $part in
        tests) rm -f "$out/tests.txt" ;;
        train) rm -f "$out/train.txt" "$out"/h_swish-*.csv ;;
        verify) rm -f "$out/verify.txt" ;;
        bench) rm -f "$out/bench.md" "$out/bench.json" ;;
    esac
    "run_$part" "$@"
done
echo "gpu.sh: $parts: exit status $status; results in $out"
exit $status
