# SPDX-License-Identifier: Apache-2.0
"""The look of the report: one page that needs nothing but itself, for light and dark screens, wide and narrow."""

from __future__ import annotations

from string import Template

__all__ = ["PAGE", "RESOLUTION"]

RESOLUTION = 200  # of pictures, in dots per inch

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1c2128; --muted: #59636e; --line: #d9dee4;
  --clean: #0072b2; --protected: #b84f00; --random: #66707a; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --card: #161b22; --ink: #e6edf3; --muted: #9aa4af;
  --line: #2d343d; --clean: #56b4e9; --protected: #ff8c42; --random: #9aa4af; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55; overflow-wrap: break-word;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.1rem); line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .6rem; }
p { margin: 0 0 .75rem; }
.meta, footer, .note, figcaption { color: var(--muted); font-size: .92rem; }
.verdict { font-size: 1.08rem; background: var(--card); border: 1px solid var(--line); border-left: 4px solid
  var(--protected); border-radius: 8px; padding: 1rem 1.2rem; margin: 1.5rem 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 0;
  padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.tiles strong { display: block; font-size: 2rem; line-height: 1.15; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: .92rem; }
.clean { color: var(--clean); } .protected { color: var(--protected); } .random { color: var(--random); }
.scroll.wide { width: max-content; min-width: 100%; max-width: min(76rem, 100vw - 3.5rem); margin-left: 50%;
  transform: translateX(-50%); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .5rem .7rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; white-space: normal; vertical-align: bottom;
  color: var(--muted); font-weight: 600; font-size: .85rem; }
th[scope=row], th[scope=rowgroup], thead th:first-child, td.words, th.words { text-align: left; }
tbody th { font-weight: 600; }
.victims tbody td { border-top-color: transparent; } .victims tbody tr.first > * { border-top-color: var(--line); }
th[scope=rowgroup] { vertical-align: top; } .victims td.words { font-weight: 600; }
td.failed { color: var(--muted); font-style: italic; }
details { margin: 0 0 .6rem; } details > .scroll, details > dl { margin-top: .4rem; }
summary { cursor: pointer; padding: .35rem 0; font-weight: 600; } .scroll + details { margin-top: .6rem; }
pre { margin: 0 0 .4rem; padding: .5rem .7rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
code { user-select: all; font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
ul.note { margin: .6rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.figures th { font-weight: 600; } .figures td:last-child { white-space: normal; text-align: left; min-width: 17rem;
  color: var(--muted); }
figure { margin: 0 0 1.75rem; }
.frames { display: flex; flex-wrap: wrap; gap: .75rem; align-items: flex-start; }
.frame { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; flex: 1 1 100%;
  max-width: 100%; }
.frame img { display: block; width: 100%; min-width: 34rem; height: auto; }
.frame.chart { padding: .6rem; flex: 0 1 auto; } .frame.chart img { max-width: 100%; }
.frames.one .frame.chart { flex: 1 1 100%; } .frames.one .chart img { margin: 0 auto; }
figcaption, .scroll + .note, details + .note { margin-top: .6rem; }
dl { display: grid; grid-template-columns: minmax(8rem, 17rem) minmax(0, 1fr); gap: .4rem 1.25rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) {
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .6rem; }
  .tiles { grid-template-columns: 1fr; } .tiles li { display: flex; align-items: baseline; gap: .9rem; }
  .tiles strong { flex: 0 0 4.6rem; white-space: nowrap; }
  table { font-size: .84rem; } th, td { padding: .4rem .45rem; }
  th[scope=rowgroup], th[scope=row], td.words { white-space: normal; overflow-wrap: normal; min-width: 4.4rem; }
  .scroll.wide { width: auto; max-width: 100%; margin-left: 0; transform: none; }
  .figures, .figures tbody { display: block; } .figures thead { display: none; }
  .figures tr { display: grid; grid-template-columns: 1fr auto; }
  .figures tr + tr { border-top: 1px solid var(--line); }
  .figures th, .figures td { border: 0; } .figures td:last-child { grid-column: 1 / -1; min-width: 0; padding-top: 0; }
}
ul.limits { padding-left: 1.2rem; margin: 0; } ul.limits li { margin-bottom: .45rem; }
footer { margin-top: 3rem; padding-bottom: 2.5rem; }
@media print { body { background: none; } .scroll { overflow: visible; } }
"""

PAGE = Template(f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="meta">$meta</p>
</header>
<main>
$lead
$content
</main>
<footer>Written by monai_unlearnable $version from $source.</footer>
</body>
</html>
""")
