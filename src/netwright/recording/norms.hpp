// BatchNorm and LayerNorm for dense.cpp: what holds of all rows of a batch is added up part by part, in one order whoever does it.
#pragma once

#include "weights.hpp"

namespace netwright {

inline Vector& vector_at(float* place) { return *reinterpret_cast<Vector*>(place); }

// Calls for each vector of numbers, and some places at a time.
template <typename Call>
void in_chunks(const Norm& norm, int64_t places, Call call) {
  for (int64_t start = 0; start < places; start += CHUNK)
    for (int64_t n = 0; n < norm.wide; n += WIDTH) call(n, start, std::min(places, start + CHUNK));
}

// Adds some places to the means of a part and to the sums of squares around them; `before` are the places of the part until then.
inline void collect(Norm& norm, int64_t part, int64_t before, Grid places, int64_t count) {
  double *const means = norm.share(part, Norm::MEAN), *const squares = norm.share(part, Norm::SQUARES);
  if (!before) std::fill_n(means, 2 * norm.wide, 0.0);
  in_chunks(norm, count, [&](int64_t n, int64_t first, int64_t end) {
    const double some = static_cast<double>(end - first), there = static_cast<double>(before + first), share = some / (there + some);
    Vector sum{}, around{};
    for (int64_t place = first; place < end; ++place) sum += vector_at(places.row(place) + n);
    const Vector mean = sum / static_cast<float>(end - first);
    for (int64_t place = first; place < end; ++place) {
      const Vector apart = vector_at(places.row(place) + n) - mean;
      around += apart * apart;
    }
    for (int64_t i = 0; i < WIDTH; ++i) {
      const double apart = static_cast<double>(mean[i]) - means[n + i];
      means[n + i] += apart * share;
      squares[n + i] += static_cast<double>(around[i]) + apart * apart * share * there;
    }
  });
}

// Works out mean and deviation of all places; `count_of` tells the places of a part.
template <typename Count>
void settle(Norm& norm, const Layer& layer, int lane, int64_t parts, Count count_of) {
  float *const center = norm.kept(lane, Norm::CENTER), *const inverse = norm.kept(lane, Norm::INVERSE);
  float *const scale = norm.kept(lane, Norm::SCALE), *const shift = norm.kept(lane, Norm::SHIFT);
  float* const spread = norm.kept(lane, Norm::SPREAD);
  for (int64_t n = 0; n < layer.outputs; ++n) {
    double mean = 0, squares = 0, before = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const double count = static_cast<double>(count_of(part)), apart = norm.share(part, Norm::MEAN)[n] - mean;
      mean += apart * count / (before + count);
      squares += norm.share(part, Norm::SQUARES)[n] + apart * apart * count * before / (before + count);
      before += count;
    }
    center[n] = static_cast<float>(mean);
    inverse[n] = static_cast<float>(1.0 / std::sqrt(squares / before + static_cast<double>(norm.epsilon)));
    scale[n] = norm.factor.empty() ? inverse[n] : norm.factor[0].value[n] * inverse[n];
    shift[n] = norm.shift.empty() ? 0.0f : norm.shift[0].value[n];
    spread[n] = static_cast<float>(squares / (before - 1.0));
  }
}

inline void normalise(const Norm& norm, int lane, Grid raw, int64_t count, Grid out) {
  in_chunks(norm, count, [&](int64_t n, int64_t first, int64_t end) {
    const Vector center = vector_at(norm.kept(lane, Norm::CENTER) + n), shift = vector_at(norm.kept(lane, Norm::SHIFT) + n);
    const Vector scale = vector_at(norm.kept(lane, Norm::SCALE) + n);
    for (int64_t place = first; place < end; ++place) vector_at(out.row(place) + n) = (vector_at(raw.row(place) + n) - center) * scale + shift;
  });
}

// Adds gradients of what was normalised to the sums of a part, or begins them: alone, and times the normalised numbers.
inline void collect_back(Norm& norm, int lane, int64_t part, bool begins, Grid raw, Grid change, int64_t count) {
  double *const sums = norm.share(part, Norm::SUM), *const products = norm.share(part, Norm::PRODUCT);
  if (begins) std::fill_n(sums, 2 * norm.wide, 0.0);
  in_chunks(norm, count, [&](int64_t n, int64_t first, int64_t end) {
    const Vector center = vector_at(norm.kept(lane, Norm::CENTER) + n), inverse = vector_at(norm.kept(lane, Norm::INVERSE) + n);
    Vector sum{}, product{};
    for (int64_t place = first; place < end; ++place) {
      const Vector here = vector_at(change.row(place) + n);
      sum += here;
      product += here * ((vector_at(raw.row(place) + n) - center) * inverse);
    }
    for (int64_t i = 0; i < WIDTH; ++i) {
      sums[n + i] += static_cast<double>(sum[i]);
      products[n + i] += static_cast<double>(product[i]);
    }
  });
}

inline void settle_back(Norm& norm, const Layer& layer, int lane, int64_t parts, int64_t places) {
  const float share = 1.0f / static_cast<float>(places);
  for (int64_t n = 0; n < layer.outputs; ++n) {
    double sum = 0, product = 0;
    for (int64_t part = 0; part < parts; ++part) {
      sum += norm.share(part, Norm::SUM)[n];
      product += norm.share(part, Norm::PRODUCT)[n];
    }
    norm.kept(lane, Norm::SUMS)[n] = static_cast<float>(sum);
    norm.kept(lane, Norm::PRODUCTS)[n] = static_cast<float>(product);
    norm.kept(lane, Norm::MIDDLE)[n] = static_cast<float>(sum) * share;
    norm.kept(lane, Norm::SLOPE)[n] = static_cast<float>(product) * share * norm.kept(lane, Norm::INVERSE)[n];
  }
}

// Writes gradients of what is normalised over those of what it was.
inline void normalise_back(const Norm& norm, int lane, Grid raw, int64_t count, Grid change) {
  in_chunks(norm, count, [&](int64_t n, int64_t first, int64_t end) {
    const Vector center = vector_at(norm.kept(lane, Norm::CENTER) + n), scale = vector_at(norm.kept(lane, Norm::SCALE) + n);
    const Vector middle = vector_at(norm.kept(lane, Norm::MIDDLE) + n), slope = vector_at(norm.kept(lane, Norm::SLOPE) + n);
    for (int64_t place = first; place < end; ++place) {
      Vector& here = vector_at(change.row(place) + n);
      here = scale * (here - middle - (vector_at(raw.row(place) + n) - center) * slope);
    }
  });
}

// Adds up numbers of a row: in 16 sums whatever the width of vectors, so that it changes no bit.
template <typename Of>
float sum_of_row(int64_t count, Of of) {
  float sums[16] = {};
  for (int64_t start = 0; start < count; start += 16)
    for (int64_t i = start; i < std::min(start + 16, count); ++i) sums[i - start] += of(i);
  for (int64_t half = 8; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

// Normalises each row by its own mean and deviation.
inline void normalise_each(const Norm& norm, const Layer& layer, int64_t first, int64_t rows, Grid raw, Grid out) {
  const float *factor = norm.factor.empty() ? nullptr : norm.factor[0].value, *shift = norm.shift.empty() ? nullptr : norm.shift[0].value;
  const auto count = static_cast<float>(layer.outputs);
  for (int64_t row = first; row < first + rows; ++row) {
    const float* from = raw.row(row);
    float* to = out.row(row);
    const float mean = sum_of_row(layer.outputs, [&](int64_t i) { return from[i]; }) / count;
    const float spread = sum_of_row(layer.outputs, [&](int64_t i) { return (from[i] - mean) * (from[i] - mean); }) / count;
    const float inverse = 1.0f / std::sqrt(spread + norm.epsilon);
    norm.rows.at()[2 * row] = mean;
    norm.rows.at()[2 * row + 1] = inverse;
    for (int64_t i = 0; i < layer.outputs; ++i) to[i] = (from[i] - mean) * inverse;
    if (factor != nullptr && shift != nullptr)
      for (int64_t i = 0; i < layer.outputs; ++i) to[i] = to[i] * factor[i] + shift[i];
    else if (factor != nullptr)
      for (int64_t i = 0; i < layer.outputs; ++i) to[i] *= factor[i];
  }
}

// Writes gradients of what each row was over those of what it became, and adds them to the sums of a part.
inline void normalise_each_back(Norm& norm, const Layer& layer, int64_t part, int64_t first, int64_t end, Grid raw, Grid change) {
  double *const sums = norm.share(part, Norm::SUM), *const products = norm.share(part, Norm::PRODUCT);
  std::fill_n(sums, 2 * norm.wide, 0.0);
  const float* factor = norm.factor.empty() ? nullptr : norm.factor[0].value;
  const auto count = static_cast<float>(layer.outputs);
  for (int64_t row = first; row < end; ++row) {
    const float mean = norm.rows.at()[2 * row], inverse = norm.rows.at()[2 * row + 1];
    const float* from = raw.row(row);
    float* here = change.row(row);
    const auto became = [&](int64_t i) { return (from[i] - mean) * inverse; };
    for (int64_t i = 0; i < layer.outputs; ++i) {
      sums[i] += static_cast<double>(here[i]);
      products[i] += static_cast<double>(here[i] * became(i));
    }
    if (factor != nullptr)
      for (int64_t i = 0; i < layer.outputs; ++i) here[i] *= factor[i];
    const float middle = sum_of_row(layer.outputs, [&](int64_t i) { return here[i]; }) / count;
    const float slope = sum_of_row(layer.outputs, [&](int64_t i) { return here[i] * became(i); }) / count;
    for (int64_t i = 0; i < layer.outputs; ++i) here[i] = inverse * (here[i] - middle - became(i) * slope);
  }
}

// Changes factors, shifts and what runs of a lane's numbers.
inline void change_norm(const Norm& norm, const Layer& layer, const Clip& clip, int lane, int lanes) {
  if (!norm.there) return;
  const int64_t low = layer.outputs * lane / lanes, high = layer.outputs * (lane + 1) / lanes;
  const auto change = [&](const std::vector<Held>& weights, float* gradient) {
    clip(gradient + low, high - low);
    for (const Held& held : weights) held.change(low, gradient + low, high - low);
  };
  change(norm.factor, norm.kept(lane, Norm::PRODUCTS));
  change(norm.shift, norm.kept(lane, Norm::SUMS));
  if (norm.mean == nullptr) return;
  for (int64_t n = low; n < high; ++n) {
    norm.mean[n] += norm.momentum * (norm.kept(lane, Norm::CENTER)[n] - norm.mean[n]);
    norm.variance[n] += norm.momentum * (norm.kept(lane, Norm::SPREAD)[n] - norm.variance[n]);
  }
}

inline Norm norm_from(Reader& reader, int64_t outputs, int64_t places, int64_t parts, int lanes) {
  Norm norm;
  norm.there = reader.whole();
  if (!norm.there) return norm;
  norm.by_row = reader.whole();
  norm.epsilon = static_cast<float>(reader.real());
  norm.momentum = static_cast<float>(reader.real());
  for (float** kept : {&norm.mean, &norm.variance}) *kept = reinterpret_cast<float*>(reader.whole());
  for (auto* kind : {&norm.factor, &norm.shift})
    for (int64_t left = reader.whole(); left > 0; --left) kind->push_back(held_from(reader));
  norm.wide = padded(outputs, WIDTH);
  norm.raw.make(places * norm.wide);
  if (norm.by_row) norm.rows.make(2 * places);
  norm.shares.resize(Norm::SHARED * parts * norm.wide);
  for (int lane = 0; lane < lanes; ++lane) norm.lanes.emplace_back().make(Norm::KEPT * norm.wide);
  return norm;
}

}  // namespace netwright
