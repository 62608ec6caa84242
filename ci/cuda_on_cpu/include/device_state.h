// What a compiled kernel and the driver share: who the running thread is, and how it waits.
#pragma once

struct coc_index {
  unsigned x, y, z;
};

// What a thread waits for at a synchronisation: the other threads of its warp, or of its block.
enum coc_wait { COC_RUNS, COC_WARP, COC_BLOCK, COC_DONE };

struct coc_state {
  coc_index thread, block, block_dim, grid_dim;
  // set by the driver; with the lanes of a warp that are waited for
  void (*wait)(coc_wait what, unsigned lanes);
};

// How a module's kernels are run; see `run_kernel` in driver.cpp.
enum coc_mode {
  COC_GRID_STRIDE,  // one thread is enough: each loops over all elements
  COC_BLOCKS,       // one thread is enough in each block: it does the work of all
  COC_THREADS,      // thread after thread
  COC_FIBERS,       // the threads of a block wait for each other
};

struct coc_module {
  coc_state* state;
  coc_mode mode;
  bool flush;  // compiled with -ftz=true: float32 subnormals are zero
};
