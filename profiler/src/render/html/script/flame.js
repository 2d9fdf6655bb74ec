// The flamegraph: callers above, what they call below; or inverted, from the code that allocates up to its callers.

const ROW = 19;
const LEAST_PIXELS = 1.5;

// A tree of { frame, value, self, children, parent, depth }; frame -1 is the whole.
function flameTree(view, process, inverted) {
  const rows = view.flame.rows, self = new Map();
  for (let at = 0; at < rows.length; at += 3) {
    if (process < 0 || rows[at] === process) self.set(rows[at + 1], (self.get(rows[at + 1]) || 0) + rows[at + 2]);
  }
  const root = { frame: -1, value: 0, self: 0, children: new Map(), parent: null };
  const { parents, node_frames: frames } = DATA.paths;
  const child = (node, frame) => {
    let found = node.children.get(frame);
    if (!found) node.children.set(frame, found = { frame, value: 0, self: 0, children: new Map(), parent: node });
    return found;
  };
  for (const [number, value] of self) {
    const path = [];
    for (let node = number; node !== 0; node = parents[node]) path.push(frames[node]);
    if (!inverted) path.reverse();
    let node = root;
    node.value += value;
    for (const frame of path) { node = child(node, frame); node.value += value; }
    node.self += value;
  }
  const open = [root];
  while (open.length) {
    const node = open.pop();
    node.children = [...node.children.values()].sort((a, b) => b.value - a.value || a.frame - b.frame);
    node.depth = node.parent ? node.parent.depth + 1 : 0;
    open.push(...node.children);
  }
  return root;
}

class Flame {
  constructor() {
    Object.assign(this, { process: -1, inverted: false, pattern: null, told: null });
    this.canvas = el('div', { class: 'flame', tabindex: '0', role: 'application', 'aria-label': 'Flamegraph. Arrow keys move, Enter zooms, Escape zooms out.' });
    this.details = el('p', { class: 'details', 'aria-live': 'polite' });
    this.matched = el('span', { class: 'matched', id: 'matched', role: 'status' });
    this.canvas.addEventListener('click', (event) => this.clicked(event));
    this.canvas.addEventListener('pointermove', (event) => { const node = this.nodeOf(event); if (node) this.describe(node); });
    this.canvas.addEventListener('pointerleave', () => this.describe(this.focus || this.zoomed));
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    this.search = el('input', { type: 'search', id: 'flame-search', placeholder: 'search: text or /regex/', 'aria-label': 'Search the flamegraph',
      oninput: () => this.find(this.search.value), onkeydown: (event) => { if (event.key === 'Escape') { this.search.value = ''; this.find(''); } } });
    this.out = el('button', { type: 'button', id: 'flame-out', onclick: () => this.zoom(this.root) }, 'Zoom out');
  }

  show(view) { this.view = view; this.rebuild(); }

  rebuild() {
    this.root = flameTree(this.view, this.process, this.inverted);
    this.zoomed = this.root;
    this.focus = null;
    this.draw();
  }

  name(node) { return node.frame < 0 ? 'all' : frameText(FRAMES[node.frame]); }

  draw() {
    const width = this.canvas.clientWidth || 1000, parts = [], zoomed = this.zoomed;
    this.drawn = [];
    let deepest = zoomed.depth;
    const add = (node, left, size) => {
      deepest = Math.max(deepest, node.depth);
      const kind = node.frame < 0 ? 'all' : FRAMES[node.frame].kind;
      const matches = this.pattern && node.frame >= 0 && this.pattern.test(this.name(node));
      const part = el('div', { class: `f k${kind}${matches ? ' match' : ''}${node === this.focus ? ' focus' : ''}${node.depth < zoomed.depth ? ' above' : ''}` },
        size * width > 28 ? this.name(node) : '');
      part.dataset.at = this.drawn.push(node) - 1;
      const { style } = part;
      style.left = `${left * 100}%`;
      style.width = `calc(${size * 100}% - ${size * width > 4 ? 1 : 0}px)`;
      style.top = `${node.depth * ROW}px`;
      parts.push(part);
    };
    for (let node = zoomed.parent; node; node = node.parent) add(node, 0, 1);
    const open = [[zoomed, 0, 1]];
    while (open.length) {
      const [node, left, size] = open.pop();
      add(node, left, size);
      let at = left;
      for (const child of node.children) {
        const part = node.value ? size * child.value / node.value : 0;
        if (part * width >= LEAST_PIXELS) open.push([child, at, part]);
        at += part;
      }
    }
    this.canvas.classList.toggle('searching', Boolean(this.pattern));
    this.canvas.style.height = `${(deepest + 1) * ROW + 2}px`;
    this.canvas.replaceChildren(...parts);
    this.out.disabled = zoomed === this.root;
    this.describe(this.focus || zoomed);
  }

  // Of each path the outermost match counts, so that nothing counts twice.
  find(text) {
    this.pattern = pattern(text);
    if (this.pattern) {
      let sum = 0, found = 0;
      const open = [this.root];
      while (open.length) {
        const node = open.pop();
        if (node.frame >= 0 && this.pattern.test(this.name(node))) { sum += node.value; found += 1; } else open.push(...node.children);
      }
      const said = found ? `${amount(sum, this.view.is_space)}, ${share(sum, this.root.value)} in matching paths` : 'nothing matches';
      this.matched.textContent = said;
    } else this.matched.textContent = text ? 'not a regular expression' : '';
    this.draw();
  }

  searchFor(text) { this.search.value = text; this.zoomed = this.root; this.find(text); }

  zoom(node) { this.zoomed = node; this.focus = null; this.draw(); }

  nodeOf(event) { const part = event.target.closest('.f'); return part ? this.drawn[Number(part.dataset.at)] : null; }

  clicked(event) { const node = this.nodeOf(event); if (node) this.zoom(node); }

  describe(node) {
    const value = (of) => amount(of, this.view.is_space);
    const kind = node.frame < 0 ? null : FRAMES[node.frame].kind;
    const own = node.self && node.children.length ? `, of it ${value(node.self)} ${this.inverted ? 'by no further caller' : 'by itself'}` : '';
    this.details.replaceChildren(...(kind === null ? [] : [dot(kind)]), el('b', null, this.name(node)), ` ${value(node.value)}, ${share(node.value, this.root.value)}${own}`,
      kind === null ? '' : el('span', { class: 'muted' }, ` ${KINDS[kind]}`));
  }

  key(event) {
    const at = this.focus || this.zoomed;
    const beside = (step) => { const list = at.parent ? at.parent.children : [at]; return list[list.indexOf(at) + step]; };
    const next = { ArrowDown: () => at.children[0], ArrowUp: () => at.parent, ArrowLeft: () => beside(-1), ArrowRight: () => beside(1) }[event.key];
    if (next) {
      event.preventDefault();
      const node = next();
      if (node) { this.focus = node; if (node.depth < this.zoomed.depth) this.zoomed = node; this.draw(); }
    } else if (event.key === 'Enter') this.zoom(at);
    else if (event.key === 'Escape') this.zoom(this.root);
  }
}

// A text as it stands, or /regex/; null for nothing, or for what is no regular expression.
function pattern(text) {
  if (!text) return null;
  const regex = /^\/(.+)\/$/.exec(text);
  try {
    return new RegExp(regex ? regex[1] : text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
  } catch (error) {
    return null;
  }
}
