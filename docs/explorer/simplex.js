// The mathematics of kdnb/report/explorers/simplex.py for the page that needs no kernel; a test holds the two together.
// A scene: { truth, teacher, alpha, tau, start }, posteriors of three classes. Entropies in nats.
"use strict";
const Simplex = (() => {
  const STEP = 0.25, STEPS = 240;
  const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);
  const softmax = (z, tau = 1) => {
    const top = Math.max(...z), e = z.map(x => Math.exp((x - top) / tau)), sum = e.reduce((a, b) => a + b, 0);
    return e.map(x => x / sum);
  };
  const logs = p => p.map(Math.log);
  const entropy = p => -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
  const tempered = (s, tau = s.tau) => softmax(logs(s.teacher), tau);
  const smoothed = s => s.truth.map(x => (1 - s.alpha) * x + s.alpha / 3);

  // (1 - alpha)(p - eta) + alpha tau (p_tau - p^t_tau); LS: a uniform teacher at tau 1
  function gradient(s, z, method) {
    const tau = method === "LS" ? 1 : s.tau, soft = method === "LS" ? [1 / 3, 1 / 3, 1 / 3] : tempered(s);
    const p = softmax(z), q = softmax(z, tau);
    return p.map((x, k) => (1 - s.alpha) * (x - s.truth[k]) + s.alpha * tau * (q[k] - soft[k]));
  }

  function curvature(s, z) {
    const p = softmax(z), q = softmax(z, s.tau), one = (r, i, j) => (i === j ? r[i] : 0) - r[i] * r[j];
    return [0, 1, 2].map(i => [0, 1, 2].map(j => (1 - s.alpha) * one(p, i, j) + s.alpha * one(q, i, j) + 1));
  }

  const det = m => m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
    - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  const solve = (m, b) => [0, 1, 2].map(k => det(m.map((row, i) => row.map((x, j) => (j === k ? b[i] : x)))) / det(m));

  // the posterior at tau 1 that minimises the KD loss, by Newton's method
  function optimum(s) {
    if (s.alpha === 1) return [...s.teacher];
    let z = logs(s.truth.map((x, k) => (1 - s.alpha) * x + s.alpha * s.teacher[k]));
    for (let i = 0; i < 60; i++) {
      const slope = gradient(s, z, "KD");
      if (Math.max(...slope.map(Math.abs)) < 1e-12) break;
      const change = solve(curvature(s, z), slope), most = Math.max(1, ...change.map(Math.abs));
      z = z.map((x, k) => x - change[k] / most);
    }
    return softmax(z);
  }

  // dp/dt of the gradient flow on the logits
  function arrow(s, p, method) {
    const speed = gradient(s, logs(p), method).map(x => -x), mean = dot(p, speed);
    return p.map((x, k) => x * (speed[k] - mean));
  }
  const entropyRate = (s, p, method) => -dot(logs(p), arrow(s, p, method));

  function path(s, method) {
    let z = logs(s.start);
    const way = [softmax(z)];
    for (let i = 0; i < STEPS; i++) {
      const slope = gradient(s, z, method);
      z = z.map((x, k) => x - STEP * slope[k]);
      way.push(softmax(z));
    }
    return way;
  }

  // posteriors of one entropy, going round the uniform one; null where the triangle ends before it
  function contour(level, rays = 240) {
    const found = [];
    for (let i = 0; i <= rays; i++) {
      const c = Math.cos(2 * Math.PI * i / rays), d = Math.sin(2 * Math.PI * i / rays);
      const way = [c / Math.SQRT2 + d / Math.sqrt(6), -c / Math.SQRT2 + d / Math.sqrt(6), -2 * d / Math.sqrt(6)];
      const end = (1 - 1e-9) / (3 * -Math.min(...way)), at = t => way.map(x => 1 / 3 + t * x);
      let low = 0, high = end;
      for (let j = 0; j < 50; j++) {
        const middle = (low + high) / 2;
        if (entropy(at(middle)) > level) low = middle; else high = middle;
      }
      found.push(high >= end * (1 - 1e-6) ? null : at(low));
    }
    return found;
  }
  return { softmax, entropy, tempered, smoothed, gradient, optimum, arrow, entropyRate, path, contour };
})();
if (typeof module !== "undefined") module.exports = Simplex;
