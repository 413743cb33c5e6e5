#include <cstdlib>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "operations.hpp"

namespace leakrt {

namespace baseline {
extern const Kernels table;
}
#if defined(LEAKRT_X86_LEVELS)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

// Returns the kernels that this CPU and operating system support, widest first.
std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> found;
#if defined(LEAKRT_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512::table);
  if (__builtin_cpu_supports("avx2")) found.push_back(&avx2::table);
#endif
  found.push_back(&baseline::table);
  return found;
}

const Kernels& choose() {
  const std::vector<const Kernels*> found = runnable();
  const char* wanted = std::getenv("LEAKRT_SIMD");
  if (wanted == nullptr || *wanted == '\0') return *found.front();
  std::string names;
  for (const Kernels* level : found) {
    if (std::string(wanted) == level->name) return *level;
    names += (names.empty() ? "" : ", ") + std::string(level->name);
  }
  throw SimdError("LEAKRT_SIMD=" + std::string(wanted) + " can't run here; choose one of: " + names);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const char* simd() { return kernels().name; }

std::vector<std::string> simd_levels() {
  std::vector<std::string> names;
  for (const Kernels* level : runnable()) names.emplace_back(level->name);
  return names;
}

}  // namespace leakrt
