#!/bin/sh
# Run the examples that pages show for Keras, DeZero and Chainer, with these in environments of their
# own: the last two can't be imported with NumPy 2, nor their NumPy with a newer Python than 3.11.
#   sh ci/other_libraries.sh
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
pip="bin/pip install --quiet --disable-pip-version-check --no-compile"
run=scripts/checks/other_libraries.py

older=.venv-chainer
stamp=$older/ready-$(cksum < ci/other_libraries.sh | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    "$python" -m venv "$older"
    # Chainer is a source, which needs a setuptools of its time
    "$older"/$pip 'setuptools<70' wheel 'numpy==1.23.5' 'contourpy<1.3' 'matplotlib<3.9'
    "$older"/$pip --no-build-isolation chainer==7.8.1 dezero==0.0.13
    touch "$stamp"
fi
for library in dezero chainer; do
    "$older/bin/python" -W ignore $run $library docs/guide/from-dezero-and-chainer.md
done

keras=.venv-keras
stamp=$keras/ready-$(cksum < ci/other_libraries.sh | tr ' ' '-')
if [ ! -e "$stamp" ]; then
    "$python" -m venv "$keras"
    "$keras"/$pip 'keras~=3.15' jax pandas
    touch "$stamp"
fi
KERAS_BACKEND=jax "$keras/bin/python" $run keras docs/guide/from-keras.md
