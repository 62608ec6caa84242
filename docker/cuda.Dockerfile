# CuPy for CUDA 13, with CUDA's libraries from its wheels: the host has only the driver, 580 or newer.
#   docker build -f docker/cuda.Dockerfile -t xpnn-cuda .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -e HOME=/tmp \
#       -v "$PWD:/data" xpnn-cuda train table.csv --backend cupy
FROM python:3.13-slim-bookworm
COPY . /source
RUN pip install --no-cache-dir "/source[cuda13,plot,table]" "cupy-cuda13x[ctk]>=14" && rm -rf /source
# its number, since Kubernetes can tell only of a number that it is not root
RUN useradd --uid 1000 --create-home xpnn
USER 1000
WORKDIR /data
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["xpnn"]
