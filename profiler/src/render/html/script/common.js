// What all parts of the page use: elements, numbers for people, the data. Texts become text nodes, never markup.
'use strict';

const DATA = JSON.parse(document.getElementById('data').textContent);
const KINDS = ['own code', 'package', 'standard library', 'native code', 'no code'];
const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function bytes(value) {
  const size = Math.abs(value), sign = value < 0 ? '−' : '';
  if (size < 1024) return `${sign}${Math.round(size)} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let number = size / 1024, unit = 0;
  while (number >= 1023.95 && unit + 1 < units.length) { number /= 1024; unit += 1; }
  return `${sign}${number.toFixed(1)} ${units[unit]}`;
}

const change = (from, to) => (to >= from ? '+' : '') + bytes(to - from);
const count = (value) => Math.round(value).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ',');
const amount = (value, isSpace) => (isSpace ? bytes(value) : count(value));
const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? '' : noun.endsWith('s') ? 'es' : 's'}`;

function share(part, whole) {
  if (!whole) return '–';
  const percent = part * 100 / whole;
  if (part === 0) return '0.0 %';
  if (percent < 0.05) return '<0.1 %';
  if (part < whole && percent >= 99.95) return '>99.9 %';
  return `${percent.toFixed(1)} %`;
}

function time(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}

// The frames: kind, name, place.
const TEXTS = DATA.paths.texts;
const FRAMES = DATA.paths.frames.map(([kind, name, place]) => ({ kind, name: TEXTS[name], place: TEXTS[place] }));
const frameText = (frame) => (frame.place ? `${frame.name} (${frame.place})` : frame.name);

function processName(number) {
  const process = DATA.processes[number];
  return process ? `${process.pid} ${process.name}` : 'other processes';
}

const dot = (kind) => (kind === null ? null : el('span', { class: `dot k${kind}`, title: KINDS[kind] }));

const sections = [];
function section(id, title, ...children) {
  const node = el('section', { id, 'aria-labelledby': `${id}-title` }, el('h2', { id: `${id}-title` }, title), ...children);
  sections.push({ id, title });
  document.getElementById('main').append(node);
  return node;
}

// So many lines of a table are shown at first.
const LINES = 20;

// A table that sorts by a click on a column's head. A column: title, value (to sort by), show (to see), text (left).
function table(columns, rows, options) {
  const settings = options || {};
  const body = el('tbody');
  let sorted = settings.sorted === undefined ? -1 : settings.sorted, down = true, all = rows.length <= LINES + 5;
  const heads = columns.map((column, index) => {
    const button = el('button', { type: 'button', onclick: () => {
      down = sorted === index ? !down : !column.text;
      sorted = index;
      draw();
    } }, column.title);
    return el('th', { scope: 'col', class: column.text ? 'text' : 'number', title: column.hint || null },
      settings.plain ? column.title : button);
  });
  function draw() {
    heads.forEach((head, index) => head.setAttribute('aria-sort', index !== sorted ? 'none' : down ? 'descending' : 'ascending'));
    const order = rows.slice();
    if (sorted >= 0 && !settings.plain) {
      const value = columns[sorted].value;
      order.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        const compared = typeof a === 'string' ? a.localeCompare(b) : a - b;
        return down ? -compared : compared;
      });
    }
    const shown = all ? order : order.slice(0, LINES);
    body.replaceChildren(...shown.flatMap((row) => settings.row ? settings.row(row, cells(row)) : [el('tr', null, cells(row))]));
    more.hidden = shown.length === order.length;
  }
  const more = el('button', { type: 'button', class: 'all', onclick: () => { all = true; draw(); } }, `Show all ${rows.length}`);
  const cells = (row) => columns.map((column) => el('td', { class: column.text ? 'text' : 'number' },
    column.show ? column.show(row) : column.value(row)));
  draw();
  return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': settings.label || 'table' },
    el('table', { class: settings.class || null }, el('thead', null, el('tr', null, heads)), body), more);
}
