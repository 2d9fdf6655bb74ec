// The page, from top to bottom.

function card(name, value, note, trouble) {
  return el('div', { class: trouble ? 'fact trouble' : 'fact' }, el('div', { class: 'fact-name' }, name), el('div', { class: 'fact-value' }, value),
    note ? el('div', { class: 'fact-note' }, note) : null);
}

function summary() {
  const { summary: sum } = DATA;
  const start = new Date(DATA.started_unix_ms);
  const when = Number.isNaN(start.getTime()) ? '' : `${start.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  section('summary', 'Summary',
    ...DATA.left_out.map((note) => el('p', { class: 'filter' }, `Filter: ${note}.`)),
    el('div', { class: 'lead' }, DATA.headline.map((line) => el('p', null, line))),
    el('div', { class: 'facts' },
      card('RSS', bytes(sum.rss_end), `${change(sum.rss_start, sum.rss_end)} since the start`),
      sum.without_heap ? card('heap', 'not probed', 'resident ledger alone') : card('surviving', bytes(sum.surviving), 'heap: allocated during the trace, live at the end'),
      sum.without_heap ? null : card('allocated', bytes(sum.allocated), counted(sum.allocations, 'block')),
      card('processes', count(sum.processes), sum.counted < sum.processes ? `${count(sum.counted)} count at the end` : null),
      card('trace', time(DATA.duration_ms), when),
      card('lost', sum.lost ? count(sum.lost) : 'nothing', sum.lost ? 'events; see Quality' : 'no event was dropped', sum.lost > 0)),
    rssChange());
}

function rssChange() {
  const found = DATA.rss_change;
  if (!found) return '';
  const rows = found.rows.filter(([, start, end]) => start || end);
  const most = Math.max(1, ...rows.map(([, start, end]) => Math.abs(end - start)));
  const line = ([name, start, end], strong) => {
    const filled = el('i', { class: end < start ? 'less' : '' });
    filled.style.width = `${Math.abs(end - start) * 50 / most}%`;
    filled.style.left = end < start ? `${50 - Math.abs(end - start) * 50 / most}%` : '50%';
    return el('tr', { class: strong ? 'sum' : null }, el('td', { class: 'text' }, name), el('td', { class: 'number' }, bytes(start)),
      el('td', { class: 'number' }, bytes(end)), el('td', { class: 'number' }, change(start, end)),
      el('td', { class: 'wide' }, strong ? '' : el('span', { class: 'balance' }, filled)));
  };
  const heads = ['', 'at start', 'at end', 'change', ''].map((title, index) => el('th', { scope: 'col', class: index ? 'number' : 'text' }, title));
  return [el('h3', null, 'What made RSS change'),
    el('div', { class: 'scroll' }, el('table', { class: 'plain' }, el('thead', null, el('tr', null, heads)),
      el('tbody', null, rows.map((row) => line(row)), line(['RSS', ...found.rss], true)))),
    el('ul', { class: 'sentences' }, found.sentences.map((text) => el('li', null, text)),
      found.unshared.length ? el('li', null, `Shared since a fork, copied because a process wrote to it: ${found.unshared.map(([cause, space]) => `${bytes(space)} ${cause}`).join(', ')}.`) : null)];
}

// A low chart of rates, with its legend; nothing where there was nothing.
function flow(range, label, all) {
  const lines = all.filter((line) => line.points.some((point) => point[1] > 0));
  if (!lines.length) return '';
  const chart = new Chart(range, 120, (value) => `${bytes(value)}/s`, label);
  chart.lines = lines;
  const key = (line) => el('span', null, el('span', { class: `key c${line.colour}` }), `${line.name} per second`);
  return [el('div', { class: 'tools small' }, lines.map(key)), chart.node];
}

function memory() {
  const { sum, lines } = DATA.memory;
  if (!sum.at_ms.length) return;
  const range = new Range(Math.max(DATA.duration_ms, sum.at_ms[sum.at_ms.length - 1]));
  const main = new Chart(range, 260, bytes, 'Memory over time');
  const several = lines.length > 1;
  const shown = lines.slice(0, COLOURS - 2);
  const all = [
    { name: several ? 'RSS, all' : 'RSS', points: zipped(sum.at_ms, sum.rss), colour: 0, wide: true },
    { name: several ? 'live blocks, all' : 'live blocks', points: zipped(sum.at_ms, sum.live), colour: 1, wide: true },
    ...(several ? shown.map((line, index) => ({ name: `RSS ${processName(line.process)}`, points: zipped(line.at_ms, line.rss), colour: index + 2 })) : []),
  ].filter((line) => line.points.some((point) => point[1] > 0));
  // Charts of their own: what is allocated is mostly far more than what is received.
  const { traffic } = DATA;
  const flows = [
    flow(range, 'Allocation over time', [{ name: 'allocated', points: rate(sum.at_ms, sum.allocated), colour: 1 }]),
    traffic && flow(range, 'Traffic over time', [
      { name: 'received', points: rate(traffic.at_ms, traffic.received), colour: 4 },
      { name: 'sent', points: rate(traffic.at_ms, traffic.sent), colour: 5 },
    ]),
  ];
  const hidden = new Set();
  const keys = all.map((line) => el('button', { type: 'button', class: 'key-button', 'aria-pressed': 'true', onclick: (event) => {
    const button = event.currentTarget;
    if (!hidden.delete(line)) hidden.add(line);
    button.setAttribute('aria-pressed', String(!hidden.has(line)));
    main.lines = all.filter((one) => !hidden.has(one));
    range.draw();
  } }, el('span', { class: `key c${line.colour}` }), line.name));
  main.lines = all;
  const window = el('span', { class: 'muted', id: 'window', role: 'status' });
  const out = el('button', { type: 'button', id: 'time-out', onclick: () => range.reset() }, 'Whole trace');
  range.told = () => {
    const whole = range.from === 0 && range.to === range.end;
    out.disabled = whole;
    window.textContent = whole ? 'drag to zoom' : `${time(range.from)} to ${time(range.to)}: --since ${Math.floor(range.from)}ms --until ${Math.ceil(range.to)}ms`;
  };
  section('memory', 'Memory over time', el('div', { class: 'tools' }, keys),
    main.node, flows,
    el('div', { class: 'tools' }, out, el('button', { type: 'button', onclick: () => range.by(0.5) }, 'Zoom in'), window),
    lines.length > shown.length && several ? el('p', { class: 'note' }, `Lines of the ${shown.length} processes with the most RSS; the sum is of all.`) : '');
  range.draw();
  addEventListener('resize', () => range.draw());
  addEventListener('beforeprint', () => range.draw());
}

function processes() {
  if (!DATA.processes.length) return;
  const { rest } = DATA;
  const notes = [...new Set(DATA.processes.flatMap((process) => process.notes))];
  section('processes', 'Processes', processTable(),
    rest ? el('p', { class: 'note' }, `And ${counted(rest.processes, 'more process')}: RSS +${bytes(rest.rss_growth)}, ${bytes(rest.surviving)} surviving, ${bytes(rest.allocated)} allocated.`) : '',
    DATA.processes.some((process) => !process.counted) ? el('p', { class: 'note' }, 'In brackets: live in a process when it ended; it went with the process and is in no sum of surviving bytes.') : '',
    notes.length ? el('ul', { class: 'sentences' }, notes.slice(0, 12).map((note) => el('li', null, note))) : '');
}

function code() {
  if (!DATA.views.length) return;
  const flame = new Flame(), tables = el('div');
  const choice = el('select', { id: 'view' }, DATA.views.map((view, index) => el('option', { value: index }, `${view.ledger}: ${view.words} (${view.value})`)));
  const numbers = [...new Set(DATA.views.flatMap((view) => view.flame.rows.filter((_, index) => index % 3 === 0)))].sort((a, b) => a - b);
  const who = el('select', { id: 'process' }, el('option', { value: -1 }, 'all processes'), numbers.map((number) => el('option', { value: number }, processName(number))));
  const inverted = el('input', { type: 'checkbox', id: 'inverted' });
  const folded = el('p', { class: 'note' });
  const show = () => {
    const view = DATA.views[Number(choice.value)];
    flame.process = Number(who.value);
    flame.inverted = inverted.checked;
    flame.show(view);
    if (flame.search.value) flame.find(flame.search.value);
    folded.textContent = view.flame.folded ? `${amount(view.flame.folded, view.is_space)} (${share(view.flame.folded, view.flame.total)}) in call paths too small to be seen are drawn as part of their callers.` : '';
    tables.replaceChildren(...pathTable(view, flame));
  };
  [choice, who, inverted].forEach((input) => input.addEventListener('change', show));
  const legend = el('div', { class: 'tools small' }, KINDS.map((name, kind) => el('span', null, dot(kind), name)));
  section('flamegraph', 'Flamegraph',
    el('div', { class: 'tools' }, el('label', null, 'Show ', choice), numbers.length > 1 ? el('label', null, 'of ', who) : '',
      el('label', null, inverted, ' inverted'), flame.search, flame.out, flame.matched),
    legend, flame.canvas, flame.details, folded);
  section('paths', 'Call paths', tables);
  show();
  addEventListener('resize', () => flame.draw());
  addEventListener('beforeprint', () => flame.draw());
  addEventListener('keydown', (event) => {
    if (event.key === '/' && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); flame.search.focus(); }
  });
}

function quality() {
  section('quality', 'Quality of this trace',
    DATA.losses.length ? table([
      { title: 'kind', text: true, value: (loss) => loss.class },
      { title: 'events', value: (loss) => loss.value, show: (loss) => count(loss.value) },
      { title: 'what it means', text: true, value: (loss) => loss.meaning },
    ], DATA.losses, { label: 'Losses', class: 'wrap' }) : el('p', null, 'Nothing was dropped, unmatched, truncated or unknown.'),
    el('dl', null, DATA.trace.concat(DATA.quality.filter((line) => line.length === 2)).flatMap(([name, text]) => [el('dt', null, name), el('dd', null, text)])));
}

verdict();
summary();
memory();
processes();
code();
if (DATA.payloads.length) section('payloads', 'Payloads', payloadTable(), el('p', { class: 'note' }, 'The places with the biggest single blocks and bursts.'));
if (DATA.looks.length) section('objects', 'Objects by type', ...DATA.looks.flatMap(objectTables));
quality();
document.getElementById('nav').append(...sections.map(({ id, title }) => el('a', { href: `#${id}` }, title)));
document.documentElement.dataset.ready = 'yes';
