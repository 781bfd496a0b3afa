(() => {
  const unfolded = [];
  addEventListener('beforeprint', () => document.querySelectorAll('details:not([open])').forEach(d => { d.open = true; unfolded.push(d); }));
  addEventListener('afterprint', () => { while (unfolded.length) unfolded.pop().open = false; });
  const table = document.querySelector('table.attempts');
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], filter = document.getElementById('filter');
  filter.addEventListener('input', () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const row of rows) row.hidden = wanted !== '' && !row.textContent.toLowerCase().includes(wanted);
  });
  const value = cell => cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  table.querySelectorAll('th').forEach((head, at) => {
    const button = Object.assign(document.createElement('button'), {textContent: head.textContent, title: 'sort by this'});
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      rows.sort((a, b) => {
        const x = value(a.cells[at]), y = value(b.cells[at]);
        return (down ? -1 : 1) * (typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true}));
      });
      body.append(...rows);
    });
  });
})();
