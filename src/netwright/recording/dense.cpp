// Takes training steps of a network of dense layers, also behind an LSTM, on the CPU: other last bits than torch's, the same on
// any number of cores. netwright/recording/dense_cpu.py compiles this file, writes the programs and calls nd_*.
//
// Weights and what the optimizer keeps of them lie in panels for the time of a call: PANEL outputs side by side, input after
// input. On its way forward and back each lane has rows of its own; then it has weights of its own, whose gradient it adds up
// over all rows, and changes at once. Every sum has one order, so lanes change no bit, nor does the width of vectors with the
// same compiler on processors that multiply and add at once.
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>

#include "crew.hpp"

namespace {

using namespace netwright;

#if !defined(ND_WIDTH) && defined(__AVX512F__)
#define ND_WIDTH 16
#elif !defined(ND_WIDTH) && defined(__AVX__)
#define ND_WIDTH 8
#elif !defined(ND_WIDTH)
#define ND_WIDTH 4
#endif
constexpr int WIDTH = ND_WIDTH, MOST = WIDTH == 16 ? 12 : 6;  // numbers of a vector, and rows of a tile: what fits the registers
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(sizeof(float)), may_alias));

constexpr int64_t PANEL = 2 * WIDTH;
constexpr int64_t DEPTH = 4096 / PANEL;  // inputs of a panel that stay in the first cache while all rows pass
constexpr int64_t CHUNK = 64;            // rows whose share in a gradient is added up at once
constexpr int64_t SPAN = 128;            // steps of sequences that stay in the second cache while all weights pass
constexpr int64_t STRIP = 48;            // inputs of a panel whose weights are changed at once

enum Activation : int64_t { NONE, RELU, LEAKY, TANH, SIGMOID, SILU, GELU };
enum Head : int64_t { CLASSES, SQUARES, CHANCES };
enum Kind : int64_t { SGD, MOMENTUM, NESTEROV, ADAM, ADAMW };

int64_t padded(int64_t count, int64_t by) { return (count + by - 1) / by * by; }

// From one row of so many numbers to the next: an odd number of cache lines, so that rows do not fall on the same places of a cache.
int64_t apart(int64_t count) { return (((count + 15) / 16) | 1) * 16; }

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

// ---- functions of one number, which a compiler makes vectors of

inline float exponential(float x) {
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

inline float logistic(float x) { return 1.0f / (1.0f + exponential(-x)); }

inline float tangent(float x) {
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

inline float normal(float x) {  // the share of a normal distribution below x, within 1e-7
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
inline void apply(float* __restrict value, float* __restrict slope, int64_t count, Value value_of, Slope slope_of) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = value[i], y = value_of(x);
    value[i] = y;
    slope[i] = slope_of(x, y);
  }
}

void activate(Activation kind, float leak, float* value, float* slope, int64_t count) {
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

// out[i][n] += sum over k of a[i][k] * panel[k][n], for some rows i and the outputs n of a panel
template <int ROWS>
void tile(Grid a, const float* panel, int64_t depth, Grid out) {
  Vector sums[ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int part = 0; part < 2; ++part) sums[i][part] = *reinterpret_cast<const Vector*>(out.row(i) + part * WIDTH);
  for (int64_t k = 0; k < depth; ++k) {
    const auto* w = reinterpret_cast<const Vector*>(panel + k * PANEL);
    const Vector left = w[0], right = w[1];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const float x = a.first[i * a.stride + k];
      sums[i][0] += x * left;
      sums[i][1] += x * right;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
    for (int part = 0; part < 2; ++part) *reinterpret_cast<Vector*>(out.row(i) + part * WIDTH) = sums[i][part];
}

// out[i][n] += sum over rows of a[row][i] * d[row][n], for some inputs i and the outputs n of a panel
template <int INPUTS>
void outer(Grid a, Grid d, int64_t rows, float* out) {
  Vector sums[INPUTS][2];
  auto* held = reinterpret_cast<Vector*>(out);
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i) sums[i][0] = held[2 * i], sums[i][1] = held[2 * i + 1];
  for (int64_t row = 0; row < rows; ++row) {
    const auto* from = reinterpret_cast<const Vector*>(d.row(row));
    const Vector left = from[0], right = from[1];
    const float* x = a.row(row);
#pragma GCC unroll 16
    for (int i = 0; i < INPUTS; ++i) {
      sums[i][0] += x[i] * left;
      sums[i][1] += x[i] * right;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < INPUTS; ++i) held[2 * i] = sums[i][0], held[2 * i + 1] = sums[i][1];
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
void multiply(Grid a, int64_t rows, const float* panels, int64_t depth, int64_t outputs, Grid out) {
  for (int64_t k = 0; k < depth; k += DEPTH)
    for (int64_t n = 0; n < outputs; n += PANEL)
      in_tiles(rows, [&](int64_t first, int64_t end) {
        const Grid from{a.row(first) + k, a.stride}, to{out.row(first) + n, out.stride};
        const float* panel = panels + n * depth + k * PANEL;
        for_count(end - first, [&](auto count) { tile<count.value>(from, panel, std::min(DEPTH, depth - k), to); });
      });
}

// ---- the network

struct Rule {  // how numbers change in one step
  Kind kind = SGD;
  float rate = 0, decay = 0, beta1 = 0, toward = 0, beta2 = 0, newer = 0, epsilon = 0, step = 0, scale = 0;

  void operator()(float* __restrict w, float* __restrict first, float* __restrict second, const float* __restrict g, int64_t count) const {
    if (kind == ADAM || kind == ADAMW) {
      const float added = kind == ADAM ? decay : 0.0f, kept = kind == ADAM ? 1.0f : 1.0f - rate * decay;
      for (int64_t i = 0; i < count; ++i) {
        const float x = g[i] + added * w[i];
        const float mean = first[i] + toward * (x - first[i]), square = beta2 * second[i] + newer * x * x;
        first[i] = mean;
        second[i] = square;
        w[i] = kept * w[i] - step * (mean / (std::sqrt(square) * scale + epsilon));
      }
    } else if (kind == SGD) {
      for (int64_t i = 0; i < count; ++i) w[i] -= rate * (g[i] + decay * w[i]);
    } else {
      const float ahead = kind == NESTEROV ? beta1 : 1.0f, plain = kind == NESTEROV ? 1.0f : 0.0f;
      for (int64_t i = 0; i < count; ++i) {
        const float x = g[i] + decay * w[i], moved = beta1 * first[i] + x;
        first[i] = moved;
        w[i] -= rate * (plain * x + ahead * moved);
      }
    }
  }
};

struct Held {  // a parameter where torch has it, and what the optimizer keeps of it
  float *value = nullptr, *first = nullptr, *second = nullptr;
  int64_t group = 0;
  double decay = 0;
  int64_t begin = 0, count = 0;  // of a weight: its inputs among those of the layer
  Rule rule;                     // of this step
};

struct Layer {
  int64_t inputs = 0, outputs = 0, width = 0, stride = 0;  // width: outputs, in whole panels; stride: from row to row of them
  int64_t hidden = 0;                          // of an LSTM; 0 of a Linear
  Activation activation = NONE;
  float leak = 0, dropout = 0;
  std::vector<Held> weights, biases;
  Numbers panels[3];           // weights, and what the optimizer keeps of them
  Numbers bias;                // the sum of all biases
  Numbers back;                // weights of the inputs that a gradient goes back to, in panels of inputs
  int64_t back_from = 0, back_count = 0;
  Numbers value, slope, change;  // of each row: outputs, slopes and gradients of what the activation gets
  // Of an LSTM: gradients of weights, and those of each row's cell; and for each step and row: inputs beside the hidden state, the four gates, the cell and its tanh.
  Numbers gradient, cell_change, joined, gates, cells, bent;

  int64_t sent() const { return hidden ? hidden : outputs; }  // numbers of a row that go on
  int64_t sent_apart() const { return apart(padded(sent(), PANEL)); }
  Grid values() const { return {value.at(), sent_apart()}; }

  float* panel(int which, int64_t output, int64_t input) const { return panels[which].at(output * inputs + input * PANEL); }
};

struct Network {
  std::vector<Layer> layers;
  Head head = CLASSES;
  const float* class_weight = nullptr;
  float smoothing = 0;
  Kind kind = SGD;
  double beta2 = 0, epsilon = 0;
  int64_t most = 0, times = 1, size = 0;  // rows of a batch, steps of a sequence, and numbers of one of them
  int64_t dropping = 0;                   // outputs of a row that dropout may drop
  Numbers input, losses;
  int64_t input_stride = 0;
  std::unique_ptr<Crew> crew;
  Paces paces;

  // Of the call that is running.
  const float* x = nullptr;
  const void* target = nullptr;
  const int64_t* rows = nullptr;
  const uint8_t* kept = nullptr;  // by dropout: of each step and layer with it, one for each output of a row
  const double* turns = nullptr;
  int64_t batch = 0, width = 0, steps = 0;
  double counted = 0, seconds = 0;
  float* out = nullptr;
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false}, leave{false};
  int64_t gathering = 0;

  int64_t lines_of(size_t layer) const { return layers[layer].hidden ? times * batch : batch; }  // rows of its gradients
  Grid inputs_of(size_t layer) const {
    if (layers[layer].hidden) return {layers[layer].joined.at(), apart(layers[layer].inputs)};
    if (layer == 0) return {input.at(), input_stride};
    return layers[layer - 1].values();
  }
  Grid changes_of(size_t layer) const {
    return {layers[layer].hidden ? layers[layer].gates.at() : layers[layer].change.at(), layers[layer].stride};
  }
};

// Copies weights and what is kept of them from torch's memory into panels, or back.
void carry(const Layer& layer, bool into, int lane, int lanes) {
  const int64_t panels = layer.width / PANEL;
  for (const Held& held : layer.weights) {
    float* const places[3] = {held.value, held.first, held.second};
    for (int which = 0; which < 3; ++which) {
      if (places[which] == nullptr) continue;
      for (int64_t number = panels * lane / lanes; number < panels * (lane + 1) / lanes; ++number) {
        const int64_t output = number * PANEL, wide = std::min(PANEL, layer.outputs - output);
        float* const panel = layer.panel(which, output, held.begin);
        float* const rows = places[which] + output * held.count;
        for (int64_t input = 0; input < held.count; ++input)
          for (int64_t i = 0; i < wide; ++i) {
            if (into) panel[input * PANEL + i] = rows[i * held.count + input];
            else rows[i * held.count + input] = panel[input * PANEL + i];
          }
      }
    }
  }
}

// Writes the weights of some inputs of a panel where a gradient that goes back reads them.
void turn(const Layer& layer, int64_t output, int64_t first, int64_t end) {
  first = std::max(first, layer.back_from);
  end = std::min(end, layer.back_from + layer.back_count);
  const int64_t wide = std::min(PANEL, layer.outputs - output);
  for (int64_t input = first; input < end; ++input) {
    const float* from = layer.panel(0, output, input);
    const int64_t place = input - layer.back_from;
    float* to = layer.back.at(place / PANEL * PANEL * layer.outputs + output * PANEL + place % PANEL);
    for (int64_t i = 0; i < wide; ++i) to[i * PANEL] = from[i];
  }
}

void add_biases(const Layer& layer, int64_t output) {
  const int64_t wide = std::min(PANEL, layer.outputs - output);
  for (int64_t i = 0; i < wide; ++i) {
    float sum = 0;
    for (const Held& held : layer.biases) sum += held.value[output + i];
    layer.bias.at()[output + i] = sum;
  }
}

void begin_layer(const Layer& layer, int lane, int lanes) {
  const int64_t panels = layer.width / PANEL;
  for (int64_t panel = panels * lane / lanes; panel < panels * (lane + 1) / lanes; ++panel) {
    turn(layer, panel * PANEL, 0, layer.inputs);
    add_biases(layer, panel * PANEL);
  }
}

// ---- forward and back, for the rows of one lane

void gather(const Network& net, int64_t step, int64_t first, int64_t end) {
  const int64_t* rows = net.rows + step * net.batch;
  const Layer& layer = net.layers[0];
  for (int64_t row = first; row < end; ++row) {
    const float* from = net.x + rows[row] * net.size * net.times;
    if (!layer.hidden) {
      std::memcpy(net.input.at(row * net.input_stride), from, net.size * sizeof(float));
      continue;
    }
    const Grid joined = net.inputs_of(0);
    for (int64_t time = 0; time < net.times; ++time)
      std::memcpy(joined.row(time * net.batch + row), from + time * net.size, net.size * sizeof(float));
  }
}

void start_with(const Numbers& bias, Grid out, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) std::memcpy(out.row(row), bias.at(), out.stride * sizeof(float));
}

void linear_forward(Network& net, size_t number, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[number];
  const Grid from = net.inputs_of(number), out{layer.values().row(first), layer.stride};
  start_with(layer.bias, out, rows);
  multiply({from.row(first), from.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, out);
  if (number + 1 < net.layers.size())
    activate(layer.activation, layer.leak, out.first, layer.slope.at(first * layer.stride), rows * layer.stride);
}

// Drops some outputs of a layer; returns where the next layer's begin.
const uint8_t* drop(const Network& net, const Layer& layer, const uint8_t* kept, int64_t first, int64_t rows) {
  if (layer.dropout == 0.0f) return kept;
  const float scale = 1.0f / (1.0f - layer.dropout);
  for (int64_t row = first; row < first + rows; ++row) {
    const uint8_t* here = kept + row * layer.sent();
    float *value = layer.values().row(row), *slope = layer.slope.at(row * layer.sent_apart());
    for (int64_t i = 0; i < layer.sent(); ++i) {
      const float factor = here[i] ? scale : 0.0f;
      value[i] *= factor;
      slope[i] *= factor;
    }
  }
  return kept + net.batch * layer.sent();
}

void lstm_forward(Network& net, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[0];
  const int64_t hidden = layer.hidden, size = layer.inputs - hidden;
  const Grid joined = net.inputs_of(0), gates = net.changes_of(0);
  for (int64_t row = first; row < first + rows; ++row) std::memset(joined.row(row) + size, 0, hidden * sizeof(float));
  for (int64_t time = 0; time < net.times; ++time) {
    const int64_t line = time * net.batch + first;
    const Grid here{gates.row(line), gates.stride};
    start_with(layer.bias, here, rows);
    multiply({joined.row(line), joined.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, here);
    for (int64_t row = 0; row < rows; ++row) {
      float* __restrict gate = here.row(row);
      float* __restrict cell = layer.cells.at((line + row) * hidden);
      float* __restrict bent = layer.bent.at((line + row) * hidden);
      const float* __restrict before = time ? cell - net.batch * hidden : layer.bias.at(layer.stride);
      float* __restrict out = time + 1 < net.times ? joined.row(line + net.batch + row) + size : layer.values().row(first + row);
      for (int64_t i = 0; i < 2 * hidden; ++i) gate[i] = logistic(gate[i]);
      for (int64_t i = 2 * hidden; i < 3 * hidden; ++i) gate[i] = tangent(gate[i]);
      for (int64_t i = 3 * hidden; i < 4 * hidden; ++i) gate[i] = logistic(gate[i]);
#pragma GCC ivdep
      for (int64_t i = 0; i < hidden; ++i) {
        cell[i] = gate[hidden + i] * before[i] + gate[i] * gate[2 * hidden + i];
        bent[i] = tangent(cell[i]);
        out[i] = gate[3 * hidden + i] * bent[i];
      }
    }
  }
  std::fill_n(layer.slope.at(first * layer.sent_apart()), rows * layer.sent_apart(), 1.0f);
}

void lstm_backward(Network& net, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[0];
  const int64_t hidden = layer.hidden, stride = layer.sent_apart();
  const Grid gates = net.changes_of(0), change{layer.change.at(first * stride), stride};
  float* const changes_of_cells = layer.cell_change.at(first * hidden);
  std::memset(changes_of_cells, 0, rows * hidden * sizeof(float));
  for (int64_t time = net.times - 1; time >= 0; --time) {
    const int64_t line = time * net.batch + first;
    for (int64_t row = 0; row < rows; ++row) {
      float* __restrict gate = gates.row(line + row);
      float* __restrict change_of_cell = changes_of_cells + row * hidden;
      const float* __restrict cell = layer.cells.at((line + row) * hidden);
      const float* __restrict bent = layer.bent.at((line + row) * hidden);
      const float* __restrict before = time ? cell - net.batch * hidden : layer.bias.at(layer.stride);
      const float* __restrict given = change.row(row);
#pragma GCC ivdep
      for (int64_t i = 0; i < hidden; ++i) {
        const float in = gate[i], forget = gate[hidden + i], fresh = gate[2 * hidden + i], out = gate[3 * hidden + i];
        const float of_cell = change_of_cell[i] + given[i] * out * (1.0f - bent[i] * bent[i]);
        gate[i] = of_cell * fresh * in * (1.0f - in);
        gate[hidden + i] = of_cell * before[i] * forget * (1.0f - forget);
        gate[2 * hidden + i] = of_cell * in * (1.0f - fresh * fresh);
        gate[3 * hidden + i] = given[i] * bent[i] * out * (1.0f - out);
        change_of_cell[i] = of_cell * forget;
      }
    }
    if (!time) return;
    std::memset(change.first, 0, rows * stride * sizeof(float));
    multiply({gates.row(line), gates.stride}, rows, layer.back.at(), layer.outputs, padded(hidden, PANEL), change);
  }
}

float loss_of_classes(const Network& net, const float* output, float* change, int64_t outputs, int64_t target, float share) {
  float most = output[0], sum = 0, all = 0;
  for (int64_t i = 1; i < outputs; ++i) most = output[i] > most || output[i] != output[i] ? output[i] : most;
  for (int64_t i = 0; i < outputs; ++i) change[i] = exponential(output[i] - most);
  for (int64_t i = 0; i < outputs; ++i) sum += change[i];
  const float log = std::log(sum) + most, each = net.smoothing / static_cast<float>(outputs);
  for (int64_t i = 0; i < outputs; ++i) {
    all += log - output[i];
    change[i] = share * (change[i] / sum - each - (i == target ? 1.0f - net.smoothing : 0.0f));
  }
  if (each == 0.0f) return share * (log - output[target]);  // the sum may be infinite
  return share * ((1.0f - net.smoothing) * (log - output[target]) + each * all);
}

float loss_of_numbers(const Network& net, const float* output, float* change, int64_t outputs, const float* target, float share) {
  float sum = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    const float x = output[i], y = target[i];
    if (net.head == SQUARES) {
      sum += (x - y) * (x - y);
      change[i] = share * 2.0f * (x - y);
    } else {
      sum += std::max(x, 0.0f) - x * y + std::log1p(exponential(-std::fabs(x)));
      change[i] = share * (logistic(x) - y);
    }
  }
  return share * sum;
}

// Writes what each row adds to the mean loss, and the gradient of the outputs.
void end_rows(const Network& net, int64_t step, int64_t first, int64_t end) {
  const Layer& last = net.layers.back();
  const int64_t* rows = net.rows + step * net.batch;
  const auto* classes = static_cast<const int64_t*>(net.target);
  const auto* numbers = static_cast<const float*>(net.target);
  float whole = static_cast<float>(net.head == CLASSES ? net.batch : net.batch * last.outputs);
  if (net.head == CLASSES && net.class_weight != nullptr) {
    whole = 0;
    for (int64_t row = 0; row < net.batch; ++row) whole += net.class_weight[classes[rows[row]]];
  }
  for (int64_t row = first; row < end; ++row) {
    const float* output = last.value.at(row * last.stride);
    float* change = last.change.at(row * last.stride);
    if (net.head == CLASSES) {
      const int64_t target = classes[rows[row]];
      const float counts = net.class_weight == nullptr ? 1.0f : net.class_weight[target];
      net.losses.at()[row] = loss_of_classes(net, output, change, last.outputs, target, counts / whole);
    } else {
      const float* target = numbers + rows[row] * last.outputs;
      net.losses.at()[row] = loss_of_numbers(net, output, change, last.outputs, target, 1.0f / whole);
    }
  }
}

void linear_backward(Network& net, size_t number, int64_t first, int64_t rows) {
  const Layer &layer = net.layers[number], &before = net.layers[number - 1];
  const int64_t stride = before.sent_apart();
  const Grid change{before.change.at(first * stride), stride}, from = net.changes_of(number);
  std::memset(change.first, 0, rows * stride * sizeof(float));
  multiply({from.row(first), from.stride}, rows, layer.back.at(), layer.outputs, padded(before.sent(), PANEL), change);
  if (before.hidden && before.dropout == 0.0f) return;
  const float* __restrict slope = before.slope.at(first * stride);
  float* __restrict to = change.first;
  for (int64_t i = 0; i < rows * stride; ++i) to[i] *= slope[i];
}

Rule rule_of(const Network& net, const Held& held, int64_t step) {
  const double* turns = net.turns + step * net.width + 2 * held.group;
  const double count = net.counted + static_cast<double>(step) + 1.0, rate = turns[0], beta1 = turns[1];
  const bool corrects = net.kind == ADAM || net.kind == ADAMW;
  const double first = corrects ? 1.0 - std::pow(beta1, count) : 1.0, second = corrects ? 1.0 - std::pow(net.beta2, count) : 1.0;
  const auto real = [](double number) { return static_cast<float>(number); };
  return {net.kind,        real(rate),           real(held.decay),   real(beta1),       real(1.0 - beta1),
          real(net.beta2), real(1.0 - net.beta2), real(net.epsilon), real(rate / first), real(1.0 / std::sqrt(second))};
}

void set_rules(Network& net, int64_t step) {
  for (Layer& layer : net.layers)
    for (auto* kind : {&layer.weights, &layer.biases})
      for (Held& held : *kind) held.rule = rule_of(net, held, step);
}

void pass_rows(Network& net, int64_t step, int lane, int lanes) {
  const int64_t first = net.batch * lane / lanes, end = net.batch * (lane + 1) / lanes, rows = end - first;
  const auto begun = Clock::now();
  if (!lane) set_rules(net, step);
  gather(net, step, first, end);
  if (!lane) net.gathering += std::chrono::nanoseconds(Clock::now() - begun).count();
  if (!rows) return;
  const uint8_t* kept = net.kept + step * net.batch * net.dropping;
  for (size_t number = 0; number < net.layers.size(); ++number) {
    if (net.layers[number].hidden) lstm_forward(net, first, rows);
    else linear_forward(net, number, first, rows);
    kept = drop(net, net.layers[number], kept, first, rows);
  }
  end_rows(net, step, first, end);
  for (size_t number = net.layers.size() - 1; number > 0; --number) linear_backward(net, number, first, rows);
  if (net.layers[0].hidden) lstm_backward(net, first, rows);
}

// ---- gradients of weights, and their change

void change_biases(const Network& net, size_t number, int64_t output) {
  const Layer& layer = net.layers[number];
  const Grid changes = net.changes_of(number);
  const int64_t wide = std::min(PANEL, layer.outputs - output), lines = net.lines_of(number);
  alignas(64) float sums[PANEL] = {};
  for (int64_t start = 0; start < lines; start += CHUNK) {
    alignas(64) float some[PANEL] = {};
    for (int64_t line = start; line < std::min(lines, start + CHUNK); ++line) {
      const float* from = changes.row(line) + output;
      for (int64_t i = 0; i < PANEL; ++i) some[i] += from[i];
    }
    for (int64_t i = 0; i < PANEL; ++i) sums[i] += some[i];
  }
  for (const Held& held : layer.biases) {
    float* second = held.second == nullptr ? nullptr : held.second + output;
    float* first = held.first == nullptr ? nullptr : held.first + output;
    held.rule(held.value + output, first, second, sums, wide);
  }
  add_biases(layer, output);
}

// Adds the shares of some rows to the gradients of some weights: CHUNK by CHUNK, each of which is added up for itself.
void add_gradient(Grid inputs, Grid changes, int64_t start, int64_t end, int64_t count, float* gradient) {
  alignas(64) float some[STRIP * PANEL];
  for (int64_t chunk = start; chunk < end; chunk += CHUNK) {
    float* const sums = chunk ? some : gradient;
    std::memset(sums, 0, count * PANEL * sizeof(float));
    in_tiles(count, [&](int64_t low, int64_t high) {
      const Grid a{inputs.row(chunk) + low, inputs.stride}, d{changes.row(chunk), changes.stride};
      for_count(high - low, [&](auto size) { outer<size.value>(a, d, std::min(CHUNK, end - chunk), sums + low * PANEL); });
    });
    if (!chunk) continue;
    for (int64_t i = 0; i < count * PANEL; ++i) gradient[i] += some[i];
  }
}

void change_strip(const Layer& layer, int64_t output, int64_t first, int64_t end, const float* gradient) {
  for (const Held& held : layer.weights) {
    const int64_t low = std::max(first, held.begin), high = std::min(end, held.begin + held.count);
    if (low >= high) continue;
    float* const kept = held.first == nullptr ? nullptr : layer.panel(1, output, low);
    float* const second = held.second == nullptr ? nullptr : layer.panel(2, output, low);
    held.rule(layer.panel(0, output, low), kept, second, gradient + (low - first) * PANEL, (high - low) * PANEL);
  }
  turn(layer, output, first, end);
}

// Changes the weights of a layer that are this lane's. Steps of sequences are so many rows that they come in spans, each of which
// stays in a cache while it passes all weights.
void change_layer(const Network& net, size_t number, int64_t low, int64_t high) {
  const Layer& layer = net.layers[number];
  const Grid inputs = net.inputs_of(number), changes = net.changes_of(number);
  const int64_t lines = net.lines_of(number), span = layer.hidden ? SPAN : lines;
  alignas(64) float own[STRIP * PANEL];
  for (int64_t start = 0; start < lines; start += span)
    for (int64_t output = 0, place = 0; output < layer.width; output += PANEL)
      for (int64_t first = 0; first < layer.inputs; first += STRIP, ++place) {
        if (place < low || place >= high) continue;
        const int64_t end = std::min(first + STRIP, layer.inputs), count = end - first;
        float* gradient = span < lines ? layer.gradient.at(output * layer.inputs + first * PANEL) : own;
        const Grid a{inputs.first + first, inputs.stride}, d{changes.first + output, changes.stride};
        add_gradient(a, d, start, std::min(start + span, lines), count, gradient);
        if (start + span < lines) continue;
        change_strip(layer, output, first, end, gradient);
        if (!first) change_biases(net, number, output);
      }
}

void change_weights(const Network& net, int lane, int lanes) {
  for (size_t number = 0; number < net.layers.size(); ++number) {
    const Layer& layer = net.layers[number];
    const int64_t strips = layer.width / PANEL * ((layer.inputs + STRIP - 1) / STRIP);
    change_layer(net, number, strips * lane / lanes, strips * (lane + 1) / lanes);
  }
}

// ---- calls

// Numbers so small that they take a processor many times as long count as 0 for the time of a call.
class WithoutTiny {
 public:
#if defined(__x86_64__)
  WithoutTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~WithoutTiny() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#endif
};

// Tells whether the update of a step may follow; keeps its loss.
bool end_forward(Network& net, int64_t step, bool keeps) {
  float loss = 0;
  for (int64_t row = 0; row < net.batch; ++row) loss += net.losses.at()[row];
  if (keeps) net.out[step] = loss;
  return std::isfinite(loss);
}

void end_step(Network& net, int64_t step, Clock::time_point begun) {
  net.done.store(step + 1);
  if (since(begun) > net.seconds) net.leave.store(true);
}

// Runs the steps of one call on one lane; `wait` is called where all must have come.
template <typename Wait>
void run_lane(Network& net, int lane, int lanes, Wait wait) {
  const WithoutTiny without;
  const auto begun = Clock::now();
  for (const Layer& layer : net.layers) carry(layer, true, lane, lanes);
  wait();
  for (const Layer& layer : net.layers) begin_layer(layer, lane, lanes);
  wait();
  for (int64_t step = 0; step < net.steps; ++step) {
    pass_rows(net, step, lane, lanes);
    wait();
    if (!end_forward(net, step, lane == 0)) {  // every lane adds up the same numbers
      net.stop.store(true);
      break;
    }
    change_weights(net, lane, lanes);
    if (!lane) end_step(net, step, begun);
    wait();  // all lanes know whether there is a next step
    if (net.leave.load()) break;
  }
  wait();
  for (const Layer& layer : net.layers) carry(layer, false, lane, lanes);
}

int64_t take(Network& net, bool alone, int64_t steps, double seconds) {
  net.steps = steps;
  net.seconds = seconds;
  net.done.store(0);
  net.leave.store(false);
  if (alone) run_lane(net, 0, 1, [] {});
  else net.crew->run();
  const int64_t done = net.done.load();
  net.rows += done * net.batch;
  net.kept += done * net.batch * net.dropping;
  net.turns += done * net.width;
  net.out += done;
  net.counted += static_cast<double>(done);
  return done;
}

Held held_from(Reader& reader) {
  Held held;
  for (float** place : {&held.value, &held.first, &held.second}) *place = reinterpret_cast<float*>(reader.whole());
  held.group = reader.whole();
  held.decay = reader.real();
  held.begin = reader.whole();
  held.count = reader.whole();
  return held;
}

Layer layer_from(Reader& reader, const Network& net, bool first) {
  Layer layer;
  layer.inputs = reader.whole();
  layer.outputs = reader.whole();
  layer.hidden = reader.whole();
  layer.activation = static_cast<Activation>(reader.whole());
  layer.leak = static_cast<float>(reader.real());
  layer.dropout = static_cast<float>(reader.real());
  for (auto* kind : {&layer.weights, &layer.biases})
    for (int64_t left = reader.whole(); left > 0; --left) kind->push_back(held_from(reader));
  layer.width = padded(layer.outputs, PANEL);
  layer.stride = apart(layer.width);
  const int64_t lines = net.most * (layer.hidden ? net.times : 1);
  for (auto& panels : layer.panels) panels.make(layer.inputs * layer.width);
  layer.bias.make(layer.stride + layer.hidden);  // and a cell before the first step
  layer.back_from = layer.hidden ? layer.inputs - layer.hidden : 0;
  layer.back_count = first && !layer.hidden ? 0 : layer.inputs - layer.back_from;
  layer.back.make(padded(layer.back_count, PANEL) * layer.outputs);
  if (!layer.hidden) {
    for (auto* rows : {&layer.value, &layer.slope, &layer.change}) rows->make(lines * layer.stride);
    return layer;
  }
  layer.gradient.make(layer.inputs * layer.width);
  layer.joined.make(lines * apart(layer.inputs));
  layer.gates.make(lines * layer.stride);
  for (auto* rows : {&layer.cells, &layer.bent}) rows->make(lines * layer.hidden);
  layer.cell_change.make(net.most * layer.hidden);
  for (auto* rows : {&layer.value, &layer.slope, &layer.change}) rows->make(net.most * layer.sent_apart());
  return layer;
}

}  // namespace

extern "C" {

// Makes a network from its code; null and a text where that fails.
void* nd_make(const int64_t* code, char* error, int64_t room) {
  auto made = std::make_unique<Network>();
  try {
    Network& net = *made;
    Reader reader{code};
    const int lanes = static_cast<int>(reader.whole());
    for (int64_t* number : {&net.most, &net.times, &net.size}) *number = reader.whole();
    net.head = static_cast<Head>(reader.whole());
    net.class_weight = reinterpret_cast<const float*>(reader.whole());
    net.smoothing = static_cast<float>(reader.real());
    net.kind = static_cast<Kind>(reader.whole());
    net.beta2 = reader.real();
    net.epsilon = reader.real();
    const int64_t layers = reader.whole();
    for (int64_t number = 0; number < layers; ++number) net.layers.push_back(layer_from(reader, net, !number));
    for (const Layer& layer : net.layers) net.dropping += layer.dropout != 0.0f ? layer.sent() : 0;
    net.input_stride = apart(net.size);
    if (!net.layers[0].hidden) net.input.make(net.most * net.input_stride);
    net.losses.make(net.most);
    net.crew = std::make_unique<Crew>(lanes, [&net, lanes](int lane) { run_lane(net, lane, lanes, [&] { net.crew->barrier.wait(); }); });
    return made.release();
  } catch (const std::exception& problem) {
    tell(problem.what(), error, room);
    return nullptr;
  }
}

// Runs steps until they are done, the seconds are over, or a loss is not finite; returns how many were done, -1 less that many
// in the last case.
// x, target: of all rows; rows: numbers of them, steps x batch; kept: by dropout; turns: rate and momentum of each group, steps x
// width, or one row (width 0); counted: steps before; out: losses; spent: seconds of gathering.
int64_t nd_run(void* handle, const float* x, const void* target, const int64_t* rows, const uint8_t* kept, int64_t batch, const double* turns, int64_t width, double counted, int64_t steps, double seconds, float* out, double* spent) {
  auto& net = *static_cast<Network*>(handle);
  net.x = x;
  net.target = target;
  net.rows = rows;
  net.kept = kept;
  net.batch = batch;
  net.turns = turns;
  net.width = width;
  net.counted = counted;
  net.out = out;
  net.gathering = 0;
  net.stop.store(false);
  const bool alone = net.crew->alone();
  const int64_t done = net.paces.run(
      !alone, alone, steps, seconds, [&](bool one, int64_t some, double time) { return take(net, one, some, time); },
      [&] { return net.stop.load(); });
  *spent = static_cast<double>(net.gathering) * 1e-9;
  return net.stop.load() ? -1 - done : done;
}

void nd_close(void* handle) { delete static_cast<Network*>(handle); }

}  // extern "C"
