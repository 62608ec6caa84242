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
stamp=$environment/docs-$(cat pyproject.toml ci/torch.txt ci/docs.sh | cksum | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    [ -d "$environment" ] || "$python" -m venv "$environment"
    install="$environment/bin/pip install --quiet --disable-pip-version-check --no-compile"
    # what it needs comes with the rest: an index that can't be reached is asked only once
    $install --no-deps --requirement ci/torch.txt
    $install --editable '.[docs,torch]'
    touch "$stamp"
fi

# without the last, JAX says that it has found no TPU
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 JAX_PLATFORMS=cpu
. ci/caches.sh
# what an older build left would be checked too
rm -rf docs/_build
# one job: the gallery trains on JAX, which can't be forked
"$environment/bin/sphinx-build" --fail-on-warning --keep-going --quiet "$@" docs docs/_build/html
"$environment/bin/python" ci/check_site.py docs/_build/html
