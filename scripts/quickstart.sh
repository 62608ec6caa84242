#!/bin/sh
# Train the article's h-swish network on MNIST: environment, log, picture and model.
#   sh scripts/quickstart.sh [options of `xpnn train`]
# Its files go to quickstart/; the environment .venv is made once. PYTHON names another interpreter.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
environment=.venv
out=quickstart

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "quickstart: xpnn needs Python 3.11 or newer, got $("$python" --version 2>&1);" \
        "name another with PYTHON=python3.12 sh scripts/quickstart.sh" >&2
    exit 2
}
stamp=$environment/quickstart-$(cksum < pyproject.toml | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    echo "Installing xpnn into $environment …"
    "$python" -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --editable '.[plot]'
    touch "$stamp"
fi

mkdir -p "$out"
"$environment/bin/xpnn" train data/mnist \
    --hidden 100,50 --activation h_swish:n=6 --init he_normal --optimizer sgd:lr=0.1 --epochs 50 --batch-size 100 \
    --seed 10 --dtype float64 --digits all \
    --log "$out/h_swish.csv" --plot "$out/h_swish.png" --save "$out/h_swish.safetensors" "$@"
echo "log      $out/h_swish.csv"
echo "picture  $out/h_swish.png"
echo "model    $out/h_swish.safetensors"
