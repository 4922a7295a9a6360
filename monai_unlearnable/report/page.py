# SPDX-License-Identifier: Apache-2.0
"""The look of the report: one page that needs nothing but itself, for light and dark screens, wide and narrow."""

from __future__ import annotations

from string import Template

__all__ = ["PAGE"]

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
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .5rem .8rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--muted); font-weight: 600; font-size: .85rem; }
th:first-child, td.words, th.words { text-align: left; }
tbody th { font-weight: 600; }
td.words { font-weight: 600; }
.figures th { font-weight: 600; } .figures td:last-child { white-space: normal; text-align: left; min-width: 17rem;
  color: var(--muted); }
figure { margin: 0 0 1.75rem; }
figure .frame { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
figure .chart { padding: .75rem; }
figure img { display: block; width: 100%; min-width: 34rem; height: auto; }
figure .chart img { min-width: 18rem; max-width: 44rem; margin: 0 auto; }
figcaption, .scroll + .note { margin-top: .6rem; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .4rem 1.25rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; }
  .tiles { grid-template-columns: 1fr; } .tiles li { display: flex; align-items: baseline; gap: .9rem; }
  .tiles strong { flex: 0 0 4.6rem; white-space: nowrap; }
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
<p class="meta">Method $method, dataset $dataset</p>
</header>
<main>
<p class="verdict">$verdict</p>
$tiles
<section>
<h2>What models learn</h2>
$victims
</section>
<section>
<h2>How close the protected scans are to the originals</h2>
$figures
</section>
<section>
<h2>Pictures</h2>
$pictures
</section>
<section>
<h2>Settings</h2>
$settings
</section>
<section>
<h2>What this does not show</h2>
$limits
</section>
</main>
<footer>Written by monai_unlearnable $version from results.json, which holds every figure.</footer>
</body>
</html>
""")
