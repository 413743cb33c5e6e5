// Kernels that compile for the device and for the host.
//
// A kernel is a struct: Params (passed by value), kThreads (of a block), kPhases, and
//     run(params, place, phase, shared)
// which executes one phase of one thread. On the device there is a barrier between phases (device.cuh). On
// the host the threads of a block run one after another, phase by phase (host_launch.hpp). State that a
// thread needs in a later phase must be in shared memory.
//
// Kernels access memory through read and write below. With LEAKRT_GRID_CHECK, these check on the host that an
// address is in a buffer of the launch, is aligned, and is written only once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "half.hpp"

#if defined(__CUDACC__)
#define LEAKRT_UNROLL _Pragma("unroll")
#define LEAKRT_UNROLL_4 _Pragma("unroll 4")
#else
#define LEAKRT_UNROLL
#define LEAKRT_UNROLL_4
#endif

namespace leakrt {

// One thread of a launch.
struct Place {
  std::uint32_t block, row, layer, thread;  // block index x, y, z; thread index in the block
};

struct LaunchShape {
  std::uint32_t blocks, rows, layers;
  std::size_t shared;  // bytes of shared memory
};

constexpr std::uint32_t kMostRows = 65535;  // maximum grid size in y and z
constexpr std::uint32_t kMostBlocks = 0x7FFFFFFFu;

#if defined(LEAKRT_GRID_CHECK)
// Defined in host_launch.hpp. Throw GridError.
void check_read(const void* address, std::size_t bytes);
void check_write(const void* address, std::size_t bytes);
#define LEAKRT_CHECK_READ(address, bytes) check_read(address, bytes)
#define LEAKRT_CHECK_WRITE(address, bytes) check_write(address, bytes)
#else
#define LEAKRT_CHECK_READ(address, bytes)
#define LEAKRT_CHECK_WRITE(address, bytes)
#endif

template <class T>
LEAKRT_HD T read(const T* address) {
#if defined(__CUDA_ARCH__)
  return __ldg(address);
#else
  LEAKRT_CHECK_READ(address, sizeof(T));
  return *address;
#endif
}

LEAKRT_HD Half read(const Half* address) {
  return Half{read(reinterpret_cast<const std::uint16_t*>(address))};
}

template <class T>
LEAKRT_HD void write(T* address, T value) {
#if !defined(__CUDA_ARCH__)
  LEAKRT_CHECK_WRITE(address, sizeof(T));
#endif
  *address = value;
}

template <class T>
LEAKRT_HD void write_float(T* address, float value) {
  T converted;
  from_float(value, converted);
  write(address, converted);
}

struct Words {
  std::uint32_t w[4];
};

// Reads 16 bytes at once; the address must be a multiple of 16.
LEAKRT_HD Words read16(const void* address) {
#if defined(__CUDA_ARCH__)
  const uint4 v = __ldg(static_cast<const uint4*>(address));
  return Words{{v.x, v.y, v.z, v.w}};
#else
  LEAKRT_CHECK_READ(address, 16);
  Words v;
  std::memcpy(&v, address, 16);
  return v;
#endif
}

struct WordPair {
  std::uint32_t w[2];
};

// Reads 8 bytes at once; the address must be a multiple of 8.
LEAKRT_HD WordPair read8(const void* address) {
#if defined(__CUDA_ARCH__)
  const uint2 v = __ldg(static_cast<const uint2*>(address));
  return WordPair{{v.x, v.y}};
#else
  LEAKRT_CHECK_READ(address, 8);
  WordPair v;
  std::memcpy(&v, address, 8);
  return v;
#endif
}

// Writes 16 bytes at once with a streaming hint; the address must be a multiple of 16.
LEAKRT_HD void write16(void* address, const Words& v) {
#if defined(__CUDA_ARCH__)
  __stcs(static_cast<uint4*>(address), make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
#else
  LEAKRT_CHECK_WRITE(address, 16);
  std::memcpy(address, &v, 16);
#endif
}

// `bytes` must be a power of two.
LEAKRT_HD bool is_aligned(const void* address, std::size_t bytes) {
  return (reinterpret_cast<std::uintptr_t>(address) & (bytes - 1)) == 0;
}

template <class T>
LEAKRT_HD T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
LEAKRT_HD T larger(T a, T b) {
  return a < b ? b : a;
}

template <class T>
LEAKRT_HD T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace leakrt
