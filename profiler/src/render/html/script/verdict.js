// What the diagnosis concluded: before everything else.

function finding(found) {
  const list = (name, lines) => lines.length && [el('dt', null, name), el('dd', null, lines.map((line) => el('p', null, line)))];
  return [found.title ? el('h3', null, found.title) : '', found.sentence ? el('p', null, found.sentence) : '',
    el('dl', { class: 'verdict' }, list('seen', found.seen) || '', list('next', found.next) || '', list('not', found.not) || '', list('surer by', found.surer) || '')];
}

function verdict() {
  const { verdict: said } = DATA;
  if (!said) return;
  const sure = said.confidence ? ` (confidence: ${said.confidence})` : '';
  section('verdict', 'Verdict',
    el('p', { class: said.is_trouble ? 'said trouble' : 'said' }, el('span', { class: 'fact-value' }, said.pattern), sure),
    el('div', { class: 'lead' }, el('p', null, said.headline), said.culprit ? el('p', null, said.culprit) : ''),
    said.findings.map(finding),
    el('details', null, el('summary', null, 'The five questions'),
      said.answers.map(([question, lines], index) => [el('h4', null, `${index + 1}. ${question}`), el('ul', { class: 'sentences' }, lines.map((line) => el('li', null, line)))])));
}
