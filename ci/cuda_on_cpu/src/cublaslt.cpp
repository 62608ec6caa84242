extern "C" int cublasLtGetVersion() { return 10000 * COC_CUDA; }
