// Recurrent layers for dense.cpp, step after step.
#pragma once

#include "network.hpp"

namespace netwright {

inline void lstm_step(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict cell, float* __restrict bent, float* __restrict out) {
  const int64_t hidden = layer.hidden;
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

// Gates of a GRU: reset, update, and the new state; beside these what the hidden state adds to the new one, which reset weighs.
inline void gru_step(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict out) {
  const int64_t hidden = layer.hidden;
  for (int64_t i = 0; i < 2 * hidden; ++i) gate[i] = logistic(gate[i]);
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    const float fresh = tangent(gate[2 * hidden + i] + gate[i] * gate[3 * hidden + i]);
    gate[2 * hidden + i] = fresh;
    out[i] = fresh + gate[hidden + i] * (before[i] - fresh);
  }
}

inline void rnn_step(const Layer& layer, float* __restrict gate, float* __restrict out) {
  const int64_t hidden = layer.hidden;
  if (layer.activation == TANH) {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = tangent(gate[i]);
  } else {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = gate[i] < 0.0f ? 0.0f : gate[i];
  }
  std::memcpy(out, gate, hidden * sizeof(float));
}

// Writes gradients of what the gates of a GRU get over the gates, and what of the gradient of a state goes straight to the one before.
inline void gru_step_back(const Layer& layer, float* __restrict gate, const float* __restrict before, float* __restrict given) {
  const int64_t hidden = layer.hidden;
#pragma GCC ivdep
  for (int64_t i = 0; i < hidden; ++i) {
    const float reset = gate[i], update = gate[hidden + i], fresh = gate[2 * hidden + i], kept = gate[3 * hidden + i];
    const float of_fresh = given[i] * (1.0f - update) * (1.0f - fresh * fresh);
    gate[i] = of_fresh * kept * reset * (1.0f - reset);
    gate[hidden + i] = given[i] * (before[i] - fresh) * update * (1.0f - update);
    gate[2 * hidden + i] = of_fresh;
    gate[3 * hidden + i] = of_fresh * reset;
    given[i] *= update;
  }
}

inline void rnn_step_back(const Layer& layer, float* __restrict gate, const float* __restrict given) {
  const int64_t hidden = layer.hidden;
  if (layer.activation == TANH) {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = given[i] * (1.0f - gate[i] * gate[i]);
  } else {
    for (int64_t i = 0; i < hidden; ++i) gate[i] = gate[i] > 0.0f ? given[i] : 0.0f;
  }
}

inline void lstm_step_back(const Layer& layer, float* __restrict gate, const float* __restrict before, const float* __restrict bent, float* __restrict change_of_cell, const float* __restrict given) {
  const int64_t hidden = layer.hidden;
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

// Writes a state where the recurrent layer behind reads it, some of it dropped. `kept`: one for each number.
inline void hand_on(const Layer& layer, const float* state, const uint8_t* kept, float* to) {
  if (layer.grown == 0.0f) {
    std::memcpy(to, state, layer.hidden * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < layer.hidden; ++i) to[i] = kept[i] ? state[i] * layer.grown : 0.0f;
}

// Takes some rows through a recurrent layer. `kept`: by dropout of what goes on to one behind, of each step and row.
inline void recurrent_forward(Network& net, size_t number, const uint8_t* kept, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[number];
  const bool last = !net.recurs(number + 1);
  const int64_t hidden = layer.hidden, size = layer.inputs - hidden;
  const Grid joined = net.inputs_of(number), gates = net.changes_of(number);
  const Grid behind = last ? Grid{} : net.inputs_of(number + 1);
  for (int64_t row = first; row < first + rows; ++row) std::memset(joined.row(row) + size, 0, hidden * sizeof(float));
  for (int64_t time = 0; time < net.times; ++time) {
    const int64_t line = time * net.batch + first;
    const Grid here{gates.row(line), gates.stride};
    start_with(layer.bias, here, rows);
    multiply({joined.row(line), joined.stride}, rows, layer.panels[0].at(), layer.inputs, layer.width, here);
    for (int64_t row = 0; row < rows; ++row) {
      float* const gate = here.row(row);
      float* const out = time + 1 < net.times ? joined.row(line + net.batch + row) + size : layer.values().row(first + row);
      if (layer.cell == GRU) gru_step(layer, gate, joined.row(line + row) + size, out);
      else if (layer.cell == RNN) rnn_step(layer, gate, out);
      else lstm_step(layer, gate, net.cell_before(layer, time, line + row), layer.cells.at((line + row) * hidden), layer.bent.at((line + row) * hidden), out);
      if (!last) hand_on(layer, out, kept + (line + row) * hidden, behind.row(line + row));
    }
  }
  if (last) std::fill_n(layer.slope.at(first * layer.sent_apart()), rows * layer.sent_apart(), 1.0f);
}

// Writes the gradient of the states of the layer before at a step, and adds that of the one before of this layer to `change`.
inline void inputs_backward_at(Network& net, size_t number, const uint8_t* kept, int64_t line, int64_t rows, Grid change) {
  const Layer &layer = net.layers[number], &before = net.layers[number - 1];
  const int64_t size = before.hidden;
  const Grid gates = net.changes_of(number), both{layer.both.at(line % net.batch * layer.both_stride()), layer.both_stride()};
  std::memset(both.first, 0, rows * both.stride * sizeof(float));
  multiply({gates.row(line), gates.stride}, rows, layer.back.at(), layer.outputs, padded(layer.inputs, PANEL), both);
  for (int64_t row = 0; row < rows; ++row) {
    hand_on(before, both.row(row), kept + (line + row) * size, before.given.at((line + row) * size));
    for (int64_t i = 0; i < layer.hidden; ++i) change.row(row)[i] += both.row(row)[size + i];
  }
}

// Takes the gradient of the last state, or with a recurrent layer behind of all of them, back through a recurrent layer. `kept`: by
// dropout of what came from the layer before.
inline void recurrent_backward(Network& net, size_t number, const uint8_t* kept, int64_t first, int64_t rows) {
  const Layer& layer = net.layers[number];
  const bool last = !net.recurs(number + 1);
  const int64_t hidden = layer.hidden, size = layer.inputs - hidden, stride = layer.sent_apart();
  const Grid joined = net.inputs_of(number), gates = net.changes_of(number), change{layer.change.at(first * stride), stride};
  if (layer.cell == LSTM) std::memset(layer.cell_change.at(first * hidden), 0, rows * hidden * sizeof(float));
  if (!last) std::memset(change.first, 0, rows * stride * sizeof(float));
  for (int64_t time = net.times - 1; time >= 0; --time) {
    const int64_t line = time * net.batch + first;
    for (int64_t row = 0; row < rows; ++row) {
      float *const gate = gates.row(line + row), *const given = change.row(row);
      if (!last)
        for (int64_t i = 0; i < hidden; ++i) given[i] += layer.given.at((line + row) * hidden)[i];
      if (layer.cell == GRU) gru_step_back(layer, gate, joined.row(line + row) + size, given);
      else if (layer.cell == RNN) rnn_step_back(layer, gate, given);
      else lstm_step_back(layer, gate, net.cell_before(layer, time, line + row), layer.bent.at((line + row) * hidden), layer.cell_change.at((first + row) * hidden), given);
    }
    if (!time && !number) return;
    if (layer.cell != GRU) std::memset(change.first, 0, rows * stride * sizeof(float));  // all goes through the gates
    if (number) inputs_backward_at(net, number, kept, line, rows, change);
    else multiply({gates.row(line), gates.stride}, rows, layer.back.at(), layer.outputs, padded(hidden, PANEL), change);
  }
}

}  // namespace netwright
