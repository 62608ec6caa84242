#!/bin/sh
# Lint, type check and test in an environment of its own: NumPy, JAX and array-api-strict.
#   sh ci/test.sh [torch] [cupy | cupy13] [oldest] [-- pytest options]
# A backend that was asked for and can't be imported fails the run. cupy is CuPy's newest line with
# CUDA 13, cupy13 its oldest one, 13, with CUDA 12. Without a card they run on an emulated one, see
# ci/cuda_on_cpu/README.md, which needs g++ and, with torch, PyTorch's build for the CPU. oldest takes
# the least versions that pyproject.toml allows, and leaves out the type check, which knows the newest
# ones.
# What is compiled is kept in XPNN_CACHE, ~/.cache/xpnn if not set: kernels and JAX's programs.
set -eu
cd "$(dirname "$0")/.."
usage() {
    echo "usage: sh ci/test.sh [torch] [cupy | cupy13] [oldest] [-- pytest options]" >&2
    exit 2
}

python=${PYTHON:-python3}
require=numpy,strict,jax
extras=dev
environment=.venv-test
cupy=
oldest=
while [ $# -gt 0 ]; do
    case $1 in
        cupy*) [ -z "$cupy" ] || usage ;;
    esac
    case $1 in
        torch) require=$require,torch environment=$environment-torch extras=$extras,torch ;;
        cupy) require=$require,cupy environment=$environment-cupy extras=$extras,cuda13 cupy='cupy-cuda13x>=14' ;;
        cupy13) require=$require,cupy environment=$environment-cupy13 extras=$extras,cuda12 cupy='cupy-cuda12x<14' ;;
        oldest) oldest=yes environment=$environment-oldest ;;
        --) shift; break ;;
        *) usage ;;
    esac
    shift
done

stamp=$environment/ready-$(cat pyproject.toml ci/torch.txt ci/oldest.py ci/test.sh | cksum | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    "$python" -m venv "$environment"
    # Python compiles what is imported; pip would compile ten times as much
    install="$environment/bin/pip install --quiet --disable-pip-version-check --no-compile"
    # torch without what it needs, which comes with the rest: then an index that can't be reached is
    # asked only once
    if [ -n "$oldest" ]; then
        "$environment/bin/python" ci/oldest.py > "$environment/oldest.txt"
        case $require in
            *torch*)
                $install --no-deps --constraint "$environment/oldest.txt" \
                    $(grep '^--extra-index-url' ci/torch.txt) torch ;;
        esac
        $install --constraint "$environment/oldest.txt" --editable ".[$extras]"
    else
        case $require in *torch*) $install --no-deps --requirement ci/torch.txt ;; esac
        $install --editable ".[$extras]" ${cupy:+"$cupy"}
    fi
    touch "$stamp"
fi

PATH=$PWD/$environment/bin:$PATH
ruff check .
ruff format --check .
[ -n "$oldest" ] || mypy
lint-imports

. ci/caches.sh
# two workers share two cores: one BLAS thread each
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XPNN_REQUIRE="$require"
# 35: no driver, 100: no card; whatever else is wrong with a card must not be hidden
count_cards='import cupy
try:
    print(cupy.cuda.runtime.getDeviceCount())
except cupy.cuda.runtime.CUDARuntimeError as error:
    if error.status not in (35, 100):
        raise
    print(0)'
set -- --numprocesses 2 "$@"
if [ -n "$cupy" ]; then
    cards=$(python -c "$count_cards")
    if [ "$cards" = 0 ]; then
        echo "no card: CuPy's tests run on an emulated one"
        # its libraries have the names of CUDA's, which PyTorch's build for cards brings along
        case $require in
            *torch*)
                python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || {
                    echo "the emulated card needs PyTorch's build for the CPU: that of ci/torch.txt" >&2
                    exit 2
                } ;;
        esac
        export CUDA_ON_CPU_DEVICES=2
        exec python ci/cuda_on_cpu pytest "$@"
    fi
fi
exec pytest "$@"
