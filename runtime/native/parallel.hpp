// Work split over threads of one call. Nothing outlives the call, so forking and interpreter exit stay safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace leakrt {

// Threads worth starting: `wanted` (0: one per core this process may use), but none for less than `grain` of
// `work`.
inline std::size_t thread_count(int wanted, std::size_t work, std::size_t grain) {
  const std::size_t useful = std::max<std::size_t>(1, work / grain);
  if (useful == 1) return 1;  // asking for the number of cores takes longer than little work
  const std::size_t most = wanted > 0 ? static_cast<std::size_t>(wanted)
                                      : std::max<std::size_t>(1, std::thread::hardware_concurrency());
  return std::min(most, useful);
}

// Call body(i, worker) once for each i < tasks, in any order, on up to `threads` threads; worker < threads
// tells them apart. The body must not throw. A thread that can't be started is done without.
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
