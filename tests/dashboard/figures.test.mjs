// The dashboard's arithmetic, without a browser: rates over updates, percentiles, and figures as text.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Rates, percentile } from "../../src/admin/page/rates.js";
import { about, bytes, latency, milliseconds, span } from "../../src/admin/page/words.js";

const totals = (opened, closed, counts = [0, 0, 0]) => ({
  opened,
  ended: { client_close: closed },
  messages: { to_backend: 0, to_client: 0 },
  bytes: { to_backend: 0, to_client: 0 },
  handshakes: { bounds: [0.001, 0.01], counts },
});
const update = (at, pid, ...rest) => ({ at_ms: at, status: { pid, generation: 1 }, totals: totals(...rest) });

test("a rate is the growth of a total over the time between two updates", () => {
  const rates = new Rates();
  rates.take(update(100_000, 1, 10, 4));
  assert.equal(rates.now, null);
  rates.take(update(102_000, 1, 16, 5));
  assert.deepEqual([rates.now.opens, rates.now.closes, rates.now.mark], [3, 0.5, null]);
});

test("a process that takes over counts from 0, and what its predecessor counted stays", () => {
  const rates = new Rates();
  rates.take(update(100_000, 1, 10, 4));
  rates.take(update(101_000, 1, 12, 4));
  rates.take(update(102_000, 2, 5, 1));
  assert.deepEqual([rates.now.opens, rates.now.closes, rates.now.mark], [5, 1, "upgrade"]);
  assert.equal(
    rates.grown((of) => of.opened),
    7,
  );
});

test("time in which nobody looked is no part of the last minute", () => {
  const rates = new Rates();
  rates.take(update(100_000, 1, 10, 4));
  rates.take(update(3_700_000, 1, 100_000, 4));
  assert.deepEqual([rates.now, rates.grown((of) => of.opened)], [null, 0]);
});

test("no more than two minutes are kept", () => {
  const rates = new Rates();
  for (let second = 0; second < 1_000; second++) rates.take(update(second * 1_000, 1, second, 0));
  assert.ok(
    rates.samples.length <= 123 && rates.points.length <= 121,
    `${rates.samples.length} ${rates.points.length}`,
  );
  assert.equal(
    rates.grown((of) => of.opened),
    60,
  );
});

test("percentiles lie within the bucket that holds them", () => {
  assert.equal(percentile([0.001, 0.01], [0, 0, 0], 0.5), null);
  assert.equal(percentile([0.001, 0.01], [10, 0, 0], 0.5), 0.0005);
  assert.equal(percentile([0.001, 0.01], [5, 5, 0], 0.9), 0.0082);
  assert.equal(percentile([0.001, 0.01], [0, 0, 3], 0.99), 0.01, "as long as the last end at the least");
  const rates = new Rates();
  rates.take(update(1_000, 1, 0, 0, [100, 0, 0]));
  assert.deepEqual([rates.handshakes().isRecent, rates.handshakes().number], [false, 100]);
  rates.take(update(2_000, 1, 0, 0, [100, 7, 0]));
  assert.deepEqual([rates.handshakes().isRecent, rates.handshakes().counts], [true, [0, 7, 0]]);
});

test("figures are what people read", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 20 * 1024 ** 3].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 GiB"]);
  assert.deepEqual([-1, 0, 59.9, 60, 61, 3_660, 86_400, 10 * 86_400 + 3_600].map(span), [
    "0 s",
    "0 s",
    "59 s",
    "1 min",
    "1 min 1 s",
    "1 h 1 min",
    "1 d",
    "10 d",
  ]);
  assert.equal(about(3_660), "1 h");
  assert.deepEqual([0.0002, 0.0042, 0.042, 1.25, 12].map(latency), ["200 µs", "4.2 ms", "42 ms", "1.3 s", "12 s"]);
});

test("times that people write are read, and others refused with an example", () => {
  assert.deepEqual(
    ["", " 30s ", "5m", "5 min", "250ms", "1h", "2d"].map((text) => milliseconds(text, "x")),
    [null, 3e4, 3e5, 3e5, 250, 3.6e6, 1.728e8],
  );
  for (const text of ["soon", "1", "-5s", "1.5h", "1w"])
    assert.throws(() => milliseconds(text, "Idle for"), /^Error: Idle for: expected a time such as 30s/);
});
