// Stands in for libcuda.so.1, CUDA's driver: modules are shared libraries of host code, and a
// launch has run all its blocks when it returns. The other half of the library, the CUDA runtime,
// is runtime.cpp.
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "device_state.h"
#include "memory.h"

// Save the registers that a call must keep on this stack, then go on from another one.
extern "C" void coc_switch(void** save, void* load);
asm(R"(
.text
.globl coc_switch
.hidden coc_switch
coc_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx       # not ret: the processor would expect this stack's own caller
)");

namespace {

// CUresult, as far as it is used
enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  INVALID_IMAGE = 200,
  NOT_FOUND = 500,
  LAUNCH_OUT_OF_RESOURCES = 701,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
};

constexpr size_t MOST_THREADS = 1024;       // of a block
constexpr unsigned MOST_SHARED = 48 << 10;  // bytes of shared memory that a launch may ask for

using Launcher = void (*)(void** arguments);

struct Module {
  void* handle;
  coc_module* info;
};

struct Function {
  Module* module;
  std::string name;
  Launcher launch;
  bool flush;
};

struct Count {
  long launches = 0;
  double seconds = 0;
};

std::mutex lock;
long launches = 0, fibers = 0, products = 0;
std::map<std::string, Count> counts;

// With CUDA_ON_CPU_PROFILE=FILE, adds the seconds and launches of each kernel to FILE at the end.
struct Profile {
  const char* path = getenv("CUDA_ON_CPU_PROFILE");
  ~Profile() {
    if (!path) return;
    std::ofstream file(path, std::ios::app);
    for (auto& [name, count] : counts)
      file << count.seconds << "\t" << count.launches << "\t" << name << "\n";
  }
} profile;

// ---------------------------------------------------------------------------------------------
// Fibers. Threads of a block that meet at __syncthreads() must all have got there before one goes
// on, so each has a stack of its own, and a wait is a jump to the next one's: a few instructions,
// where operating-system threads would need a thousand times as long.

class Block {
 public:
  // Run one block of a kernel whose threads synchronise; return whether all came to their end.
  bool run(coc_state* state, Launcher launch, void** arguments) {
    state_ = state, launch_ = launch, arguments_ = arguments;
    count_ = size_t(state->block_dim.x) * state->block_dim.y * state->block_dim.z;
    while (memory_.size() < count_) memory_.push_back(new_stack());
    stacks_.assign(count_, nullptr);
    waits_.assign(count_, COC_RUNS);
    lanes_.assign(count_, 0);
    for (size_t i = 0; i < count_; i++) stacks_[i] = first_frame(i);
    do {
      if (!resume_from(0)) continue;  // all that could run have run, up to where they wait
      coc_switch(&scheduler_, stacks_[current_]);
    } while (release());
    for (coc_wait wait : waits_)
      if (wait != COC_DONE) return false;
    return true;
  }

  // Called on a fiber: let the others run until this one's wait is over.
  void wait(coc_wait what, unsigned lanes = 0) {
    size_t own = current_;
    waits_[own] = what, lanes_[own] = lanes;
    // straight to the next thread, and back to the scheduler behind the last one
    void* next = resume_from(own + 1) ? stacks_[current_] : scheduler_;
    coc_switch(&stacks_[own], next);
  }

 private:
  static constexpr size_t STACK = 64 << 10, PAGE = 4096;

  static char* new_stack() {
    void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    mprotect(memory, PAGE, PROT_NONE);  // a kernel that needs more is stopped, not let through
    return static_cast<char*>(memory);
  }

  void* first_frame(size_t i) {
    // Tops at different offsets in their pages: else all stacks compete for the same cache lines.
    auto top = reinterpret_cast<uintptr_t>(memory_[i] + STACK) - i % 21 * 192;
    void** frame = reinterpret_cast<void**>(top & ~uintptr_t(15));
    *--frame = nullptr;                          // where `begin` must never return to
    *--frame = reinterpret_cast<void*>(&begin);  // where coc_switch "returns" to
    frame -= 6;                                  // the registers that it pops
    memset(frame, 0, 6 * sizeof(void*));
    return frame;
  }

  static void begin();

  // Make the next thread that may run, from `first` on, the current one.
  bool resume_from(size_t first) {
    for (size_t i = first; i < count_; i++) {
      if (waits_[i] != COC_RUNS) continue;
      current_ = i;
      unsigned rank = i, x = state_->block_dim.x, y = state_->block_dim.y;
      if (rank < x)
        state_->thread = {rank, 0, 0};  // without divisions, which would take longer than the jump
      else
        state_->thread = {rank % x, rank / x % y, rank / x / y};
      return true;
    }
    return false;
  }

  // Let threads go on that have waited for all they wait for; return whether any may. None runs.
  bool release() {
    bool any = false, whole = true;
    for (size_t start = 0; start < count_; start += 32) {
      size_t stop = std::min(start + 32, count_);
      unsigned left = 0, here = 0;  // lanes that have not ended; those that wait for others
      for (size_t i = start; i < stop; i++) {
        if (waits_[i] != COC_DONE) left |= 1u << (i - start);
        if (waits_[i] == COC_WARP) here |= 1u << (i - start);
        whole = whole && (waits_[i] == COC_DONE || waits_[i] == COC_BLOCK);
      }
      for (size_t i = start; i < stop; i++) {
        if (waits_[i] != COC_WARP || (lanes_[i] & left & ~here)) continue;
        waits_[i] = COC_RUNS, any = true;
      }
    }
    for (size_t i = 0; whole && i < count_; i++)
      if (waits_[i] == COC_BLOCK) waits_[i] = COC_RUNS, any = true;
    return any;
  }

  coc_state* state_;
  Launcher launch_;
  void** arguments_;
  size_t count_, current_;
  void* scheduler_;
  std::vector<char*> memory_;
  std::vector<void*> stacks_;
  std::vector<coc_wait> waits_;
  std::vector<unsigned> lanes_;
};

Block block;

void Block::begin() {
  block.launch_(block.arguments_);
  block.wait(COC_DONE);
}

void wait_in_block(coc_wait what, unsigned lanes) { block.wait(what, lanes); }

// ---------------------------------------------------------------------------------------------

// whether blocks, and threads that don't wait, run from the last one to the first
bool backwards = false;

template <class F>
void for_each(coc_index n, coc_index& index, F f) {
  auto at = [](unsigned i, unsigned count) { return backwards ? count - 1 - i : i; };
  for (unsigned z = 0; z < n.z; z++)
    for (unsigned y = 0; y < n.y; y++)
      for (unsigned x = 0; x < n.x; x++) {
        index = {at(x, n.x), at(y, n.y), at(z, n.z)};
        f();
      }
}

// Run all blocks of a launch, one after the other; return whether all threads came to their end.
bool run_kernel(const Function& f, coc_index grid, coc_index threads, void** arguments) {
  coc_state* state = f.module->info->state;
  bool ended = true;
  switch (f.module->info->mode) {
    case COC_GRID_STRIDE:
      // CuPy's elementwise kernels: `for (i = first thread's; i < n; i += all threads)`
      state->grid_dim = state->block_dim = {1, 1, 1};
      state->block = state->thread = {0, 0, 0};
      f.launch(arguments);
      break;
    case COC_BLOCKS:
      state->grid_dim = grid, state->block_dim = threads, state->thread = {0, 0, 0};
      for_each(grid, state->block, [&] { f.launch(arguments); });
      break;
    case COC_THREADS:
      state->grid_dim = grid, state->block_dim = threads;
      for_each(grid, state->block,
               [&] { for_each(threads, state->thread, [&] { f.launch(arguments); }); });
      break;
    case COC_FIBERS:
      state->grid_dim = grid, state->block_dim = threads;
      for_each(grid, state->block, [&] { ended = ended && block.run(state, f.launch, arguments); });
      fibers++;
      break;
  }
  return ended;
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

char context;  // there is one for all; its address is its handle

int load(Module** module, const char* image, size_t size) {
  // Under a name that never comes again: dlopen takes libraries of one name for one.
  const char* base = getenv("TMPDIR");
  std::string path = std::string(base ? base : "/tmp") + "/cuda-on-cpu-XXXXXX";
  int file = mkstemp(path.data());
  if (file < 0) return INVALID_IMAGE;
  bool written = write(file, image, size) == ssize_t(size);
  close(file);
  void* handle = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path.c_str());
  auto info = handle ? static_cast<coc_module*>(dlsym(handle, "coc_module_info")) : nullptr;
  if (!info) {
    // such as where programs in TMPDIR must not run
    if (written && !handle) fprintf(stderr, "cuda-on-cpu: %s\n", dlerror());
    return INVALID_IMAGE;
  }
  info->state->wait = wait_in_block;
  *module = new Module{handle, info};
  return SUCCESS;
}

}  // namespace

extern "C" {

int cuGetErrorName(int error, const char** text) {
  switch (error) {
    case SUCCESS: *text = "CUDA_SUCCESS"; break;
    case INVALID_VALUE: *text = "CUDA_ERROR_INVALID_VALUE"; break;
    case INVALID_IMAGE: *text = "CUDA_ERROR_INVALID_IMAGE"; break;
    case NOT_FOUND: *text = "CUDA_ERROR_NOT_FOUND"; break;
    case LAUNCH_OUT_OF_RESOURCES: *text = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; break;
    case LAUNCH_FAILED: *text = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case NOT_SUPPORTED: *text = "CUDA_ERROR_NOT_SUPPORTED"; break;
    default: *text = "CUDA_ERROR_UNKNOWN";
  }
  return SUCCESS;
}

int cuGetErrorString(int error, const char** text) {
  switch (error) {
    case SUCCESS: *text = "no error"; break;
    case INVALID_VALUE: *text = "invalid argument"; break;
    case INVALID_IMAGE: *text = "device kernel image is invalid"; break;
    case NOT_FOUND: *text = "named symbol not found"; break;
    case LAUNCH_OUT_OF_RESOURCES: *text = "too many resources requested for launch"; break;
    case LAUNCH_FAILED: *text = "unspecified launch failure"; break;
    case NOT_SUPPORTED: *text = "operation not supported by the emulated driver"; break;
    default: *text = "unknown error";
  }
  return SUCCESS;
}

int cuInit(unsigned) { return SUCCESS; }
int cuCtxGetCurrent(void** result) { return *result = &context, SUCCESS; }
int cuCtxSetCurrent(void*) { return SUCCESS; }
int cuCtxGetDevice(int* device) { return *device = current_device(), SUCCESS; }
int cuDevicePrimaryCtxRelease(int) { return SUCCESS; }
int cuStreamGetCtx(void*, void** result) { return *result = &context, SUCCESS; }

int cuModuleLoadData(Module** module, const void* image) {
  // CuPy hands over what nvrtc.cpp made, without its size: that of an ELF file is in its header
  auto* elf = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(elf->e_ident, ELFMAG, SELFMAG) != 0) return INVALID_IMAGE;
  size_t size = elf->e_shoff + size_t(elf->e_shentsize) * elf->e_shnum;
  return load(module, static_cast<const char*>(image), size);
}

int cuModuleLoad(Module** module, const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream all;
  all << file.rdbuf();
  return file ? load(module, all.str().data(), all.str().size()) : NOT_FOUND;
}

int cuModuleUnload(Module*) { return SUCCESS; }  // its code may still be asked for: kept

int cuModuleGetFunction(Function** function, Module* module, const char* name) {
  auto find = [&](const char* prefix) {
    return dlsym(module->handle, (std::string(prefix) + name).c_str());
  };
  auto launch = reinterpret_cast<Launcher>(find("coc_launch_"));
  if (!launch) return NOT_FOUND;
  auto arguments = std::string(reinterpret_cast<const char* (*)()>(find("coc_arguments_"))());
  auto has = [&](const char* word) { return arguments.find(word) != std::string::npos; };
  // The processor flushes float64 too, or neither: a kernel with both keeps its subnormals.
  bool flush = module->info->flush && has("float") && !has("double");
  *function = new Function{module, name, launch, flush};
  return SUCCESS;
}

int cuFuncGetAttribute(int* value, int attribute, void*) {
  return *value = attribute == 0 ? MOST_THREADS : 0, SUCCESS;  // 0: threads of a block
}

int cuFuncSetAttribute(void*, int, int) { return SUCCESS; }

int cuOccupancyMaxPotentialBlockSize(int* grid, int* block, void*, void*, size_t, int) {
  return *grid = 1, *block = 128, SUCCESS;
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, void*, int, size_t) {
  return *count = 1, SUCCESS;
}

int cuLaunchKernel(Function* f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned x,
                   unsigned y, unsigned z, unsigned shared, void*, void** arguments, void**) {
  size_t threads = size_t(x) * y * z;
  if (!threads || !grid_x || !grid_y || !grid_z || shared > MOST_SHARED) return INVALID_VALUE;
  if (grid_y > 65535 || grid_z > 65535 || x > 1024 || y > 1024 || z > 64) return INVALID_VALUE;
  if (threads > MOST_THREADS) return INVALID_VALUE;
  std::lock_guard<std::mutex> guard(lock);
  double begun = profile.path ? now() : 0;
  launches++;
  // a device rounds to nearest and traps nothing, whatever the host was told
  constexpr unsigned CLEAN = 0x1f80, FLUSH = 0x8000, SUBNORMALS_ARE_ZERO = 0x0040;
  unsigned before = _mm_getcsr();
  _mm_setcsr(f->flush ? CLEAN | FLUSH | SUBNORMALS_ARE_ZERO : CLEAN);
  bool ended = run_kernel(*f, {grid_x, grid_y, grid_z}, {x, y, z}, arguments);
  _mm_setcsr(before);
  if (profile.path) {
    Count& count = counts[f->name];
    count.launches++, count.seconds += now() - begun;
  }
  if (!ended)
    fprintf(stderr, "cuda-on-cpu: the threads of %s wait for each other\n", f->name.c_str());
  return ended ? SUCCESS : LAUNCH_FAILED;
}

// not CUDA's: kernels launched so far, those of them that ran on fibers, and cuBLAS's products
long coc_launches() { return launches; }
long coc_fibers() { return fibers; }
long coc_products() { return products; }

// not CUDA's: run the blocks of a kernel in the other order. On a card they run in any, so what
// depends on it is wrong.
void coc_backwards(int yes) { backwards = yes; }

// what cublas.cpp calls for each of them
void coc_product() {
  std::lock_guard<std::mutex> guard(lock);
  products++;
}

}  // extern "C"
