// Kernels run on the host, thread after thread, with every access to memory checked: the twin of device.cuh.
//
// What compute-sanitizer finds on a device is found here too: an address outside the buffers of the launch or
// not aligned, a result that is written twice or not at all, shared memory read before it was written (it
// starts as NaN in every block). A race shows as a difference between the two orders of threads.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "grid.hpp"

namespace leakrt {

struct GridError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The buffers of the launch that runs on this thread.
class Watch {
 public:
  void add(const void* begin, std::size_t bytes, bool writable) {
    buffers_.push_back(
        {reinterpret_cast<std::uintptr_t>(begin), bytes, std::vector<bool>(writable ? bytes : 0)});
  }

  void read(const void* address, std::size_t bytes) const { find("reads", address, bytes); }

  void write(const void* address, std::size_t bytes) {
    const std::size_t index = find("writes", address, bytes);
    Buffer& buffer = buffers_[index];
    if (buffer.written.empty()) throw GridError("a thread writes to an input, at " + place(index, address));
    const std::size_t offset = reinterpret_cast<std::uintptr_t>(address) - buffer.begin;
    for (std::size_t i = offset; i < offset + bytes; ++i) {
      if (buffer.written[i]) throw GridError("two writes to one byte, at " + place(index, address));
      buffer.written[i] = true;
    }
  }

  // Throws unless every byte of every result was written.
  void finish() const {
    for (std::size_t index = 0; index < buffers_.size(); ++index)
      for (std::size_t i = 0; i < buffers_[index].written.size(); ++i)
        if (!buffers_[index].written[i])
          throw GridError("byte " + std::to_string(i) + " of buffer " + std::to_string(index) +
                          " is not written");
  }

 private:
  struct Buffer {
    std::uintptr_t begin;
    std::size_t bytes;
    std::vector<bool> written;  // empty: an input
  };

  std::size_t find(const char* does, const void* address, std::size_t bytes) const {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (at % bytes != 0) throw GridError(std::string("a thread ") + does + " unaligned memory");
    for (std::size_t i = 0; i < buffers_.size(); ++i)
      if (at >= buffers_[i].begin && at + bytes <= buffers_[i].begin + buffers_[i].bytes) return i;
    throw GridError(std::string("a thread ") + does + " outside every buffer");
  }

  std::string place(std::size_t index, const void* address) const {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - buffers_[index].begin;
    return "byte " + std::to_string(offset) + " of buffer " + std::to_string(index);
  }

  std::vector<Buffer> buffers_;
};

inline thread_local Watch* watch = nullptr;

inline void check_read(const void* address, std::size_t bytes) { watch->read(address, bytes); }
inline void check_write(const void* address, std::size_t bytes) { watch->write(address, bytes); }

// Every thread of every block, in order or in reverse. Throws GridError.
template <class K>
void launch_on_host(const typename K::Params& params, const LaunchShape& shape, bool backwards) {
  Watch here;
  K::buffers(params,
             [&](const void* begin, std::size_t bytes, bool writable) { here.add(begin, bytes, writable); });
  watch = &here;
  std::vector<double> shared(shape.shared / sizeof(double) + 2);
  const std::uint64_t blocks = std::uint64_t{shape.blocks} * shape.rows * shape.layers;
  try {
    for (std::uint64_t n = 0; n < blocks; ++n) {
      const std::uint64_t index = backwards ? blocks - 1 - n : n;
      Place place{static_cast<std::uint32_t>(index % shape.blocks),
                  static_cast<std::uint32_t>(index / shape.blocks % shape.rows),
                  static_cast<std::uint32_t>(index / shape.blocks / shape.rows), 0};
      std::memset(shared.data(), 0xFF, shared.size() * sizeof(double));
      for (int phase = 0; phase < K::kPhases; ++phase)
        for (std::uint32_t i = 0; i < K::kThreads; ++i) {
          place.thread = backwards ? K::kThreads - 1 - i : i;
          K::run(params, place, phase, shared.data());
        }
    }
    here.finish();
  } catch (...) {
    watch = nullptr;
    throw;
  }
  watch = nullptr;
}

}  // namespace leakrt
