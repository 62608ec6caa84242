// Stands in for the CUDA runtime, the functions that CuPy has linked statically: `patch.py` puts a
// jump to coc_cudaX at the beginning of each cudaX. Device memory is host memory that is known by
// its addresses; streams and events are over as soon as they are made.
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "memory.h"

namespace {

// cudaError_t, as far as it is used
enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  MEMORY_ALLOCATION = 2,
  INVALID_DEVICE = 101,
  NOT_SUPPORTED = 801
};
enum Kind { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, DEFAULT };

constexpr int MOST_DEVICES = 8;
constexpr size_t CAPACITY = size_t(2) << 30;  // bytes of a device
constexpr int CUDA = 1000 * COC_CUDA;         // COC_CUDA: 12 or 13, that of the CuPy wheel

int device_count() {
  static int count = [] {
    const char* given = getenv("CUDA_ON_CPU_DEVICES");
    int n = given ? atoi(given) : 1;
    return n < 1 ? 1 : n > MOST_DEVICES ? MOST_DEVICES : n;
  }();
  return count;
}

thread_local int current = 0;

struct Allocation {
  size_t size;
  int device;
};

std::mutex lock;
std::map<uintptr_t, Allocation> allocations;
size_t used[MOST_DEVICES];

std::atomic<long> copies[5], bytes[5];

// Return the allocation that p is in, or null; the lock is held.
const std::pair<const uintptr_t, Allocation>* owner(const void* p) {
  auto address = reinterpret_cast<uintptr_t>(p);
  auto found = allocations.upper_bound(address);
  if (found == allocations.begin()) return nullptr;
  --found;
  return address - found->first < found->second.size ? &*found : nullptr;
}

enum Place { HOST, DEVICE, BEYOND };

// Return where the n bytes from p are; BEYOND if they begin in an allocation and end after it.
Place place_of(const void* p, size_t n) {
  std::lock_guard<std::mutex> guard(lock);
  auto own = owner(p);
  if (!own) return HOST;
  return reinterpret_cast<uintptr_t>(p) + n <= own->first + own->second.size ? DEVICE : BEYOND;
}

int allocate(void** p, size_t n) {
  std::lock_guard<std::mutex> guard(lock);
  size_t size = n ? n : 1;
  if (size > CAPACITY - used[current]) return MEMORY_ALLOCATION;
  if (posix_memalign(p, 512, size)) return MEMORY_ALLOCATION;
  memset(*p, 0xcd, size);  // what was not written is no number that looks right
  allocations[reinterpret_cast<uintptr_t>(*p)] = {size, current};
  used[current] += size;
  return SUCCESS;
}

int copy(void* to, const void* from, size_t n, int kind) {
  if (kind < 0 || kind > DEFAULT) return INVALID_VALUE;
  Place there = place_of(to, n), here = place_of(from, n);
  if (kind == DEFAULT) kind = 2 * (here == DEVICE) + (there == DEVICE);
  // A card would stop here, or worse: each side must be where the kind says.
  bool to_device = kind == HOST_TO_DEVICE || kind == DEVICE_TO_DEVICE;
  bool from_device = kind == DEVICE_TO_HOST || kind == DEVICE_TO_DEVICE;
  if (n && (there != (to_device ? DEVICE : HOST) || here != (from_device ? DEVICE : HOST)))
    return INVALID_VALUE;
  copies[kind]++, bytes[kind] += n;
  // With CUDA_ON_CPU_TRACE=1, a signal at each copy to the host, for faulthandler to say who asked.
  static const bool traced = getenv("CUDA_ON_CPU_TRACE") != nullptr;
  if (traced && kind == DEVICE_TO_HOST) raise(SIGUSR1);
  memmove(to, from, n);
  return SUCCESS;
}

int fill(void* p, int value, size_t n) {
  if (n && place_of(p, n) != DEVICE) return INVALID_VALUE;
  memset(p, value, n);
  return SUCCESS;
}

int host_memory(void** p, size_t n) {
  return posix_memalign(p, 512, n ? n : 1) ? MEMORY_ALLOCATION : SUCCESS;
}

double milliseconds() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct Attributes {
  int type, device;
  void *on_device, *on_host;
};  // cudaPointerAttributes
using Event = double;  // when it was recorded

}  // namespace

int current_device() { return current; }

extern "C" {

// not CUDA's: copies, and bytes copied, by kind: 1 host to device, 2 device to host, 3 on the
// device
long coc_copies(int kind) { return copies[kind]; }
long coc_bytes(int kind) { return bytes[kind]; }

// not CUDA's: whether an address is in memory of the current device, for cublas.cpp
int coc_is_here(const void* p) {
  std::lock_guard<std::mutex> guard(lock);
  auto own = owner(p);
  return own && own->second.device == current;
}

// what every function that is missing here becomes
int coc_missing(const char* name) {
  if (getenv("CUDA_ON_CPU_DEBUG")) fprintf(stderr, "cuda-on-cpu: %s is missing\n", name);
  return NOT_SUPPORTED;
}

const char* coc_cudaGetErrorName(int error) {
  switch (error) {
    case SUCCESS: return "cudaSuccess";
    case INVALID_VALUE: return "cudaErrorInvalidValue";
    case MEMORY_ALLOCATION: return "cudaErrorMemoryAllocation";
    case INVALID_DEVICE: return "cudaErrorInvalidDevice";
    case NOT_SUPPORTED: return "cudaErrorNotSupported";
    default: return "cudaErrorUnknown";
  }
}

const char* coc_cudaGetErrorString(int error) {
  switch (error) {
    case SUCCESS: return "no error";
    case INVALID_VALUE: return "invalid argument";
    case MEMORY_ALLOCATION: return "out of memory";
    case INVALID_DEVICE: return "invalid device ordinal";
    case NOT_SUPPORTED: return "operation not supported by the emulated runtime";
    default: return "unknown error";
  }
}

int coc_cudaGetLastError() { return SUCCESS; }
int coc_cudaPeekAtLastError() { return SUCCESS; }

// Devices

int coc_cudaDriverGetVersion(int* version) { return *version = CUDA, SUCCESS; }
int coc_cudaRuntimeGetVersion(int* version) { return *version = CUDA, SUCCESS; }
int coc_cudaGetDeviceCount(int* count) { return *count = device_count(), SUCCESS; }
int coc_cudaGetDevice(int* device) { return *device = current, SUCCESS; }

int coc_cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return INVALID_DEVICE;
  return current = device, SUCCESS;
}

int coc_cudaDeviceSynchronize() { return SUCCESS; }
int coc_cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, SUCCESS; }
int coc_cudaDeviceGetLimit(size_t* limit, int) { return *limit = 0, SUCCESS; }

int coc_cudaDeviceGetAttribute(int* value, int attribute, int device) {
  if (device < 0 || device >= device_count()) return INVALID_DEVICE;
  switch (attribute) {  // cudaDeviceAttr
    case 1:
    case 2:
    case 3: *value = 1024; break;        // threads of a block; its x; its y
    case 4: *value = 64; break;          // its z
    case 5: *value = 2147483647; break;  // blocks of a grid: x
    case 6:
    case 7: *value = 65535; break;     // y, z
    case 8: *value = 48 << 10; break;  // shared memory of a block
    case 10: *value = 32; break;       // threads of a warp
    case 16: *value = 4; break;        // multiprocessors
    case 39: *value = 2048; break;     // threads of a multiprocessor
    case 75: *value = 9; break;        // compute capability 9.0
    case 76: *value = 0; break;
    default: *value = 1;
  }
  return SUCCESS;
}

int coc_cudaDeviceGetPCIBusId(char* text, int size, int device) {
  return snprintf(text, size, "0000:%02x:00.0", device), SUCCESS;
}

// cudaDeviceProp is 1,032 bytes with CUDA 12 and fewer with 13; these fields lie alike in both.
int coc_cudaGetDeviceProperties(char* properties, int device) {
  if (device < 0 || device >= device_count()) return INVALID_DEVICE;
  memset(properties, 0, 720);
  strcpy(properties, "emulated GPU");
  auto at = [&](int offset) { return reinterpret_cast<int*>(properties + offset); };
  memcpy(at(288), &CAPACITY, sizeof CAPACITY);  // totalGlobalMem
  *at(296) = 48 << 10;                          // sharedMemPerBlock
  *at(304) = 65536;                             // regsPerBlock
  *at(308) = 32;                                // warpSize
  *at(320) = *at(324) = *at(328) = 1024;        // maxThreadsPerBlock, maxThreadsDim
  *at(332) = 64;
  *at(336) = 2147483647;  // maxGridSize
  *at(340) = *at(344) = 65535;
  *at(360) = 9;  // major, of the compute capability
  return SUCCESS;
}

int coc_cudaGetDeviceProperties_v2(char* properties, int device) {
  return coc_cudaGetDeviceProperties(properties, device);
}

// Memory

int coc_cudaMalloc(void** p, size_t n) { return allocate(p, n); }

int coc_cudaFree(void* p) {
  if (!p) return SUCCESS;
  std::lock_guard<std::mutex> guard(lock);
  auto found = allocations.find(reinterpret_cast<uintptr_t>(p));
  if (found == allocations.end()) return INVALID_VALUE;
  used[found->second.device] -= found->second.size;
  allocations.erase(found);
  free(p);
  return SUCCESS;
}

int coc_cudaMemGetInfo(size_t* available, size_t* total) {
  std::lock_guard<std::mutex> guard(lock);
  return *total = CAPACITY, *available = CAPACITY - used[current], SUCCESS;
}

int coc_cudaHostAlloc(void** p, size_t n, unsigned) { return host_memory(p, n); }
int coc_cudaMallocHost(void** p, size_t n) { return host_memory(p, n); }
int coc_cudaFreeHost(void* p) { return free(p), SUCCESS; }

int coc_cudaMemcpy(void* to, const void* from, size_t n, int kind) {
  return copy(to, from, n, kind);
}
int coc_cudaMemcpyAsync(void* to, const void* from, size_t n, int kind, void*) {
  return copy(to, from, n, kind);
}
int coc_cudaMemcpyPeer(void* to, int, const void* from, int, size_t n) {
  return copy(to, from, n, DEVICE_TO_DEVICE);
}
int coc_cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, void*) {
  return copy(to, from, n, DEVICE_TO_DEVICE);
}
int coc_cudaMemset(void* p, int value, size_t n) { return fill(p, value, n); }
int coc_cudaMemsetAsync(void* p, int value, size_t n, void*) { return fill(p, value, n); }

int coc_cudaPointerGetAttributes(Attributes* attributes, const void* p) {
  std::lock_guard<std::mutex> guard(lock);
  void* address = const_cast<void*>(p);
  auto own = owner(p);
  *attributes = own ? Attributes{2, own->second.device, address, nullptr}
                    : Attributes{0, -2, nullptr, address};
  return SUCCESS;
}

// Streams and events

int coc_cudaStreamCreate(void** stream) { return *stream = malloc(1), SUCCESS; }
int coc_cudaStreamCreateWithFlags(void** stream, unsigned) { return *stream = malloc(1), SUCCESS; }
int coc_cudaStreamCreateWithPriority(void** stream, unsigned, int) {
  return *stream = malloc(1), SUCCESS;
}
int coc_cudaStreamDestroy(void* stream) { return free(stream), SUCCESS; }
int coc_cudaStreamSynchronize(void*) { return SUCCESS; }
int coc_cudaStreamQuery(void*) { return SUCCESS; }
int coc_cudaStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }
int coc_cudaStreamIsCapturing(void*, int* status) { return *status = 0, SUCCESS; }
int coc_cudaStreamGetDevice(void*, int* device) { return *device = current, SUCCESS; }

int coc_cudaEventCreate(Event** event) { return *event = new Event(0), SUCCESS; }
int coc_cudaEventCreateWithFlags(Event** event, unsigned) { return *event = new Event(0), SUCCESS; }
int coc_cudaEventDestroy(Event* event) { return delete event, SUCCESS; }
int coc_cudaEventRecord(Event* event, void*) { return *event = milliseconds(), SUCCESS; }
int coc_cudaEventRecordWithFlags(Event* event, void*, unsigned) {
  return *event = milliseconds(), SUCCESS;
}
int coc_cudaEventSynchronize(Event*) { return SUCCESS; }
int coc_cudaEventQuery(Event*) { return SUCCESS; }
int coc_cudaEventElapsedTime(float* time, Event* from, Event* to) {
  return *time = float(*to - *from), SUCCESS;
}
int coc_cudaEventElapsedTime_v2(float* time, Event* from, Event* to) {
  return coc_cudaEventElapsedTime(time, from, to);
}

}  // extern "C"
