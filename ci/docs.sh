#!/bin/sh
# Build the site in an environment of its own: docs/_build/html/index.html works without a network.
# A warning fails the build, and so does a link to a page or an anchor that isn't there, and whatever
# a page would load from another host.
#   sh ci/docs.sh [sphinx-build options]
# DOCS_ENVIRONMENT names another environment to install into, such as that of the tests.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
environment=${DOCS_ENVIRONMENT:-.venv-docs}
stamp=$environment/docs-$(cat pyproject.toml ci/docs.sh | cksum | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    [ -d "$environment" ] || "$python" -m venv "$environment"
    install="$environment/bin/pip install --quiet --disable-pip-version-check --no-compile"
    $install --requirement ci/torch.txt
    $install --editable '.[docs]'
    touch "$stamp"
fi

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# what JAX compiles for the gallery is kept, as in ci/test.sh
export JAX_COMPILATION_CACHE_DIR="${XPNN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xpnn}/jax"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
# what an older build left would be checked too
rm -rf docs/_build
# one job: the gallery trains on JAX, which can't be forked
"$environment/bin/sphinx-build" --fail-on-warning --keep-going --quiet "$@" docs docs/_build/html
"$environment/bin/python" ci/check_site.py docs/_build/html
