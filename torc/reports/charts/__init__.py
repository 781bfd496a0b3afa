"""Charts of a run as SVG text: pure functions that need no files, fonts or browser.

For use by other packages:

- `records`: `ChartedAttempt` and `Series`, the data of charts.
- `timeline.timeline(attempts)`: the Gantt chart, with the number of concurrent attempts below it.
- `profiles.profiles(series)`: CPU, memory and GPU over the life of the jobs of each requirement class, compared with the request.
- `profiles.totals(series, capacity)`: what all jobs together used over the run, compared with their requests.
- `distributions.spreads(attempts)`: the distribution of memory, runtime and CPU use of each class relative to the request.
- `efficiency.efficiency(attempts)`: the figures of a run, in words.
- `page.STYLE`, `page.SCRIPT`, `page.page(...)`: included once in a page that shows any of them, light or dark; `page.picture(...)`:
  one SVG file out of several charts.

Each chart is one `<svg>` element whose colors are CSS classes, so that the page chooses between light and dark.
"""
