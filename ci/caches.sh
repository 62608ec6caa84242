# Where what is compiled is kept: kernels and JAX's programs, which don't change from run to run.
# JAX compiles as long as all the rest of the tests takes. To be sourced.
cache=${XPNN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xpnn}
export CUDA_ON_CPU_CACHE="$cache/cuda-on-cpu" JAX_COMPILATION_CACHE_DIR="$cache/jax"
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
