// Numbers side by side in vectors, functions of them, and products of rows and of windows with panels of weights, for dense.cpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

namespace netwright {

#if !defined(ND_WIDTH) && defined(__AVX512F__)
#define ND_WIDTH 16
#elif !defined(ND_WIDTH) && defined(__AVX__)
#define ND_WIDTH 8
#elif !defined(ND_WIDTH)
#define ND_WIDTH 4
#endif
constexpr int WIDTH = ND_WIDTH, MOST = WIDTH == 16 ? 12 : 6;  // numbers of a vector, and rows of a tile: what fits the registers
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(sizeof(float)), may_alias));

typedef int32_t Wholes __attribute__((vector_size(WIDTH * sizeof(int32_t)), aligned(sizeof(int32_t)), may_alias));

constexpr int64_t PANEL = 2 * WIDTH;
constexpr int64_t AHEAD = 16;          // rows that are asked for ahead where a gradient is added up over them
constexpr int64_t DEPTH = 4096 / PANEL;  // inputs of a panel that stay in the first cache while all rows pass

enum Activation : int64_t { NONE, RELU, LEAKY, TANH, SIGMOID, SILU, GELU };

inline int64_t padded(int64_t count, int64_t by) { return (count + by - 1) / by * by; }

// From one row of so many numbers to the next: an odd number of cache lines, so that rows do not fall on the same places of a cache.
inline int64_t apart(int64_t count) { return (((count + 15) / 16) | 1) * 16; }

class Numbers {  // room for numbers that begins with a cache line, all 0
 public:
  void make(int64_t count) {
    const size_t bytes = static_cast<size_t>(padded(count * 4, 64) + 64);
    held_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!held_) throw std::bad_alloc();
    std::memset(held_.get(), 0, bytes);
  }
  float* at(int64_t place = 0) const { return held_.get() + place; }

 private:
  struct Free {
    void operator()(float* held) const { std::free(held); }
  };
  std::unique_ptr<float, Free> held_;
};

struct Grid {  // rows of numbers, one after the other
  float* first = nullptr;
  int64_t stride = 0;
  float* row(int64_t number) const { return first + number * stride; }
};

inline void start_with(const Numbers& bias, Grid out, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) std::memcpy(out.row(row), bias.at(), out.stride * sizeof(float));
}

// ---- functions of one number, which a compiler makes vectors of

// Always in place: as calls they are no vectors, and the last bit hangs on whether a compiler multiplies and adds at once there.
#define ND_INLINE __attribute__((always_inline)) inline

ND_INLINE float exponential(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * r * r + r + 1.0f) * std::bit_cast<float>((static_cast<uint32_t>(static_cast<int32_t>(whole)) + 127u) << 23);
}

ND_INLINE float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

ND_INLINE float tangent(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x, size = std::fabs(x);
  const float far = std::copysign(1.0f - 2.0f / (exponential(2.0f * size) + 1.0f), x);
  return size < 0.625f ? near : far;
}

ND_INLINE float normal(float x) {  // the share of a normal distribution below x, within 1e-7
  const float size = std::fabs(x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * size);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * p * t * exponential(-size * size);
  return x < 0.0f ? tail : 1.0f - tail;
}

// Writes activations over what they get, and their slopes.
template <typename Value, typename Slope>
ND_INLINE void apply(float* __restrict value, float* __restrict slope, int64_t count, Value value_of, Slope slope_of) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = value[i], y = value_of(x);
    value[i] = y;
    slope[i] = slope_of(x, y);
  }
}

inline void activate(Activation kind, float leak, float* value, float* slope, int64_t count) {
  switch (kind) {
    case NONE: return apply(value, slope, count, [](float x) { return x; }, [](float, float) { return 1.0f; });
    case RELU:
      return apply(
          value, slope, count, [](float x) { return x < 0.0f ? 0.0f : x; }, [](float x, float) { return x > 0.0f ? 1.0f : 0.0f; });
    case LEAKY:
      return apply(
          value, slope, count, [=](float x) { return x < 0.0f ? leak * x : x; },
          [=](float x, float) { return x > 0.0f ? 1.0f : leak; });
    case TANH: return apply(value, slope, count, tangent, [](float, float y) { return 1.0f - y * y; });
    case SIGMOID: return apply(value, slope, count, logistic, [](float, float y) { return y * (1.0f - y); });
    case SILU:
      return apply(
          value, slope, count, [](float x) { return x * logistic(x); },
          [](float x, float) {
            const float share = logistic(x);
            return share * (1.0f + x * (1.0f - share));
          });
    case GELU:
      return apply(
          value, slope, count, [](float x) { return x * normal(x); },
          [](float x, float) { return normal(x) + x * 0.39894228f * exponential(-0.5f * x * x); });
  }
}

// ---- products

// sums[i] += x(i) * numbers, for the outputs of a panel: two vectors, or one where the outputs fill no more
template <int COUNT, int PARTS, typename Value>
ND_INLINE void add_products(Vector (&sums)[COUNT][PARTS], const float* numbers, Value x) {
  Vector held[PARTS];
  for (int part = 0; part < PARTS; ++part) held[part] = reinterpret_cast<const Vector*>(numbers)[part];
#pragma GCC unroll 16
  for (int i = 0; i < COUNT; ++i) {
    const float value = x(i);
    for (int part = 0; part < PARTS; ++part) sums[i][part] += value * held[part];
  }
}

template <int ROWS, int PARTS>
ND_INLINE void write(const Vector (&sums)[ROWS][PARTS], Grid out) {
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int part = 0; part < PARTS; ++part) *reinterpret_cast<Vector*>(out.row(i) + part * WIDTH) = sums[i][part];
}

// out[i][n] += sum over k of a[i][k] * panel[k][n], for some rows i and the outputs n of a panel
template <int ROWS>
void tile(Grid a, const float* panel, int64_t depth, Grid out) {
  Vector sums[ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int part = 0; part < 2; ++part) sums[i][part] = *reinterpret_cast<const Vector*>(out.row(i) + part * WIDTH);
  for (int64_t k = 0; k < depth; ++k) add_products(sums, panel + k * PANEL, [&](int i) { return a.first[i * a.stride + k]; });
  write(sums, out);
}

// out[i][n] += sum over rows of a[row][i] * d[row][n], for some inputs i and the outputs n of a panel
template <int INPUTS>
void outer(Grid a, Grid d, int64_t rows, float* out) {
  Vector sums[INPUTS][2];
  auto* held = reinterpret_cast<Vector*>(out);
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i) sums[i][0] = held[2 * i], sums[i][1] = held[2 * i + 1];
  for (int64_t row = 0; row < rows; ++row) {
    const float* x = a.row(row);
    __builtin_prefetch(x + AHEAD * a.stride);  // half of them another core has written
    __builtin_prefetch(x + AHEAD * a.stride + INPUTS - 1);
    add_products(sums, d.row(row), [&](int i) { return x[i]; });
  }
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i) held[2 * i] = sums[i][0], held[2 * i + 1] = sums[i][1];
}

// out[i][n] = bias[n] + sum over lines l and k of at[i][l * pitch + k] * panel[l][k][n], for some windows i and the outputs n of a panel
template <int ROWS, int PARTS>
void window(const float* const* at, int64_t lines, int64_t pitch, int64_t depth, const float* panel, const float* bias, Grid out) {
  const float* from[ROWS];
  Vector sums[ROWS][PARTS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i) {
    from[i] = at[i];
    for (int part = 0; part < PARTS; ++part) sums[i][part] = *reinterpret_cast<const Vector*>(bias + part * WIDTH);
  }
  for (int64_t line = 0; line < lines; ++line)
    for (int64_t k = line * pitch; k < line * pitch + depth; ++k, panel += PANEL)
      add_products(sums, panel, [&](int i) { return from[i][k]; });
  write(sums, out);
}

struct Picture {  // places of numbers, line after line
  const float* first = nullptr;
  int64_t pitch = 0, step = 0;  // from line to line, and from place to place
};

// out[i][n] += sum over the places of a picture of x[i][place] * d[place][n], for some inputs i, each a picture of its own, and the
// outputs n of a panel
template <int INPUTS, int PARTS>
void outer_of_windows(const float* const* at, Picture x, Picture d, int64_t height, int64_t width, float* out) {
  const float* from[INPUTS];
  Vector sums[INPUTS][PARTS];
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i) {
    from[i] = at[i];
    for (int part = 0; part < PARTS; ++part) sums[i][part] = Vector{};
  }
  for (int64_t line = 0; line < height; ++line) {
    const float* change = d.first + line * d.pitch;
    for (int64_t k = line * x.pitch; k < line * x.pitch + width * x.step; k += x.step, change += d.step)
      add_products(sums, change, [&](int i) { return from[i][k]; });
  }
  auto* held = reinterpret_cast<Vector*>(out);
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i)
    for (int part = 0; part < PARTS; ++part) held[2 * i + part] += sums[i][part];
}

// Calls what is made for one vector of a panel, or for two, with what so many outputs fill.
template <typename Call>
void for_parts(int64_t outputs, Call call) {
  if (outputs > WIDTH) return call(std::integral_constant<int, 2>());
  call(std::integral_constant<int, 1>());
}

// Calls what is made for 1 to MOST rows with so many.
template <int COUNT = MOST, typename Call>
void for_count(int64_t count, Call call) {
  if constexpr (COUNT > 0) {
    if (count == COUNT) return call(std::integral_constant<int, COUNT>());
    for_count<COUNT - 1>(count, call);
  }
}

// Parts of a range, as equal as they can be, none larger than MOST.
template <typename Call>
void in_tiles(int64_t count, Call call) {
  const int64_t parts = (count + MOST - 1) / MOST;
  for (int64_t part = 0; part < parts; ++part) call(count * part / parts, count * (part + 1) / parts);
}

// out[row][n] += sum over k of a[row][k] * panels[n / PANEL][k][n % PANEL]
inline void multiply(Grid a, int64_t rows, const float* panels, int64_t depth, int64_t outputs, Grid out) {
  for (int64_t k = 0; k < depth; k += DEPTH)
    for (int64_t n = 0; n < outputs; n += PANEL)
      in_tiles(rows, [&](int64_t first, int64_t end) {
        const Grid from{a.row(first) + k, a.stride}, to{out.row(first) + n, out.stride};
        const float* panel = panels + n * depth + k * PANEL;
        for_count(end - first, [&](auto count) { tile<count.value>(from, panel, std::min(DEPTH, depth - k), to); });
      });
}

}  // namespace netwright
