// Splits the work of one call over threads. No thread outlives the call, so fork and interpreter exit are
// safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace leakrt {

// Returns the number of threads to use: `wanted` (0: one per core this process may use), but at most one per
// `grain` of `work`.
inline std::size_t thread_count(int wanted, std::size_t work, std::size_t grain) {
  const std::size_t useful = std::max<std::size_t>(1, work / grain);
  if (useful == 1) return 1;  // querying the number of cores takes longer than a small job
  const std::size_t most = wanted > 0 ? static_cast<std::size_t>(wanted)
                                      : std::max<std::size_t>(1, std::thread::hardware_concurrency());
  return std::min(most, useful);
}

// Calls body(i, worker) once for each i < tasks, in any order, on up to `threads` threads. `worker` is the
// thread's index. The body must not throw. If a thread can't be started, the others do its work.
template <class Body>
void parallel_for(std::size_t tasks, std::size_t threads, const Body& body) {
  threads = std::min(threads, tasks);
  if (threads <= 1) {
    for (std::size_t i = 0; i < tasks; ++i) body(i, std::size_t{0});
    return;
  }
  std::atomic<std::size_t> next{0};
  const auto work = [&](std::size_t worker) {
    for (std::size_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) body(i, worker);
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads - 1);
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(work, helpers.size() + 1);
  } catch (const std::exception&) {
  }
  work(0);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace leakrt
