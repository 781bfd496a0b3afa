"""Charts of a run as SVG text: pure functions, no file, no font, no browser.

What other rooms use:

- `records`: `Attempt` and `Series`, what is drawn.
- `timeline.timeline(attempts)`: the Gantt chart, with how many ran at once below it.
- `profiles.profiles(series)`: CPU, memory and GPU over the life of the jobs of each requirement class, against the request.
- `profiles.totals(series, capacity)`: what all jobs together used over the run, against what they had asked for.
- `spreads.spreads(attempts)`: how memory, runtime and CPU of each class spread against the request.
- `efficiency.efficiency(attempts)`: the figures of a run, in words.
- `page.STYLE`, `page.SCRIPT`, `page.page(...)`: what a page needs once to show any of them, light and dark; `page.picture(...)`:
  one SVG file out of several charts.

Each chart is one `<svg>` element whose colours are classes, so that a page decides about light and dark.
"""
