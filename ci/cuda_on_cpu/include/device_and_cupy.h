// Comes before the source of CuPy's own kernels, which begin with these.
#pragma once
#include "device.h"

#include <cupy/complex.cuh>

#include <cupy/carray.cuh>

#include <cupy/atomics.cuh>
