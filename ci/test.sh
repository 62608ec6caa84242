#!/bin/sh
# Lint, type check and test in an environment of its own: NumPy, JAX and array-api-strict.
#   sh ci/test.sh [torch] [cupy] [cupy12] [-- pytest options]
# A backend that was asked for and can't be imported fails the run.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
require=numpy,strict,jax
extras=dev
while [ $# -gt 0 ]; do
    case $1 in
        torch) require=$require,torch ;;
        cupy) require=$require,cupy extras=$extras,cuda13 ;;
        cupy12) require=$require,cupy extras=$extras,cuda12 ;;
        --) shift; break ;;
        *) echo "usage: sh ci/test.sh [torch] [cupy] [cupy12] [-- pytest options]" >&2; exit 2 ;;
    esac
    shift
done

environment=.venv-test-$(echo "$require" | tr ',' '-')
stamp=$environment/ready-$(cat pyproject.toml ci/torch.txt | cksum | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    "$python" -m venv "$environment"
    install="$environment/bin/pip install --quiet --disable-pip-version-check"
    case $require in *torch*) $install --requirement ci/torch.txt ;; esac
    $install --editable ".[$extras]"
    touch "$stamp"
fi

PATH=$PWD/$environment/bin:$PATH
ruff check .
ruff format --check .
mypy
# two workers share two cores: one BLAS thread each
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XPNN_REQUIRE=$require \
    exec pytest --numprocesses 2 "$@"
