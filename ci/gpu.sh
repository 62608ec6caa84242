#!/bin/sh
# Prove xpnn on a CUDA machine without a network: the whole suite with CuPy, PyTorch and JAX on the
# card, then the article's h-swish run on it.
#   [WHEELS=folder] [OUT=folder] sh ci/gpu.sh
# The machine has Python with NumPy, CuPy, PyTorch, JAX and pytest. What else it lacks is carried as
# wheels in WHEELS; get them beforehand, where there is a network, with
#   pip download --no-deps --dest wheels array-api-compat array-api-strict tqdm safetensors \
#       hypothesis sortedcontainers mpmath threadpoolctl
# and matplotlib, with what it needs, where the machine lacks it.
# Versions, card and results go to OUT (gpu-report if not set).
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=${WHEELS:-wheels}
out=${OUT:-gpu-report}
mkdir -p "$out"

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site"
for module in array_api_compat array_api_strict tqdm safetensors sortedcontainers hypothesis mpmath \
    threadpoolctl matplotlib; do
    "$python" -c "import $module" 2> "$out/import.txt" ||
        "$python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" \
            --target "$site" "$(echo $module | tr _ -)"
    "$python" -c "import $module" || { echo "gpu.sh: $module is needed, see above" >&2; exit 2; }
done
rm -f "$out/import.txt"
export XLA_PYTHON_CLIENT_PREALLOCATE=false

( set -e
    date -u '+%Y-%m-%d %H:%M UTC'
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    "$python" --version
    "$python" -m xpnn backends
) > "$out/machine.txt"
cat "$out/machine.txt"

status=0
XPNN_REQUIRE=numpy,strict,cupy,torch,jax XPNN_DEVICE=cuda:0 \
    "$python" -m pytest -p no:cacheprovider > "$out/tests.txt" 2>&1 || status=$?
tail -n 40 "$out/tests.txt"

for dtype in float64 float32; do
    "$python" -m xpnn train data/mnist --activation h_swish:n=6 --dtype $dtype --backend cupy \
        --device cuda:0 --log "$out/h_swish-$dtype.csv" > "$out/h_swish-$dtype.txt" || status=$?
    tail -n 6 "$out/h_swish-$dtype.txt"
done
"$python" scripts/compare_article.py --log h_swish "$out/h_swish-float64.csv" \
    > "$out/h_swish-comparison.txt" || status=$?
cat "$out/h_swish-comparison.txt"
exit $status
