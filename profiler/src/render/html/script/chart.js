// Memory over time: a chart that is zoomed by dragging, by its buttons and by keys.

const COLOURS = 8;

// Marks on an axis at round numbers, at most about `most` of them.
function ticks(from, to, most, steps) {
  const raw = (to - from) / Math.max(1, most);
  const step = steps(raw);
  const marks = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step / 1e6; at += step) marks.push(at);
  return marks;
}

function byteStep(raw) {
  let unit = 1;
  while (raw > unit * 512) unit *= 1024;
  for (const step of [1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 500, 512]) if (unit * step >= raw) return unit * step;
  return unit * 1024;
}

function timeStep(raw) {
  const seconds = [0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  for (const step of seconds) if (step * 1000 >= raw) return step * 1000;
  return Math.ceil(raw / 86400000) * 86400000;
}

function axisTime(ms) {
  const seconds = Math.round(ms / 10) / 100;
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60), rest = Math.round(seconds % 60);
  if (minutes < 120) return rest ? `${minutes}:${String(rest).padStart(2, '0')} min` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 ? `${hours} h ${minutes % 60}` : `${hours} h`;
}

// Changes per second of a sum from reading to reading. Of two readings close together (the last one is out of turn) the
// difference says nothing: what came between them was counted at different moments.
function rate(at, sums) {
  const steps = at.slice(1).map((ms, i) => ms - at[i]).sort((one, other) => one - other);
  const least = Math.max(1, steps[steps.length >> 1] / 2 || 0);
  const points = [];
  for (let i = 1, from = 0; i < at.length; i += 1) {
    const ms = at[i] - at[from];
    if (ms < least) continue;
    points.push([at[i], Math.max(0, sums[i] - sums[from]) * 1000 / ms]);
    from = i;
  }
  return points;
}

const zipped = (at, values) => at.map((ms, index) => [ms, values[index]]);

function valueAt(points, ms) {
  let low = 0, high = points.length - 1;
  if (high < 0 || ms < points[0][0]) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle][0] <= ms) low = middle; else high = middle - 1;
  }
  return points[low][1];
}

// A chart of lines: { name, points: [[ms, value]], colour, wide }. `range` is shared by charts that zoom together.
class Chart {
  constructor(range, height, unit, label) {
    Object.assign(this, { range, height, unit, lines: [] });
    this.svg = svg('svg', { class: 'chart', tabindex: '0', role: 'img', 'aria-label': label, height });
    this.readout = el('div', { class: 'readout', hidden: true });
    this.node = el('div', { class: 'chart-box' }, this.svg, this.readout);
    this.svg.addEventListener('pointerdown', (event) => this.press(event));
    this.svg.addEventListener('pointermove', (event) => this.move(event));
    this.svg.addEventListener('pointerup', (event) => this.release(event));
    this.svg.addEventListener('pointerleave', () => { this.readout.hidden = true; this.cursor.setAttribute('visibility', 'hidden'); });
    this.svg.addEventListener('dblclick', () => this.range.reset());
    this.svg.addEventListener('keydown', (event) => this.range.key(event));
    range.charts.push(this);
  }

  get width() { return Math.max(280, this.node.clientWidth || 900); }
  x(ms) { return this.left + (ms - this.range.from) / (this.range.to - this.range.from) * (this.width - this.left - 12); }
  y(value) { return this.height - 24 - value / this.top * (this.height - 36); }
  ms(event) {
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const part = (x - this.left) / (this.width - this.left - 12);
    return this.range.from + Math.min(1, Math.max(0, part)) * (this.range.to - this.range.from);
  }

  measure() {
    const inside = this.lines.flatMap((line) => this.visible(line.points).map((point) => point[1]));
    this.top = Math.max(1, ...inside) * 1.06;
    this.marks = ticks(0, this.top, this.height / 44, byteStep);
    return 16 + 7 * Math.max(...this.marks.map((mark) => this.unit(mark).length));
  }

  draw() {
    const { from, to } = this.range, { marks } = this;
    // Charts that zoom together start at the same column.
    this.left = this.range.left;
    this.svg.setAttribute('viewBox', `0 0 ${this.width} ${this.height}`);
    const parts = [];
    for (const mark of marks) {
      parts.push(svg('line', { class: 'grid', x1: this.left, x2: this.width - 12, y1: this.y(mark), y2: this.y(mark) }));
      parts.push(svg('text', { class: 'axis', x: this.left - 6, y: this.y(mark) + 4, 'text-anchor': 'end' }, this.unit(mark)));
    }
    for (const mark of ticks(from, to, this.width / 110, timeStep)) {
      parts.push(svg('text', { class: 'axis', x: this.x(mark), y: this.height - 6, 'text-anchor': 'middle' }, axisTime(mark)));
      parts.push(svg('line', { class: 'grid', x1: this.x(mark), x2: this.x(mark), y1: 12, y2: this.height - 24 }));
    }
    for (const line of this.lines) parts.push(...this.drawn(line));
    this.cursor = svg('line', { class: 'cursor', y1: 8, y2: this.height - 24, visibility: 'hidden' });
    this.chosen = svg('rect', { class: 'chosen', y: 8, height: this.height - 32, visibility: 'hidden' });
    this.svg.replaceChildren(...parts, this.cursor, this.chosen);
  }

  // The points in the range, and one on each side, so that a line goes on to the edge.
  visible(points) {
    const first = points.findIndex((point) => point[0] >= this.range.from);
    if (first < 0) return points.slice(-1);
    const after = points.findIndex((point) => point[0] > this.range.to);
    return points.slice(Math.max(0, first - 1), after < 0 ? points.length : after + 1);
  }

  drawn(line) {
    const points = this.visible(line.points);
    if (!points.length) return [];
    const inside = (x) => Math.min(this.width - 12, Math.max(this.left, x)).toFixed(1);
    const place = ([ms, value]) => `${inside(this.x(ms))},${this.y(value).toFixed(1)}`;
    const path = points.map(place).join(' ');
    const ends = points.map((point) => inside(this.x(point[0])));
    const base = this.y(0).toFixed(1);
    const area = line.wide && svg('polygon', { class: `area c${line.colour}`, points: `${ends[0]},${base} ${path} ${ends[ends.length - 1]},${base}` });
    const drawn = [area, svg('polyline', { class: `line c${line.colour}${line.wide ? ' wide' : ''}`, points: path })];
    if (points.length === 1) drawn.push(svg('circle', { class: `line c${line.colour}`, cx: ends[0], cy: this.y(points[0][1]), r: 3 }));
    return drawn.filter(Boolean);
  }

  press(event) { if (event.button === 0) { this.pressed = this.ms(event); this.svg.setPointerCapture(event.pointerId); } }

  move(event) {
    const ms = this.ms(event), x = this.x(ms);
    this.cursor.setAttribute('x1', x);
    this.cursor.setAttribute('x2', x);
    this.cursor.setAttribute('visibility', 'visible');
    if (this.pressed !== undefined) {
      const [from, to] = [Math.min(this.pressed, ms), Math.max(this.pressed, ms)].map((at) => this.x(at));
      this.chosen.setAttribute('x', from);
      this.chosen.setAttribute('width', to - from);
      this.chosen.setAttribute('visibility', 'visible');
    }
    const rows = this.lines.map((line) => [line, valueAt(line.points, ms)]).filter(([, value]) => value !== null);
    this.readout.replaceChildren(el('div', { class: 'when' }, time(ms)), ...rows.map(([line, value]) =>
      el('div', null, el('span', { class: `key c${line.colour}` }), `${line.name} `, el('b', null, this.unit(value)))));
    this.readout.hidden = false;
    const room = this.width - this.readout.offsetWidth - 8;
    this.readout.style.left = `${Math.max(0, Math.min(room, x + 12 > room ? x - this.readout.offsetWidth - 12 : x + 12))}px`;
  }

  release(event) {
    const [from, to] = [this.pressed, this.ms(event)].sort((a, b) => a - b);
    this.pressed = undefined;
    this.chosen.setAttribute('visibility', 'hidden');
    if (this.x(to) - this.x(from) > 4) this.range.zoom(from, to);
  }
}

// The time that charts show together.
class Range {
  constructor(end) { Object.assign(this, { end: Math.max(1, end), from: 0, to: Math.max(1, end), charts: [], told: () => {} }); }
  draw() {
    this.left = Math.max(...this.charts.map((chart) => chart.measure()));
    this.charts.forEach((chart) => chart.draw());
    this.told();
  }
  zoom(from, to) {
    const length = Math.max(this.end / 2000, 1, Math.min(this.end, to - from));
    this.from = Math.max(0, Math.min(from, this.end - length));
    this.to = this.from + length;
    this.draw();
  }
  reset() { this.zoom(0, this.end); }
  by(factor) {
    const [middle, half] = [(this.from + this.to) / 2, (this.to - this.from) / 2 * factor];
    this.zoom(middle - half, middle + half);
  }
  pan(part) { const by = (this.to - this.from) * part; this.zoom(this.from + by, this.to + by); }
  key(event) {
    const does = { '+': () => this.by(0.5), '=': () => this.by(0.5), '-': () => this.by(2), 0: () => this.reset(), Escape: () => this.reset(),
      ArrowLeft: () => this.pan(-0.25), ArrowRight: () => this.pan(0.25) }[event.key];
    if (does) { event.preventDefault(); does(); }
  }
}

// A line in a cell of a table.
function sparkline(values, isSpace) {
  if (!values.length) return el('span', { class: 'none', title: 'not among the call paths that are followed over time' }, '–');
  const most = Math.max(1, ...values), [width, height] = [110, 22];
  const at = DATA.moments, [first, last] = [at[0], at[at.length - 1]];
  const x = (index) => (last > first ? (at[index] - first) / (last - first) * (width - 2) + 1 : 1).toFixed(1);
  const path = values.map((value, index) => `${x(index)},${(height - 2 - value / most * (height - 4)).toFixed(1)}`).join(' ');
  const said = `${bytes(values[0])} at ${time(first)}, ${bytes(values[values.length - 1])} at ${time(last)}, at most ${bytes(most)}`;
  return svg('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': said },
    svg('title', null, said),
    svg('polygon', { points: `${x(0)},${height - 1} ${path} ${x(values.length - 1)},${height - 1}` }),
    svg('polyline', { points: path }));
}
