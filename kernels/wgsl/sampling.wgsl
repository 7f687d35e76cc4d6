// Drawing the next tokens, a workgroup a sequence. Every filter keeps a front part of the ranking (greater score first,
// then lower id), described by the last token of that part: its score, found by radix or bisection over the bits of scores
// made to order like numbers, and its id among equal scores. As in kernels/c/sampling.c, top-p counts probability after
// top-k and min-p comes last. Needs philox.wgsl and workgroup_sum.wgsl before it.

struct Draw {
  tokens_at: u32,
  positions_at: u32,
  log_probs_at: u32,
  logits_at: u32,
  seen_at: u32,
  rng_at: u32,
  weights_at: u32,
  vocabulary: u32,
  id_bytes: u32, // that tell ids apart
  has_seen: u32,
  top_k: u32,
  temperature: f32,
  top_p: f32,
  min_p: f32,
  penalty: f32,
}

@group(0) @binding(0) var<uniform> d: Draw;
@group(0) @binding(1) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> log_probs: array<f32>;
@group(0) @binding(4) var<storage, read> logits: array<f32>;
@group(0) @binding(5) var<storage, read_write> seen: array<u32>;
@group(0) @binding(6) var<storage, read> rng: array<u32>;
@group(0) @binding(7) var<storage, read_write> weights: array<f32>;

const BINS = 256u;
const LOWEST = -3.4028234e38;
const NONE = 0xffffffffu;

// The last token of the ranking that is kept.
struct Cut {
  order: u32,
  id: u32,
}

var<workgroup> greatest: array<f32, GROUP>;
var<workgroup> counts: array<atomic<u32>, BINS>;
var<workgroup> reached: vec2<u32>;
var<workgroup> running: array<f32, GROUP>;
var<workgroup> chosen: atomic<u32>;

fn score_of(sequence: u32, id: u32) -> f32 {
  let at = sequence * d.vocabulary + id;
  let logit = logits[d.logits_at + at];
  if (d.has_seen == 0u || seen[d.seen_at + at] == 0u) {
    return logit;
  }
  return select(logit * d.penalty, logit / d.penalty, logit > 0.0);
}

// Unsigned numbers that order like scores; both zeros are one.
fn order_of(score: f32) -> u32 {
  let bits = select(bitcast<u32>(score), 0u, score == 0.0);
  return bits ^ select(0x80000000u, NONE, (bits >> 31u) != 0u);
}

fn score_from(order: u32) -> f32 {
  return bitcast<f32>(order ^ select(NONE, 0x80000000u, (order >> 31u) != 0u));
}

fn is_kept(sequence: u32, id: u32, cut: Cut) -> bool {
  let order = order_of(score_of(sequence, id));
  return order > cut.order || (order == cut.order && id <= cut.id);
}

fn weight_of(score: f32, peak: f32) -> f32 {
  return exp((score - peak) / d.temperature);
}

fn workgroup_max(value: f32, thread: u32) -> f32 {
  greatest[thread] = value;
  workgroupBarrier();
  for (var distance = GROUP / 2u; distance > 0u; distance /= 2u) {
    if (thread < distance) {
      greatest[thread] = max(greatest[thread], greatest[thread + distance]);
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&greatest[0]);
}

fn clear_counts(thread: u32) {
  for (var bin = thread; bin < BINS; bin += GROUP) {
    atomicStore(&counts[bin], 0u);
  }
  workgroupBarrier();
}

// The bin, from the upper end, in which the running count reaches `wanted`, and what of it is then still wanted.
fn reaching_bin(wanted: u32, thread: u32) -> vec2<u32> {
  workgroupBarrier();
  if (thread == 0u) {
    var bin = BINS - 1u;
    var left = wanted;
    for (; bin > 0u && atomicLoad(&counts[bin]) < left; bin--) {
      left -= atomicLoad(&counts[bin]);
    }
    reached = vec2<u32>(bin, left);
  }
  return workgroupUniformLoad(&reached);
}

// The order of number k of the ranking, byte by byte, and its number among equals.
fn kth_order(sequence: u32, k: u32, thread: u32) -> vec2<u32> {
  var found = vec2<u32>(0u, k);
  for (var byte = 4u; byte > 0u; byte--) {
    let shift = 8u * (byte - 1u);
    clear_counts(thread);
    for (var id = thread; id < d.vocabulary; id += GROUP) {
      let order = order_of(score_of(sequence, id));
      if (byte == 4u || (order >> shift) >> 8u == found.x) {
        atomicAdd(&counts[(order >> shift) % BINS], 1u);
      }
    }
    let next = reaching_bin(found.y, thread);
    found = vec2<u32>((found.x << 8u) | next.x, next.y);
  }
  return found;
}

// The id of number `wanted`, ascending, among those of one order.
fn nth_equal(sequence: u32, order: u32, wanted: u32, thread: u32) -> u32 {
  var prefix = 0u;
  var left = wanted;
  for (var byte = d.id_bytes; byte > 0u; byte--) {
    let shift = 8u * (byte - 1u);
    clear_counts(thread);
    for (var id = thread; id < d.vocabulary; id += GROUP) {
      let is_equal = order_of(score_of(sequence, id)) == order;
      if (is_equal && (id >> shift) >> 8u == prefix) {
        atomicAdd(&counts[BINS - 1u - (id >> shift) % BINS], 1u);
      }
    }
    let next = reaching_bin(left, thread);
    prefix = (prefix << 8u) | (BINS - 1u - next.x);
    left = next.y;
  }
  return prefix;
}

fn top_k(sequence: u32, thread: u32) -> Cut {
  if (d.top_k == 0u || d.top_k >= d.vocabulary) {
    return Cut(0u, NONE);
  }
  let last = kth_order(sequence, d.top_k, thread);
  return Cut(last.x, nth_equal(sequence, last.x, last.y, thread));
}

// What the kept tokens of at least this order weigh together.
fn mass_from(sequence: u32, order: u32, cut: Cut, thread: u32) -> f32 {
  var mass = 0.0;
  for (var id = thread; id < d.vocabulary; id += GROUP) {
    if (order_of(score_of(sequence, id)) >= order && is_kept(sequence, id, cut)) {
      mass += weights[d.weights_at + sequence * d.vocabulary + id];
    }
  }
  return uniform_sum(mass, thread);
}

fn uniform_sum(value: f32, thread: u32) -> f32 {
  let sum = workgroup_sum(value, thread);
  running[thread] = sum;
  return workgroupUniformLoad(&running[0]);
}

// The smallest part of the ranking that weighs the share top_p of what `cut` keeps.
fn top_p(sequence: u32, cut: Cut, peak: f32, thread: u32) -> Cut {
  if (d.top_p >= 1.0) {
    return cut;
  }
  let wanted = d.top_p * mass_from(sequence, 0u, cut, thread);
  var low = cut.order; // tokens from here on weigh enough,
  var high = order_of(peak) + 1u; // from here on too little
  var mass_above = 0.0;
  while (high - low > 1u) {
    let middle = low + (high - low) / 2u;
    let mass = mass_from(sequence, middle, cut, thread);
    if (mass >= wanted) {
      low = middle;
    } else {
      high = middle;
      mass_above = mass;
    }
  }
  let missing = ceil((wanted - mass_above) / weight_of(score_from(low), peak));
  let id = nth_equal(sequence, low, u32(clamp(missing, 1.0, f32(d.vocabulary))), thread);
  return Cut(low, select(id, min(id, cut.id), low == cut.order));
}

// Leaves each kept token's weight, relative to the most likely one, in `weights` and 0 elsewhere.
fn weigh(sequence: u32, peak: f32, thread: u32) {
  let first = d.weights_at + sequence * d.vocabulary;
  for (var id = thread; id < d.vocabulary; id += GROUP) {
    weights[first + id] = weight_of(score_of(sequence, id), peak);
  }
  let cut = top_p(sequence, top_k(sequence, thread), peak, thread);
  for (var id = thread; id < d.vocabulary; id += GROUP) {
    if (weights[first + id] < d.min_p || !is_kept(sequence, id, cut)) {
      weights[first + id] = 0.0;
    }
  }
  storageBarrier();
  workgroupBarrier();
}

// The token where the running sum of weights in ascending id passes the share `unit` of the whole. Each thread adds up a
// stretch of ids; `running` becomes the sum up to a stretch's end.
fn draw(sequence: u32, unit: f32, thread: u32) {
  let first = d.weights_at + sequence * d.vocabulary;
  let stretch = (d.vocabulary + GROUP - 1u) / GROUP;
  let begin = min(thread * stretch, d.vocabulary);
  let end = min(begin + stretch, d.vocabulary);
  var sum = 0.0;
  for (var id = begin; id < end; id++) {
    sum += weights[first + id];
  }
  running[thread] = sum;
  workgroupBarrier();
  for (var distance = 1u; distance < GROUP; distance *= 2u) {
    var before = 0.0;
    if (thread >= distance) {
      before = running[thread - distance];
    }
    workgroupBarrier();
    running[thread] += before;
    workgroupBarrier();
  }
  let wanted = unit * running[GROUP - 1u];
  if (sum > 0.0 && running[thread] > wanted) {
    atomicMin(&chosen, thread);
  }
  workgroupBarrier();
  let winner = atomicLoad(&chosen);
  workgroupBarrier();
  if (thread == winner) {
    atomicStore(&chosen, passing(first, begin, end, running[thread] - sum, wanted));
  }
  workgroupBarrier();
}

// Where rounding leaves the sum short: the last token with a weight.
fn passing(first: u32, begin: u32, end: u32, before: f32, wanted: f32) -> u32 {
  var last = begin;
  var sum = before;
  for (var id = begin; id < end; id++) {
    let weight = weights[first + id];
    if (weight > 0.0) {
      last = id;
      sum += weight;
      if (sum > wanted) {
        return id;
      }
    }
  }
  return last;
}

@compute @workgroup_size(GROUP)
fn sample(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = group.x;
  let first = d.logits_at + sequence * d.vocabulary;
  var best_logit = LOWEST;
  var best_score = LOWEST;
  for (var id = thread; id < d.vocabulary; id += GROUP) {
    best_logit = max(best_logit, logits[first + id]);
    best_score = max(best_score, score_of(sequence, id));
  }
  let peak_logit = workgroup_max(best_logit, thread);
  let peak = workgroup_max(best_score, thread);
  var sum = 0.0;
  for (var id = thread; id < d.vocabulary; id += GROUP) {
    sum += exp(logits[first + id] - peak_logit);
  }
  let log_sum = log(workgroup_sum(sum, thread));
  if (thread == 0u) {
    atomicStore(&chosen, NONE);
  }
  workgroupBarrier();
  if (d.temperature > 0.0) {
    let key = d.rng_at + 3u * sequence;
    let counter = vec4<u32>(positions[d.positions_at + sequence], rng[key + 2u], 0u, 0u);
    weigh(sequence, peak, thread);
    draw(sequence, unit_float(philox(counter, vec2<u32>(rng[key], rng[key + 1u])).x), thread);
  } else {
    for (var id = thread; id < d.vocabulary; id += GROUP) {
      if (score_of(sequence, id) == peak) {
        atomicMin(&chosen, id);
      }
    }
    storageBarrier(); // `seen` was read and is about to change
    workgroupBarrier();
  }
  if (thread == 0u) {
    let found = atomicLoad(&chosen);
    let id = select(found, 0u, found == NONE); // of logits that are no numbers
    tokens[d.tokens_at + sequence] = id;
    positions[d.positions_at + sequence] += 1u;
    log_probs[d.log_probs_at + sequence] = logits[first + id] - peak_logit - log_sum;
    if (d.has_seen != 0u) {
      seen[d.seen_at + sequence * d.vocabulary + id] += 1u;
    }
  }
}
