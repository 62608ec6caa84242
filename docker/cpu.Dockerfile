# NumPy, and what pictures and tables need.
#   docker build -f docker/cpu.Dockerfile -t xpnn .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" xpnn train table.csv --save model.safetensors
FROM python:3.13-slim-bookworm
COPY . /source
RUN pip install --no-cache-dir "/source[plot,study,images,onnx,table,sklearn]" && rm -rf /source
# its number, since Kubernetes can tell only of a number that it is not root
RUN useradd --uid 1000 --create-home xpnn
USER 1000
WORKDIR /data
ENTRYPOINT ["xpnn"]
