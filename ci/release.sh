#!/bin/sh
# Build what is released, and hold it to what is promised of it. What isn't committed stays out.
#   sh ci/release.sh [build] [install] [tests]      all three if none is named
# build    sdist and wheel into dist/, built twice, in other folders, at other times, with another
#          umask: the same bytes; twine's checks; no relative link in what the index shows
# install  wheel and sdist in new environments, on each Python of the classifiers that is here, with
#          the newest and the oldest versions of what they need: a table is trained on and predicted,
#          and the canonical hashes hold; on one Python, two pages run with what they say to install
# tests    ci/test.sh in the unpacked sdist: the tests that need MNIST are skipped
set -eu
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
for part in "$@"; do
    case $part in
        build | install | tests) ;;
        *) echo "usage: sh ci/release.sh [build] [install] [tests]" >&2; exit 2 ;;
    esac
done
[ $# -gt 0 ] || set -- build install tests
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# nothing of the checkout may stand in for what was built
unset PYTHONPATH

tools=.venv-release
stamp=$tools/ready-$(cksum < ci/release.txt | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement ci/release.txt
    touch "$stamp"
fi

# Build the commit into $scratch/$1: at the time $2, with the umask $3.
build_once() {
    mkdir -p "$scratch/$1/tree"
    git archive HEAD | tar -x -C "$scratch/$1/tree"
    find "$scratch/$1/tree" -exec touch -d "$2" {} +
    (
        cd "$scratch/$1/tree"
        umask "$3"
        chmod -R "u+rwX,g-w,o-w" .
        SOURCE_DATE_EPOCH=$epoch "$root/$tools/bin/python" -m build --no-isolation --outdir ../dist . \
            > ../log 2>&1 || { cat ../log; exit 1; }
    )
}

run_build() {
    epoch=$(git log -1 --format=%ct)
    build_once one "2001-01-01" 022
    build_once another/folder "2020-02-02" 077
    for file in "$scratch"/one/dist/*; do
        cmp "$file" "$scratch/another/folder/dist/${file##*/}"
    done
    "$tools/bin/twine" check --strict "$scratch"/one/dist/*
    "$tools/bin/python" - "$scratch"/one/dist/*.whl << 'END'
import re, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    links = re.findall(r"\]\(([^)\s]+)\)", wheel.read(name).decode())
relative = [link for link in links if not link.startswith(("https://", "#"))]
print(f"{len(links)} links, relative ones: {relative}")
sys.exit(bool(relative or not links))
END
    rm -rf dist
    cp -R "$scratch/one/dist" dist
    (cd dist && sha256sum -- *)
}

# Install $2 with Python $1, with pip's options after these, and use it.
install_once() {
    version=$1 file=$2
    shift 2
    rm -rf "$scratch/use"
    mkdir "$scratch/use"
    "python$version" -m venv "$scratch/use/env"
    "$scratch/use/env/bin/pip" install --quiet --disable-pip-version-check "$@" "$file"
    (
        cd "$scratch/use"
        PATH=$PWD/env/bin:$PATH
        python -c 'for i in range(60): print(i % 7, i % 5, "ab"[i % 7 > 3], sep=",")' > table.csv
        xpnn train table.csv --epochs 30 --batch-size 5 --quiet --save model.safetensors > /dev/null
        xpnn predict model.safetensors table.csv --out out.csv > /dev/null
        [ "$(wc -l < out.csv)" -ge 60 ]
        xpnn verify --canonical --backends numpy > hashes || { cat hashes; exit 1; }
        python -c 'import numpy, sys, xpnn
print(f"Python {sys.version.split()[0]}, NumPy {numpy.__version__}, xpnn {xpnn.__version__} of",
      f"{sys.argv[1]}: canonical hashes hold")' "${file##*/}"
    )
}

# Run page $2 on Python $1 with the wheel, and with what the page says to install and nothing else.
page_once() {
    version=$1 page=$2
    needs=$(sed -n "s/.*\`pip install '[a-z.]*\(\[[^]]*\]\)'\([^\`]*\)\`.*/\1\2/p" "$page" | head -n 1)
    [ -n "$needs" ] || { echo "$page doesn't say what to install"; exit 1; }
    # the extras stand before the first space, other packages behind it
    set -- "$root"/dist/*.whl
    wheel=$1${needs%% *}
    set -- $needs
    shift
    rm -rf "$scratch/use"
    "python$version" -m venv "$scratch/use"
    "$scratch/use/bin/pip" install --quiet --disable-pip-version-check "$wheel" "$@"
    "$scratch/use/bin/python" scripts/checks/pages.py --check "$page"
    echo "Python $version, $page with ${needs}: shows what is printed"
}

run_install() {
    "$tools/bin/python" ci/oldest.py > "$scratch/oldest.txt"
    count=0
    for version in $(sed -n 's/.*Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml); do
        if ! "python$version" -c '' 2> /dev/null; then
            echo "no Python $version here: skipped"
            continue
        fi
        tried=$version
        for file in "$root"/dist/*.whl "$root"/dist/*.tar.gz; do
            install_once "$version" "$file"
            # older versions of NumPy have no wheels for newer versions of Python
            if "$scratch/use/env/bin/pip" download --quiet --disable-pip-version-check --no-deps \
                --only-binary :all: --dest "$scratch/wheels" $(grep '^numpy=' "$scratch/oldest.txt") \
                > /dev/null 2>&1; then
                install_once "$version" "$file" --constraint "$scratch/oldest.txt"
            else
                echo "no wheel of $(grep '^numpy=' "$scratch/oldest.txt") for Python $version"
            fi
            count=$((count + 1))
        done
    done
    [ "$count" -gt 0 ]
    for page in docs/guide/your-table.md docs/tutorials/02-your-table.md; do
        page_once "$tried" "$page"
    done
}

run_tests() {
    tar -x -C "$scratch" -f dist/*.tar.gz
    (cd "$scratch"/xpnn-* && sh ci/test.sh)
}

for part in "$@"; do
    "run_$part"
done
