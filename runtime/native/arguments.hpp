// Checked views of NumPy arguments. A non-array or a wrong dtype raises TypeError, a wrong shape or layout
// ValueError. Messages name the argument, its value and what is expected.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace leakrt {

namespace nb = nanobind;

template <class T>
inline constexpr const char* kDtype = nullptr;
template <>
inline constexpr const char* kDtype<float> = "float32";
template <>
inline constexpr const char* kDtype<double> = "float64";
template <>
inline constexpr const char* kDtype<std::uint32_t> = "uint32";
template <>
inline constexpr const char* kDtype<std::uint8_t> = "uint8";

// In a shape pattern: any size of this axis.
inline constexpr std::size_t kAny = static_cast<std::size_t>(-1);

using Shape = std::vector<std::size_t>;

inline std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + (shape[i] == kAny ? std::string("*") : std::to_string(shape[i]));
  return text + "]";
}

[[noreturn]] inline void refuse_type(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] inline void refuse_value(const std::string& message) { throw nb::value_error(message.c_str()); }

// Keeps an array argument alive and in place for its own lifetime. Access is const T or T.
template <class Access>
class Argument {
  using T = std::remove_const_t<Access>;
  using Array = std::conditional_t<std::is_const_v<Access>, nb::ndarray<nb::ro>, nb::ndarray<>>;

 public:
  Argument(const char* name, nb::handle value) : name_(name) {
    if (!nb::try_cast(value, array_, false)) {
      const char* kind = std::is_const_v<Access> ? " has to be a " : " has to be a writable ";
      refuse_type(name_ + kind + kDtype<T> + " NumPy array");
    }
    if (array_.dtype() != nb::dtype<T>() || array_.device_type() != nb::device::cpu::value)
      refuse_type(name_ + " has to be " + kDtype<T>);
    if (reinterpret_cast<std::uintptr_t>(data()) % alignof(T) != 0) refuse_value(name_ + " is not aligned");
    shape_.resize(array_.ndim());
    for (std::size_t i = 0; i < shape_.size(); ++i) shape_[i] = array_.shape(i);
  }

  // Also checks the shape and C order.
  Argument(const char* name, nb::handle value, const Shape& pattern) : Argument(name, value) {
    check_shape(pattern);
    check_dense(0);
  }

  void check_shape(const Shape& pattern) const {
    bool same = shape_.size() == pattern.size();
    for (std::size_t i = 0; same && i < shape_.size(); ++i)
      same = pattern[i] == kAny || shape_[i] == pattern[i];
    if (!same)
      refuse_value(name_ + " has shape " + shape_text(shape_) + "; " + shape_text(pattern) + " is needed");
  }

  // Checks that the axes from `axis` on are contiguous in C order.
  void check_dense(std::size_t axis) const {
    std::int64_t expected = 1;
    for (std::size_t i = shape_.size(); array_.size() != 0 && i-- > axis;) {
      if (shape_[i] != 1 && array_.stride(i) != expected)
        refuse_value(name_ + " is not contiguous; pass numpy.ascontiguousarray of it");
      expected *= static_cast<std::int64_t>(shape_[i]);
    }
  }

  Access* data() const { return static_cast<Access*>(array_.data()); }
  const Shape& shape() const { return shape_; }
  std::size_t shape(std::size_t axis) const { return shape_[axis]; }
  std::ptrdiff_t stride(std::size_t axis) const { return static_cast<std::ptrdiff_t>(array_.stride(axis)); }

  // Returns whether this C-contiguous array overlaps the bytes from `begin` to `end`.
  bool overlaps(const void* begin, const void* end) const {
    const auto mine = reinterpret_cast<std::uintptr_t>(data());
    return array_.size() != 0 && reinterpret_cast<std::uintptr_t>(begin) < mine + array_.nbytes() &&
           mine < reinterpret_cast<std::uintptr_t>(end);
  }

  // Raises ValueError if the arrays overlap: results are written while inputs are still read.
  template <class Other>
  void check_apart(const Argument<Other>& other) const {
    if (other.size() != 0 && overlaps(other.data(), other.data() + other.size()))
      refuse_value(name_ + " overlaps " + other.name());
  }

  std::size_t size() const { return array_.size(); }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  Array array_;
  Shape shape_;
};

// Returns `out`, or a new array of that shape if `out` is None.
template <class T>
nb::object output_or_new(nb::object out, const Shape& shape) {
  if (!out.is_none()) return out;
  nb::list sizes;
  for (const std::size_t size : shape) sizes.append(size);
  return nb::module_::import_("numpy").attr("empty")(nb::tuple(sizes), nb::arg("dtype") = kDtype<T>);
}

// Returns a Python integer modulo 2^64.
inline std::uint64_t low_bits(const char* name, nb::handle value) {
  const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    refuse_type(std::string(name) + " has to be an integer");
  }
  return PyLong_AsUnsignedLongLongMask(index.ptr());
}

inline int checked_threads(int threads) {
  if (threads < 0)
    refuse_value("threads is " + std::to_string(threads) + "; 0 (one a core) or more is needed");
  return threads;
}

}  // namespace leakrt
