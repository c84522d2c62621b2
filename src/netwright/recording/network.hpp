// What a network of dense.cpp is: layers, what each lane needs for itself, and the call that is running.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "crew.hpp"
#include "panels.hpp"

namespace netwright {

constexpr int64_t CHUNK = 64;            // rows whose share in a gradient is added up at once
constexpr int64_t SPAN = 128;            // steps of sequences that stay in the second cache while all weights pass
constexpr int64_t STRIP = 48;            // inputs of a panel whose weights are changed at once
constexpr int64_t SHARES = 16, FEWEST = 4;  // into which the rows of a batch are parted where parts are added up, of so many rows at least

enum Head : int64_t { CLASSES, SQUARES, CHANCES };
enum Kind : int64_t { SGD, MOMENTUM, NESTEROV, ADAM, ADAMW };
enum Cell : int64_t { LSTM, GRU, RNN };

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

struct Clip {  // what is done with gradients before they change anything: all by one factor, and each at most so much
  float factor = 1, most = std::numeric_limits<float>::infinity();

  void operator()(float* gradient, int64_t count) const {
    if (factor != 1.0f)
      for (int64_t i = 0; i < count; ++i) gradient[i] *= factor;
    if (!std::isinf(most))
      for (int64_t i = 0; i < count; ++i) gradient[i] = gradient[i] > most ? most : gradient[i] < -most ? -most : gradient[i];
  }
};

struct Held {  // a parameter where torch has it, and what the optimizer keeps of it
  float *value = nullptr, *first = nullptr, *second = nullptr;
  int64_t group = 0;
  double decay = 0;
  int64_t begin = 0, count = 0;  // of a weight: its inputs among those of the layer
  int64_t low = 0, high = 0;     // outputs of the layer that it has not: of a GRU, whose new state reads input and hidden state apart
  Rule rule;                     // of this step

  void change(int64_t from, const float* gradient, int64_t count) const {  // some of its numbers, which lie as torch has them
    rule(value + from, first == nullptr ? nullptr : first + from, second == nullptr ? nullptr : second + from, gradient, count);
  }
  bool has(int64_t output) const { return output < low || output >= high; }
  int64_t line(int64_t output) const { return output < high ? output : output - (high - low); }  // where torch has an output

  // Calls with the ends of each run of outputs, of some, that it has.
  template <typename Call>
  void in_runs(int64_t first, int64_t end, Call call) const {
    if (first < std::min(end, low)) call(first, std::min(end, low));
    if (std::max(first, high) < end) call(std::max(first, high), end);
  }
};

// A BatchNorm between outputs and their activation, or with `by_row` a LayerNorm. Places are rows of a batch, behind a convolution the
// places of each.
struct Norm {
  bool there = false, by_row = false;
  float epsilon = 0, momentum = 0;
  float *mean = nullptr, *variance = nullptr;  // as they run, where they are kept
  std::vector<Held> factor, shift;             // one each, or none
  int64_t wide = 0;                            // numbers of a place, in whole vectors
  Numbers raw;                                 // of each place: what is normalised
  Numbers rows;                                // by row: mean, and what its deviation is divided by
  std::vector<double> shares;                  // of each part of the batch: four sums for each number of a place, two on the way back
  std::vector<Numbers> lanes;                  // for each lane what holds of a number at all places

  // SCALE, SHIFT: what a number is multiplied by, and what is added; SPREAD: a variance of all that such rows are of; SUMS, PRODUCTS: of
  // gradients, alone and by normalised numbers; MIDDLE, SLOPE: what is taken off each. None is worked out where it is used: whether a
  // compiler multiplies and adds at once there hangs on what is around.
  enum Kept : int64_t { CENTER, INVERSE, SCALE, SHIFT, SPREAD, SUMS, PRODUCTS, MIDDLE, SLOPE, KEPT };
  enum Share : int64_t { MEAN, SQUARES, SUM, PRODUCT, SHARED };
  double* share(int64_t part, Share which) { return shares.data() + (SHARED * part + which) * wide; }
  float* kept(int lane, Kept which) const { return lanes[lane].at(which * wide); }
};

struct Layer {
  int64_t inputs = 0, outputs = 0, width = 0, stride = 0;  // width: outputs, in whole panels; stride: from row to row of them
  int64_t taps = 1, deep = 0;                  // places of a window; outputs of each that a gradient goes back from
  std::vector<int64_t> order;                  // where torch's inputs are among ours; empty where they have one order
  int64_t hidden = 0;                          // of a recurrent layer; 0 of a Linear
  Cell cell = LSTM;
  Activation activation = NONE;
  float leak = 0, grown = 0;    // by dropout: times which what it keeps is as large; 0 where it drops nothing
  int64_t dropped_before = 0;  // outputs of a row that dropout may drop, of all layers before this one
  std::vector<Held> weights, biases;
  Norm norm;
  Numbers panels[3];           // weights, and what the optimizer keeps of them
  Numbers bias;                // the sum of all biases
  Numbers back;                // weights of the inputs that a gradient goes back to, in panels of inputs
  int64_t back_from = 0, back_count = 0;
  Numbers value, slope, change;  // of each row: outputs, slopes and gradients of what the activation gets
  // Gradients of weights, where they are added up in spans or all waited for. Of a recurrent layer: for each step and row inputs beside the
  // hidden state, and the gates; and of an LSTM gradients of each row's cell, and for each step and row the cell and its tanh.
  Numbers gradient, cell_change, joined, gates, cells, bent;
  Numbers bias_gradient;       // where all gradients are waited for, as are those of weights
  std::vector<double> squares;  // then, the sum of them in each strip
  Numbers both, given;  // of each row gradients of all inputs, where they go back to one before; of each step and row those of the state

  int64_t both_stride() const { return apart(padded(inputs, PANEL)); }
  int64_t sent() const { return hidden ? hidden : outputs; }  // numbers of a row that go on
  int64_t sent_apart() const { return apart(padded(sent(), PANEL)); }
  Grid values() const { return {value.at(), sent_apart()}; }

  float* panel(int which, int64_t output, int64_t input) const { return panels[which].at(output * inputs + input * PANEL); }
  int64_t place(int64_t input) const { return order.empty() ? input : order[input]; }
};

// A convolution, its activation, and a pooling that keeps the most of each window, or its mean; pictures lie channels last.
struct Convolution {
  Layer layer;  // one input for each channel of each place of a window
  bool averages = false;
  bool by_channel = false;  // whether dropout keeps or drops all places of a channel together
  int64_t wide = 0;         // outputs of a place, in whole vectors
  int64_t channels = 0, kernel[2] = {}, border[2] = {}, size[2] = {}, pool[2] = {};
  int64_t seen[2] = {}, kept[2] = {};    // places of its outputs, and of those that pooling keeps
  int64_t frame_pitch = 0, frame = 0;    // of its inputs, with zeros around: numbers of a line, and of a row of the batch
  int64_t change_pitch = 0, change = 0;  // the same of the gradient of its outputs, with more zeros around
  int64_t change_first = 0;              // where the first of them lies
  Numbers frames, slopes;                // of each row of the batch: inputs, and slopes of what is kept, or of all that a mean is of
  Numbers given;                         // of each row of the batch: gradients of what is kept, where a normalisation waits for all of them
  std::vector<int32_t> places;           // where in the gradient what is kept belongs
  std::vector<int64_t> windows, turned, inputs;  // where windows begin: of outputs, of inputs in the gradient; where an input lies in the first one
  Numbers shares;                        // of each part of the batch: gradients of weights and biases

  int64_t numbers() const { return kept[0] * kept[1] * layer.outputs; }
  int64_t dropping() const { return layer.grown == 0.0f ? 0 : by_channel ? layer.outputs : numbers(); }
  int64_t slopes_of_row() const { return averages ? seen[0] * seen[1] * wide : numbers(); }
  Grid raw(int64_t row) const { return {layer.norm.raw.at(row * seen[0] * seen[1] * wide), wide}; }
  Grid given_to(int64_t row) const { return {given.at(row * kept[0] * kept[1] * wide), wide}; }
  float* inside(int64_t row) const { return frames.at(row * frame) + border[0] * frame_pitch + border[1] * channels; }
  float* share(int64_t part) const { return shares.at(part * (layer.inputs + 1) * layer.width); }
};

struct Bench {  // of one lane: outputs and slopes of a picture, the gradient of them, and that of inputs
  Numbers values, slopes, change, before;
};

struct Meeting {  // where all lanes come before any goes on; one alone need not wait
  Barrier* barrier = nullptr;
  void operator()() const {
    if (barrier != nullptr) barrier->wait();
  }
};

struct Network {
  std::vector<Convolution> convolutions;
  std::vector<Bench> benches;
  Numbers zeros;    // as many as the widest bias
  Numbers changes;  // of the inputs of the first layer, where convolutions are before it
  std::vector<Layer> layers;
  bool normalises = false;
  bool clips = false;    // all gradients together, to a 2-norm of at most
  float clip_norm = 0;
  Clip clip;
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
  double norm = 0;  // of all gradients, where it is not finite

  template <typename Call>
  void each_layer(Call call) {
    for (Convolution& convolution : convolutions) call(convolution.layer);
    for (Layer& layer : layers) call(layer);
  }

  bool in_parts() const { return !convolutions.empty() || normalises; }
  int64_t rows_of_part() const { return std::max(FEWEST, (most + SHARES - 1) / SHARES); }
  int64_t most_parts() const { return (most + rows_of_part() - 1) / rows_of_part(); }
  int64_t rows_in(int64_t part) const { return std::min(batch - part * rows_of_part(), rows_of_part()); }
  int64_t parts() const { return (batch + rows_of_part() - 1) / rows_of_part(); }
  // Rows of the batch that are a lane's: whole parts of it behind convolutions, or where what holds of all of them is added up.
  int64_t first_row(int lane, int lanes) const {
    if (!in_parts()) return batch * lane / lanes;
    return std::min(batch, parts() * lane / lanes * rows_of_part());
  }
  template <typename Call>
  void each_part(int64_t first, int64_t end, Call call) const {  // of some rows: its number, the first row and the end
    for (int64_t start = first; start < end; start += rows_of_part()) call(start / rows_of_part(), start, std::min(end, start + rows_of_part()));
  }
  int64_t lines_of(size_t layer) const { return layers[layer].hidden ? times * batch : batch; }  // rows of its gradients
  Grid inputs_of(size_t layer) const {
    if (layers[layer].hidden) return {layers[layer].joined.at(), apart(layers[layer].inputs)};
    if (layer == 0) return {input.at(), input_stride};
    return layers[layer - 1].values();
  }
  bool recurs(size_t layer) const { return layer < layers.size() && layers[layer].hidden; }
  int64_t dropping_of(size_t layer) const {  // outputs of a row that dropout may drop; of all steps where a recurrent layer reads them
    if (layers[layer].grown == 0.0f) return 0;
    return layers[layer].hidden && recurs(layer + 1) ? times * layers[layer].hidden : layers[layer].sent();
  }
  const uint8_t* kept_of(int64_t step, const Layer& layer) const { return kept + batch * (step * dropping + layer.dropped_before); }
  const float* cell_before(const Layer& layer, int64_t time, int64_t line) const {  // of an LSTM, at a step and its row
    return time ? layer.cells.at((line - batch) * layer.hidden) : layer.bias.at(layer.stride);
  }
  Grid changes_of(size_t layer) const {
    return {layers[layer].hidden ? layers[layer].gates.at() : layers[layer].change.at(), layers[layer].stride};
  }
};

}  // namespace netwright
