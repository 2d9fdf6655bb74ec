// The tables: processes, call paths, payloads, objects, quality.

const muted = (text) => el('span', { class: 'muted' }, text);
const orNone = (value) => (value ? bytes(value) : muted('–'));

function processTable() {
  const columns = [
    { title: 'process', text: true, value: (p) => p.pid, show: (p) => {
      const name = el('span', { class: 'process', title: p.command }, el('b', null, p.pid), ` ${p.name}`,
        p.container_pid ? muted(` (${p.container_pid} in its container)`) : '', p.grew ? el('span', { class: 'tag' }, 'grew') : '');
      name.style.paddingLeft = `${Math.min(p.depth, 6) * 1.1}em`;
      return name;
    } },
    { title: 'RSS at start', value: (p) => p.rss_start, show: (p) => bytes(p.rss_start) },
    { title: 'at end', value: (p) => p.rss_end, show: (p) => bytes(p.rss_end) },
    { title: 'change', value: (p) => p.rss_end - p.rss_start, show: (p) => change(p.rss_start, p.rss_end) },
    { title: 'peak', value: (p) => p.rss_peak, show: (p) => bytes(p.rss_peak) },
    { title: 'PSS', hint: 'proportional set size: shared pages divided among their users', value: (p) => p.pss, show: (p) => orNone(p.pss) },
    { title: 'USS', hint: 'unique set size: pages of this process alone', value: (p) => p.uss, show: (p) => orNone(p.uss) },
    { title: 'surviving', hint: 'heap bytes allocated during the trace and live at the end', value: (p) => (p.counted ? p.surviving : 0),
      show: (p) => (p.counted ? bytes(p.surviving) : muted(`(${bytes(p.surviving)})`)) },
    { title: 'allocated', value: (p) => p.allocated, show: (p) => bytes(p.allocated) },
    { title: 'state', text: true, value: (p) => p.state },
  ];
  return table(columns, DATA.processes, { label: 'Processes' });
}

// A call path, from the code that allocates to its outermost caller.
function pathList(frames) {
  return el('ol', { class: 'path' }, frames.map((number) => {
    const frame = FRAMES[number];
    return el('li', null, dot(frame.kind), el('span', { class: `name n${frame.kind}` }, frame.name), ' ', muted(frame.place));
  }));
}

// A row that opens to show more below it.
function opening(cells, width, more) {
  const below = el('tr', { class: 'more', hidden: true }, el('td', { colspan: width }));
  const toggle = () => {
    below.hidden = !below.hidden;
    row.setAttribute('aria-expanded', String(!below.hidden));
    if (!below.firstChild.firstChild) below.firstChild.append(...more());
  };
  const row = el('tr', { class: 'opens', tabindex: '0', 'aria-expanded': 'false', onclick: toggle,
    onkeydown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); toggle(); } } }, cells);
  return [row, below];
}

function bar(part, whole) {
  const filled = el('i');
  filled.style.width = `${whole ? Math.max(1, part * 100 / whole) : 0}%`;
  return el('span', { class: 'bar-box', title: share(part, whole) }, filled);
}

function pathTable(view, flame) {
  const total = view.flame.total, several = DATA.processes.length > 1;
  const columns = [
    { title: view.is_space ? 'bytes' : 'objects', value: (g) => g.value, show: (g) => amount(g.value, view.is_space) },
    { title: 'share', value: (g) => g.value, show: (g) => [bar(g.value, total), el('span', { class: 'percent' }, share(g.value, total))] },
    { title: 'line of code', text: true, value: (g) => g.code, show: (g) => [dot(g.kind), el('span', { class: `name n${g.kind}` }, g.code)] },
    { title: 'objects', value: (g) => g.objects, show: (g) => (g.objects ? count(g.objects) : muted('–')) },
    { title: 'paths', value: (g) => g.paths, show: (g) => count(g.paths) },
  ];
  if (several) columns.push({ title: 'most in', text: true, value: (g) => (g.processes.length ? g.processes[0][1] : 0), show: (g) =>
    (g.processes.length ? [processName(g.processes[0][0]), g.processes.length > 1 ? muted(` +${g.processes.length - 1}`) : ''] : '') });
  if (view.top.some((g) => g.over_time.length)) {
    columns.push({ title: 'over time', value: (g) => (g.over_time.length ? g.over_time[g.over_time.length - 1] - g.over_time[0] : 0),
      hint: 'blocks of the C allocator, of the biggest call paths; sorts by growth', show: (g) => sparkline(g.over_time, view.is_space) });
  }
  const more = (g) => [
    el('p', null, g.paths > 1 ? `Heaviest of ${counted(g.paths, 'path')}, from the code that allocates to its callers:` : 'From the code that allocates to its callers:'),
    pathList(g.frames),
    several && g.processes.length ? el('p', null, 'By process: ', g.processes.map(([number, value]) =>
      `${processName(number)} ${amount(value, view.is_space)}`).join(', ')) : '',
    el('button', { type: 'button', onclick: () => { flame.searchFor(g.code.split(' ').pop()); document.getElementById('flamegraph').scrollIntoView(); } }, 'Find in the flamegraph'),
  ];
  const shown = view.top.length < view.groups ? `The ${count(view.top.length)} biggest of ${count(view.groups)} lines of code. ` : '';
  return [table(columns, view.top, { label: 'Call paths', sorted: 0, class: 'paths', row: (g, cells) => opening(cells, columns.length, () => more(g)) }),
    el('p', { class: 'note' }, `${shown}A line stands for all call paths whose innermost line of own code it is. Open a row for its heaviest path.`)];
}

function payloadTable() {
  const columns = [
    { title: 'largest block', value: (p) => p.largest, show: (p) => bytes(p.largest) },
    { title: 'live at once', hint: 'at least: the peak of its largest call path, or what survived', value: (p) => p.burst, show: (p) => bytes(p.burst) },
    { title: 'bytes a call', value: (p) => p.per_call, show: (p) => bytes(p.per_call) },
    { title: 'calls', value: (p) => p.calls, show: (p) => count(p.calls) },
    { title: 'allocated', value: (p) => p.allocated, show: (p) => bytes(p.allocated) },
    { title: 'surviving', value: (p) => p.surviving, show: (p) => bytes(p.surviving) },
    { title: 'what it does', text: true, value: (p) => p.label || '', show: (p) => p.label || muted('not recognized') },
    { title: 'line of code', text: true, value: (p) => p.code, show: (p) => [dot(p.kind), el('span', { class: `name n${p.kind}` }, p.code)] },
  ];
  return table(columns, DATA.payloads, { label: 'Payloads', row: (p, cells) => opening(cells, columns.length, () => [pathList(p.frames)]) });
}

const signed = (value) => (value === 0 ? muted('0 B') : change(0, value));

function objectTables(look) {
  const parts = [el('h3', null, `${processName(look.process)}: ${counted(look.objects, 'object')} at ${time(look.at_ms)}${look.partial ? ', not all were seen' : ''}`)];
  const add = (title, columns, rows) => {
    if (rows.length) parts.push(el('h4', null, title), table(columns, rows, { label: title }));
  };
  add('Types', [
    { title: 'type', text: true, value: (r) => r[0] },
    { title: 'objects', value: (r) => r[1], show: (r) => count(r[1]) },
    { title: 'bytes', value: (r) => r[2], show: (r) => bytes(r[2]) },
    { title: 'more objects', hint: 'than at the first look', value: (r) => r[3], show: (r) => (r[3] > 0 ? '+' : '') + count(r[3]) },
    { title: 'more bytes', hint: 'than at the first look', value: (r) => r[4], show: (r) => signed(r[4]) },
  ], look.types);
  add('Containers', [
    { title: 'held by', text: true, value: (r) => r.owner, show: (r) => r.owner || muted('not found') },
    { title: 'type', text: true, value: (r) => r.type_name, show: (r) => r.type_name || r.kind },
    { title: 'elements', value: (r) => r.length, show: (r) => count(r.length) },
    { title: 'bound', value: (r) => (r.bound === null ? Infinity : r.bound), show: (r) => (r.bound === null ? muted('none') : count(r.bound)) },
    { title: 'bytes with elements', value: (r) => r.space, show: (r) => bytes(r.space) },
    { title: 'more bytes', hint: 'than at the first look', value: (r) => r.more, show: (r) => signed(r.more) },
  ], look.containers);
  add('Caches (functools)', [
    { title: 'function', text: true, value: (r) => r[0] },
    { title: 'entries', value: (r) => r[1], show: (r) => count(r[1]) },
    { title: 'at most', value: (r) => (r[2] === null ? Infinity : r[2]), show: (r) => (r[2] === null ? muted('no bound') : count(r[2])) },
    { title: 'hits', value: (r) => r[3], show: (r) => count(r[3]) },
    { title: 'misses', value: (r) => r[4], show: (r) => count(r[4]) },
    { title: 'bytes', value: (r) => r[5], show: (r) => bytes(r[5]) },
  ], look.caches);
  add('Who keeps them', [
    { title: 'type', text: true, value: (r) => r[0] },
    { title: 'kept by', text: true, value: (r) => r[1] },
    { title: 'objects', value: (r) => r[2], show: (r) => count(r[2]) },
    { title: 'bytes', value: (r) => r[3], show: (r) => bytes(r[3]) },
  ], look.retainers);
  return parts;
}
