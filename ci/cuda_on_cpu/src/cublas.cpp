// Stands in for libcublas.so: products of float32 and float64 by the OpenBLAS that NumPy brings.
// `build.py` adds a function that says that it is missing for every other one that CuPy links to.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

// in libcuda.so.1
extern "C" int coc_is_here(const void* address);
extern "C" void coc_product();

namespace {

// cublasStatus_t and cudaDataType, as far as they are used
enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { FLOAT32 = 0, FLOAT64 = 1 };

using Int = int64_t;
enum { COLUMN_MAJOR = 102, NO_TRANSPOSE = 111, TRANSPOSE = 112 };

int transposed(int operation) { return operation ? TRANSPOSE : NO_TRANSPOSE; }

template <class F>
F blas(const char* name) {
  static void* library = dlopen(getenv("CUDA_ON_CPU_BLAS"), RTLD_NOW);
  void* function = library ? dlsym(library, name) : nullptr;
  if (!function) fprintf(stderr, "cuda-on-cpu: no %s in NumPy's OpenBLAS\n", name), abort();
  return reinterpret_cast<F>(function);
}

// CBLAS's functions for a type
template <class T>
struct Blas {
  using Gemm = void (*)(int, int, int, Int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);
  using Gemv = void (*)(int, int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);
  using Dot = T (*)(Int, const T*, Int, const T*, Int);
  using Ger = void (*)(int, Int, Int, T, const T*, Int, const T*, Int, T*, Int);
  static constexpr bool single = sizeof(T) == 4;
  static inline Gemm gemm = blas<Gemm>(single ? "scipy_cblas_sgemm64_" : "scipy_cblas_dgemm64_");
  static inline Gemv gemv = blas<Gemv>(single ? "scipy_cblas_sgemv64_" : "scipy_cblas_dgemv64_");
  static inline Dot dot = blas<Dot>(single ? "scipy_cblas_sdot64_" : "scipy_cblas_ddot64_");
  static inline Ger ger = blas<Ger>(single ? "scipy_cblas_sger64_" : "scipy_cblas_dger64_");
};

// The sum over k is made of two halves: cuBLAS doesn't add in the order of NumPy's BLAS either, and
// a test that holds only where it does must fail.
template <class T>
int gemm(int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda, const T* b,
         int ldb, const T* beta, T* c, int ldc) {
  for (const T* matrix : {a, b, static_cast<const T*>(c)})
    if (m && n && k && !coc_is_here(matrix)) return INVALID_VALUE;
  int half = k / 2;
  if (half)
    Blas<T>::gemm(COLUMN_MAJOR, transposed(ta), transposed(tb), m, n, half, *alpha, a, lda, b, ldb,
                  *beta, c, ldc);
  const T* rest_a = a + (ta ? half : Int(half) * lda);
  const T* rest_b = b + (tb ? Int(half) * ldb : half);
  Blas<T>::gemm(COLUMN_MAJOR, transposed(ta), transposed(tb), m, n, k - half, *alpha, rest_a, lda,
                rest_b, ldb, half ? T(1) : *beta, c, ldc);
  return SUCCESS;
}

template <class T>
int gemm_strided(int ta, int tb, int m, int n, int k, const T* alpha, const T* a, int lda,
                 long long sa, const T* b, int ldb, long long sb, const T* beta, T* c, int ldc,
                 long long sc, int count) {
  int status = SUCCESS;
  for (int i = 0; i < count && status == SUCCESS; i++)
    status = gemm(ta, tb, m, n, k, alpha, a + i * sa, lda, b + i * sb, ldb, beta, c + i * sc, ldc);
  return status;
}

template <class T>
int gemm_batched(int ta, int tb, int m, int n, int k, const T* alpha, const T* const* a, int lda,
                 const T* const* b, int ldb, const T* beta, T* const* c, int ldc, int count) {
  int status = SUCCESS;
  for (int i = 0; i < count && status == SUCCESS; i++)
    status = gemm(ta, tb, m, n, k, alpha, a[i], lda, b[i], ldb, beta, c[i], ldc);
  return status;
}

int math_mode, pointer_mode;
void* stream;

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) { return *handle = malloc(1), SUCCESS; }
int cublasDestroy_v2(void* handle) { return free(handle), SUCCESS; }
int cublasGetVersion_v2(void*, int* version) { return *version = 10000 * COC_CUDA, SUCCESS; }
int cublasSetStream_v2(void*, void* given) { return stream = given, SUCCESS; }
int cublasGetStream_v2(void*, void** result) { return *result = stream, SUCCESS; }
int cublasSetMathMode(void*, int mode) { return math_mode = mode, SUCCESS; }
int cublasGetMathMode(void*, int* mode) { return *mode = math_mode, SUCCESS; }
int cublasSetPointerMode_v2(void*, int mode) { return pointer_mode = mode, SUCCESS; }
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = pointer_mode, SUCCESS; }

// Each function for both types. Numbers on the device are read like those on the host.
#define FOR_TYPE(X, T)                                                                             \
  int cublas##X##gemm_v2(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* a,   \
                         int lda, const T* b, int ldb, const T* beta, T* c, int ldc) {             \
    coc_product();                                                                                 \
    return gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                             \
  }                                                                                                \
  int cublas##X##gemmStridedBatched(void*, int ta, int tb, int m, int n, int k, const T* alpha,    \
                                    const T* a, int lda, long long sa, const T* b, int ldb,        \
                                    long long sb, const T* beta, T* c, int ldc, long long sc,      \
                                    int count) {                                                   \
    coc_product();                                                                                 \
    return gemm_strided(ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count);  \
  }                                                                                                \
  int cublas##X##gemmBatched(void*, int ta, int tb, int m, int n, int k, const T* alpha,           \
                             const T* const* a, int lda, const T* const* b, int ldb,               \
                             const T* beta, T* const* c, int ldc, int count) {                     \
    coc_product();                                                                                 \
    return gemm_batched(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count);              \
  }                                                                                                \
  int cublas##X##gemv_v2(void*, int ta, int m, int n, const T* alpha, const T* a, int lda,         \
                         const T* x, int ix, const T* beta, T* y, int iy) {                        \
    coc_product();                                                                                 \
    if (m && n && !(coc_is_here(a) && coc_is_here(x) && coc_is_here(y))) return INVALID_VALUE;     \
    return Blas<T>::gemv(COLUMN_MAJOR, transposed(ta), m, n, *alpha, a, lda, x, ix, *beta, y, iy), \
           SUCCESS;                                                                                \
  }                                                                                                \
  int cublas##X##dot_v2(void*, int n, const T* x, int ix, const T* y, int iy, T* result) {         \
    coc_product();                                                                                 \
    if (n && !(coc_is_here(x) && coc_is_here(y))) return INVALID_VALUE;                            \
    return *result = Blas<T>::dot(n, x, ix, y, iy), SUCCESS;                                       \
  }                                                                                                \
  int cublas##X##ger_v2(void*, int m, int n, const T* alpha, const T* x, int ix, const T* y,       \
                        int iy, T* a, int lda) {                                                   \
    coc_product();                                                                                 \
    return Blas<T>::ger(COLUMN_MAJOR, m, n, *alpha, x, ix, y, iy, a, lda), SUCCESS;                \
  }
FOR_TYPE(S, float)
FOR_TYPE(D, double)
#undef FOR_TYPE

int cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha,
                               const void* a, int type_a, int lda, long long sa, const void* b,
                               int type_b, int ldb, long long sb, const void* beta, void* c,
                               int type_c, int ldc, long long sc, int count, int, int) {
  if (type_a != type_b || type_a != type_c) return NOT_SUPPORTED;
  coc_product();
  auto call = [&](auto zero) {
    using T = decltype(zero);
    return gemm_strided(ta, tb, m, n, k, (const T*)alpha, (const T*)a, lda, sa, (const T*)b, ldb,
                        sb, (const T*)beta, (T*)c, ldc, sc, count);
  };
  return type_a == FLOAT32 ? call(0.0f) : type_a == FLOAT64 ? call(0.0) : NOT_SUPPORTED;
}

int cublasGemmEx(void* handle, int ta, int tb, int m, int n, int k, const void* alpha,
                 const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                 const void* beta, void* c, int type_c, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, 0, b, type_b,
                                    ldb, 0, beta, c, type_c, ldc, 0, 1, compute, algorithm);
}

int cublasSgemmEx(void* handle, int ta, int tb, int m, int n, int k, const float* alpha,
                  const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                  const float* beta, void* c, int type_c, int ldc) {
  if (type_a != FLOAT32) return NOT_SUPPORTED;
  return cublasGemmEx(handle, ta, tb, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c,
                      type_c, ldc, 0, 0);
}

}  // extern "C"
