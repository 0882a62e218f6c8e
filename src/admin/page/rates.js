// Rates from totals: differences between updates of one process, over a window of two minutes.

const WINDOW_MS = 120_000;
const MINUTE_MS = 60_000;
/** A page that was not looked at for so long begins anew: what happened meanwhile is no rate of now. */
const BREAK_MS = 45_000;

export class Rates {
  constructor() {
    this.samples = [];
    /** Opens, closes and so on, a second, one for each pair of updates. */
    this.points = [];
  }

  /** Takes an update in. */
  take(update) {
    const sample = {
      at: update.at_ms,
      pid: update.status.pid,
      generation: update.status.generation,
      totals: update.totals,
    };
    if (sample.at - (this.samples.at(-1)?.at ?? 0) > BREAK_MS) [this.samples, this.points] = [[], []];
    const before = this.samples.at(-1);
    this.samples.push(sample);
    if (before && sample.at > before.at) this.points.push(point(before, sample));
    const oldest = sample.at - WINDOW_MS;
    while (this.samples.length > 2 && this.samples[1].at < oldest) this.samples.shift();
    while (this.points.length > 0 && this.points[0].at < oldest) this.points.shift();
  }

  get now() {
    return this.points.at(-1) ?? null;
  }

  get length() {
    return WINDOW_MS;
  }

  /** What `value` of the totals grew by in the last minute. A process that took over counts from 0. */
  grown(value) {
    const last = this.samples.at(-1);
    let sum = 0;
    for (let index = 1; index < this.samples.length; index++) {
      const [before, after] = [this.samples[index - 1], this.samples[index]];
      if (after.at > last.at - MINUTE_MS) sum += step(before, after, value);
    }
    return sum;
  }

  /** Handshakes of the last minute by bucket, or all where there was none, and their percentiles (50, 90, 99). */
  handshakes() {
    const { bounds, counts } = this.samples.at(-1).totals.handshakes;
    const recent = counts.map((_, bucket) => this.grown((totals) => totals.handshakes.counts[bucket] ?? 0));
    const isRecent = recent.some((number) => number > 0);
    const shown = isRecent ? recent : counts;
    const percentiles = [0.5, 0.9, 0.99].map((share) => percentile(bounds, shown, share));
    return { bounds, counts: shown, isRecent, number: sum(shown), percentiles };
  }
}

export const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);
export const ended = (totals) => sum(Object.values(totals.ended));

function step(before, after, value) {
  // A successor begins at 0: what it has is what grew.
  const from = before.pid === after.pid ? value(before.totals) : 0;
  return Math.max(0, value(after.totals) - from);
}

function point(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const each = (value) => step(before, after, value) / seconds;
  return {
    at: after.at,
    opens: each((totals) => totals.opened),
    closes: each(ended),
    messages: each((totals) => totals.messages.to_backend + totals.messages.to_client),
    bytes: each((totals) => totals.bytes.to_backend + totals.bytes.to_client),
    mark: before.pid !== after.pid ? "upgrade" : before.generation !== after.generation ? "reload" : null,
  };
}

/** The time that a share of the measurements took at the most, interpolated within its bucket; null without any. */
export function percentile(bounds, counts, share) {
  const all = sum(counts);
  if (all === 0) return null;
  let below = 0;
  for (const [bucket, number] of counts.entries()) {
    if (number > 0 && below + number >= share * all) {
      const from = bucket > 0 ? bounds[bucket - 1] : 0;
      const to = bounds[bucket] ?? from;
      return from + ((to - from) * (share * all - below)) / number;
    }
    below += number;
  }
  return bounds.at(-1);
}
